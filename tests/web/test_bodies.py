"""`send` by itself, where no client's connection shows enough."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import HTTPChannel, Request

from nora.web.bodies import CHUNK, ClientLost, Stalled, send
from nora.web.turns import Turns
from tests.support.pull_fakes import FakeContent, FakeReader


class Transport(StringTransport):
    """A transport that is full when it is told so."""

    full = False
    producer: Any

    def write(self, data: bytes) -> None:
        """Take bytes, and pause the producer when full."""
        super().write(data)
        if self.full and self.producer is not None:
            self.producer.pauseProducing()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Take bytes as `write` does."""
        self.write(b"".join(iovec))

    def abortConnection(self) -> None:
        """Do nothing more than to be asked."""
        self.disconnecting = True


class CopyingTests(SynchronousTestCase):
    """Copying, on a transport and a clock of the test's own."""

    def setUp(self) -> None:
        self.transport = Transport()
        self.channel: Any = HTTPChannel()
        self.channel.timeOut = None
        self.channel.requestFactory = Held
        self.channel.makeConnection(self.transport)
        self.channel.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.request: Any = self.channel.requests[0]
        self.clock = Clock()

    def reader(self, content: FakeContent) -> FakeReader:
        reader = FakeReader(content, 0, content.size)
        self.addCleanup(reader.close)
        return reader

    def sent(self) -> int:
        """Tell how many bytes of body went out."""
        return len(self.transport.value().partition(b"\r\n\r\n")[2])

    def test_pausing(self) -> None:
        """A full transport stops the reading at once, and an empty one makes it go on."""
        self.request.setHeader(b"Content-Length", b"%d" % (CHUNK * 3))
        reader = self.reader(FakeContent(b"x" * CHUNK * 3))
        self.transport.full = True
        sending = send(self.request, reader, self.clock, 60, Turns())
        self.assertEqual(reader.position, 0)
        for number in (1, 2):
            self.transport.producer.resumeProducing()
            self.assertEqual((reader.position, self.sent()), (CHUNK * number, CHUNK * number))
            self.assertNoResult(sending)
        self.transport.producer.resumeProducing()
        self.assertEqual(self.successResultOf(sending), CHUNK * 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIsNone(self.request.producer)

    def test_stalled(self) -> None:
        """Where the kernel cannot be asked, being paused for the whole time is stalling."""
        reader = self.reader(FakeContent(b"x" * CHUNK * 3))
        self.transport.full = True
        sending = send(self.request, reader, self.clock, 60, Turns())
        self.clock.pump([15] * 5)
        self.failureResultOf(sending, Stalled)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelling(self) -> None:
        """A cancelled body stops reading and leaves no producer and no timer."""
        for available in (0, CHUNK):
            self.setUp()
            reader = self.reader(FakeContent(b"x" * CHUNK * 3, available=available))
            self.transport.full = bool(available)
            sending = send(self.request, reader, self.clock, 60, Turns())
            sending.cancel()
            self.failureResultOf(sending, CancelledError)
            self.assertIsNone(self.request.producer)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lost(self) -> None:
        """A lost connection ends the body, while it waits for the reader and while it waits for the client."""
        for available in (0, CHUNK):
            self.setUp()
            reader = self.reader(FakeContent(b"x" * CHUNK * 3, available=available))
            self.transport.full = bool(available)
            sending = send(self.request, reader, self.clock, 60, Turns())
            self.transport.producer.stopProducing()
            self.channel.connectionLost(Failure(ConnectionDone()))
            self.failureResultOf(sending, ClientLost)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelled_after_the_loss(self) -> None:
        """When the request has no channel any more, ending still works."""
        reader = self.reader(FakeContent(b"x" * CHUNK * 3, available=0))
        sending = send(self.request, reader, self.clock, 60, Turns())
        self.request.connectionLost(Failure(ConnectionDone()))
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        self.assertIsNone(self.request.producer)

    def test_nothing(self) -> None:
        """Nothing to send is sent: the headers go out."""
        reader = self.reader(FakeContent(b""))
        self.assertEqual(self.successResultOf(send(self.request, reader, self.clock, 60, Turns())), 0)
        self.assertTrue(self.transport.value().startswith(b"HTTP/1.1 200 OK\r\n"))


class Held(Request):
    """A request that is not answered by itself."""

    def process(self) -> None:
        """Do nothing."""
