"""One transfer: counted, timed, paused, ended once."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.oci.errors import Broken
from nora.upstream.incoming import Transfer
from nora.upstream.interfaces import Incoming
from tests.support.fake_response import FakeResponse

TIMEOUT = 30.0


class TransferTests(SynchronousTestCase):
    """A body that the test plays, and a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.response = FakeResponse()
        self.got: list[bytes] = []
        self.counts: list[int] = []

    def transfer(self, size: int | None = 10, start: int = 0) -> Transfer:
        response: Any = self.response
        transfer = Transfer(
            response, size, start, clock=self.clock, read_timeout=TIMEOUT, received=self.counts.append
        )
        incoming: Incoming = transfer
        self.assertEqual((incoming.size, incoming.start), (size, start))
        return transfer

    def begun(self, size: int | None = 10, start: int = 0) -> tuple[Transfer, Deferred[None]]:
        transfer = self.transfer(size, start)
        return transfer, transfer.deliver(self.got.append)

    def assert_over(self, *, closed: bool) -> None:
        """Nothing is left behind; the connection was closed or not."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.response.transport.stopped, closed)

    def test_whole(self) -> None:
        """All bytes, then the end."""
        _, done = self.begun()
        self.response.send(b"01234")
        self.response.send(b"56789")
        self.assertNoResult(done)
        self.response.finish()
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual((self.got, self.counts), ([b"01234", b"56789"], [5, 5]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_from_the_middle(self) -> None:
        """From `start` only the rest is due."""
        _, done = self.begun(10, 7)
        self.response.send(b"789")
        self.response.finish()
        self.successResultOf(done)

    def test_unknown_size(self) -> None:
        """Without a size only an end that the protocol vouches for is a success."""
        _, done = self.begun(None)
        self.response.send(b"anything")
        self.response.finish()
        self.successResultOf(done)

    def test_unknown_size_and_end(self) -> None:
        """Without a size the connection's end proves nothing."""
        _, done = self.begun(None)
        self.response.send(b"anything")
        self.response.close()
        self.failureResultOf(done, Broken)

    def test_too_few(self) -> None:
        """A clean end before the last byte is broken, and so is a cut; the message says what is missing."""
        for end in ("finish", "close", "cut"):
            self.setUp()
            _, done = self.begun()
            self.response.send(b"012")
            getattr(self.response, end)()
            self.assertIn("7 of 10 bytes missing", self.failureResultOf(done, Broken).value.message)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_many(self) -> None:
        """Bytes past the size end it, and are not handed on."""
        _, done = self.begun()
        self.response.send(b"01234")
        self.response.send(b"567890")
        self.failureResultOf(done, Broken)
        self.assertEqual(self.got, [b"01234"])
        self.assert_over(closed=True)
        self.response.send(b"more")
        self.response.cut()
        self.assertEqual(self.got, [b"01234"])

    def test_silence(self) -> None:
        """Silence is broken once it lasted; every byte starts it anew."""
        _, done = self.begun()
        for _ in range(5):
            self.clock.advance(TIMEOUT - 1)
            self.response.send(b"x")
        self.clock.pump([1] * int(TIMEOUT - 1))
        self.assertNoResult(done)
        self.clock.advance(1)
        self.assertIn("30 s", self.failureResultOf(done, Broken).value.message)
        self.assert_over(closed=True)

    def test_pause_is_no_silence(self) -> None:
        """While the reader has paused, the transport is, and time stands still."""
        transfer, done = self.begun()
        transfer.pause()
        transfer.pause()
        self.assertTrue(self.response.transport.paused)
        self.clock.advance(100 * TIMEOUT)
        transfer.resume()
        transfer.resume()
        self.assertFalse(self.response.transport.paused)
        self.clock.advance(TIMEOUT - 1)
        self.assertNoResult(done)
        self.clock.advance(1)
        self.failureResultOf(done, Broken)

    def test_end_while_paused(self) -> None:
        """What was on its way when the reader paused still counts, the end too."""
        transfer, done = self.begun()
        transfer.pause()
        self.response.send(b"0123456789")
        self.response.finish()
        self.successResultOf(done)
        transfer.resume()
        transfer.pause()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_paused_before_it_began(self) -> None:
        """A transfer paused before `deliver` begins paused."""
        transfer = self.transfer()
        transfer.pause()
        done = transfer.deliver(self.got.append)
        self.assertTrue(self.response.transport.paused)
        transfer.resume()
        self.assertFalse(self.response.transport.paused)
        transfer.abort()
        self.failureResultOf(done, Broken)

    def test_abort(self) -> None:
        """Aborting closes the connection and fails the Deferred, once."""
        transfer, done = self.begun()
        self.response.send(b"01")
        transfer.abort()
        transfer.abort()
        self.failureResultOf(done, Broken)
        self.assert_over(closed=True)
        self.response.cut()

    def test_abort_after_the_end(self) -> None:
        """After the end there is nothing to abort."""
        transfer, done = self.begun(1)
        self.response.send(b"0")
        self.response.finish()
        transfer.abort()
        self.assertIsNone(self.successResultOf(done))

    def test_abort_before_it_began(self) -> None:
        """A transfer given up before `deliver` drops its body; a later `deliver` only fails."""
        transfer = self.transfer()
        transfer.abort()
        self.assert_over(closed=True)
        self.failureResultOf(transfer.deliver(self.got.append), Broken)

    def test_forgotten(self) -> None:
        """A transfer that nobody ever takes does not keep its connection."""
        self.transfer()
        self.clock.advance(TIMEOUT)
        self.assert_over(closed=True)

    def test_cancel(self) -> None:
        """Cancelling `deliver`'s Deferred aborts, and is seen as cancellation."""
        _, done = self.begun()
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assert_over(closed=True)
        self.response.cut()

    def test_sink_that_raises(self) -> None:
        """What the sink raises ends the transfer and reaches the caller."""

        def sink(_: bytes) -> None:
            raise ZeroDivisionError

        done = self.transfer().deliver(sink)
        self.response.send(b"0")
        self.failureResultOf(done, ZeroDivisionError)
        self.assert_over(closed=True)

    def test_sink_that_aborts(self) -> None:
        """A sink may abort, and hears nothing more."""
        transfer = self.transfer()

        def sink(chunk: bytes) -> None:
            self.got.append(chunk)
            transfer.abort()

        done = transfer.deliver(sink)
        self.response.send(b"0")
        self.response.send(b"1")
        self.failureResultOf(done, Broken)
        self.assertEqual(self.got, [b"0"])

    def test_delivered_once(self) -> None:
        """A second `deliver` is a mistake."""
        transfer, done = self.begun()
        with self.assertRaises(RuntimeError):
            transfer.deliver(self.got.append)
        transfer.abort()
        self.failureResultOf(done, Broken)
