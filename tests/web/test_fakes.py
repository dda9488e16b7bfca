"""The fakes of `nora.pull`, held to what its interfaces promise."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import os

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from nora.oci.errors import Broken
from tests.support.pull_fakes import FakeContent


class ContentTests(SynchronousTestCase):
    """`FakeContent` and `FakeReader`."""

    def test_reading(self) -> None:
        """`read` gives up to its limit and advances; a descriptor holds the same bytes at the same offsets."""
        content = FakeContent(b"0123456789")
        reader = self.successResultOf(Deferred.fromCoroutine(content.reader(2, 9)))
        self.assertEqual(reader.ready(), 7)
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(reader.read(3))), b"234")
        assert reader.descriptor is not None
        self.assertEqual(os.pread(reader.descriptor, 2, reader.position), b"56")
        reader.advance(2)
        self.assertEqual((reader.position, reader.ready()), (7, 2))
        reader.close()
        reader.close()

    def test_the_last_byte_waits(self) -> None:
        """The last byte is held back until the whole is verified, and waiters are the callers' own."""
        content = FakeContent(b"0123456789", available=4)
        reader = self.successResultOf(Deferred.fromCoroutine(content.reader(0, 10)))
        self.addCleanup(reader.close)
        content.grow(100)
        self.assertEqual(reader.ready(), 9)
        reader.advance(9)
        left, waiting, verified = reader.more(), reader.more(), content.verified()
        left.addErrback(lambda _: None)
        left.cancel()
        self.assertNoResult(waiting)
        self.assertNoResult(verified)
        content.verify()
        self.successResultOf(waiting)
        self.successResultOf(verified)
        self.assertEqual(reader.ready(), 1)

    def test_breaking(self) -> None:
        """All that wait fail, and so does all that comes later."""
        content = FakeContent(b"0123456789", available=0)
        reader = self.successResultOf(Deferred.fromCoroutine(content.reader(0, 10)))
        self.addCleanup(reader.close)
        reading = Deferred.fromCoroutine(reader.read(1))
        waiting = reader.more()
        content.break_off(Broken("x"))
        for failed in (reading, waiting, reader.more(), content.verified()):
            self.failureResultOf(failed, Broken)
