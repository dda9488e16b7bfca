"""What every reader of content promises, whole or growing: tests for whoever makes one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from nora.oci.errors import Broken, Unverified
from nora.pull.interfaces import Content, Reader
from tests.support.pulling import MIB

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object

DATA = b"".join(i.to_bytes(4, "big") for i in range(3 * MIB // 8))
SIZE = len(DATA)
SMALL = DATA[:1000]


def descriptors() -> int:
    """Count this process's open descriptors."""
    return len(os.listdir("/proc/self/fd"))


class ReadersContract(_Base):
    """What both suites need."""

    def reader(self, content: Content, start: int = 0, stop: int | None = None) -> Reader:
        """Give a reader, closed at the end."""
        end = content.size if stop is None else stop
        reader: Reader = self.successResultOf(Deferred.fromCoroutine(content.reader(start, end)))
        self.addCleanup(reader.close)
        return reader

    def reading(self, reader: Reader, limit: int = SIZE) -> Deferred[bytes]:
        """Begin to read."""
        return Deferred.fromCoroutine(reader.read(limit))

    def rest(self, reader: Reader, limit: int = SIZE) -> bytes:
        """Read to the end; all of it must be there."""
        data = b""
        while reader.position < reader.stop:
            piece: bytes = self.successResultOf(self.reading(reader, limit))
            self.assertTrue(0 < len(piece) <= limit)
            data += piece
        return data

    def send(self, reader: Reader, count: int) -> bytes:
        """Take `count` bytes as `sendfile` does."""
        assert reader.descriptor is not None
        data = os.pread(reader.descriptor, count, reader.position)
        reader.advance(len(data))
        return data


class WholeContract(ReadersContract):
    """The suite for a content whose bytes are all there, verified. `data` is what it holds."""

    data = DATA
    kind: type[Any]
    """The class of its readers."""

    def make(self) -> Content:
        """Make one, closed at the end."""
        raise NotImplementedError

    def test_kind(self) -> None:
        """The suite tests what it says."""
        self.assertIsInstance(self.reader(self.make()), self.kind)

    def test_ready(self) -> None:
        """All is ready at once, from the first byte of the range to its last."""
        content = self.make()
        self.assertEqual(content.size, len(self.data))
        self.successResultOf(content.verified())
        reader = self.reader(content, 10, 500)
        self.assertEqual((reader.position, reader.stop, reader.ready()), (10, 500, 490))
        self.successResultOf(reader.more())

    def test_reading(self) -> None:
        """`read` gives at most its limit, at least a byte, and advances; together it is the range."""
        content = self.make()
        self.assertEqual(self.rest(self.reader(content), 300_000), self.data)
        reader = self.reader(content, 100, 900)
        self.assertEqual(self.successResultOf(self.reading(reader, 7)), self.data[100:107])
        self.assertEqual((reader.position, reader.ready()), (107, 793))
        self.assertEqual(self.rest(reader), self.data[107:900])
        self.assertEqual(self.rest(self.reader(content, len(self.data) - 1)), self.data[-1:])

    def test_sending(self) -> None:
        """Where there is a descriptor it holds the bytes at their offsets, and may be mixed with `read`."""
        reader = self.reader(self.make(), 5, 500)
        if reader.descriptor is None:
            reader.advance(100)
        else:
            self.assertEqual(self.send(reader, 100), self.data[5:105])
        self.assertEqual((reader.position, reader.ready()), (105, 395))
        self.assertEqual(self.rest(reader), self.data[105:500])

    def test_at_its_end(self) -> None:
        """An empty range, and one that is read, have nothing more, and nobody waits there."""
        content = self.make()
        for reader in (
            self.reader(content, 7, 7),
            self.reader(content, 0, 3),
            self.reader(content, content.size),
        ):
            self.rest(reader)
            self.assertEqual((reader.position, reader.ready()), (reader.stop, 0))
            self.successResultOf(reader.more())
            self.assertEqual(self.successResultOf(self.reading(reader)), b"")

    def test_independent(self) -> None:
        """Readers share nothing, and one that is closed takes nothing from another."""
        content = self.make()
        one, two = self.reader(content), self.reader(content)
        self.successResultOf(self.reading(one, 500))
        self.assertEqual((one.position, two.position), (500, 0))
        one.close()
        self.assertEqual(self.rest(two), self.data)

    def test_outlives_its_content(self) -> None:
        """A reader stays valid when its content is closed; closing twice is nothing; no descriptor is left."""
        before = descriptors()
        content = self.make()
        reader = self.reader(content)
        content.close()
        content.close()
        self.assertEqual(self.rest(reader), self.data)
        reader.close()
        reader.close()
        self.assertEqual(descriptors(), before)


class GrowingContract(ReadersContract):
    """The suite for a content that grows while it is read."""

    waits_for_verification = True
    """`verified` waits; where nothing is stored it does not, and each reader verifies for itself."""

    def make(self, *, corrupt: bool = False) -> Content:
        """Make one of `DATA` of which nothing is there yet; `corrupt`: its last byte will be another."""
        raise NotImplementedError

    def grow(self, offset: int) -> None:
        """Let the bytes before `offset` be there."""
        raise NotImplementedError

    def finish(self) -> None:
        """Let all of it be there; it is then verified, or found to be wrong."""
        raise NotImplementedError

    def break_off(self) -> None:
        """Let no more come, for good."""
        raise NotImplementedError

    def test_waits_for_bytes(self) -> None:
        """Nothing is ready before it is there; whoever waits hears of it."""
        reader = self.reader(self.make(), 0, 5000)
        waiting = reader.more()
        self.assertEqual(reader.ready(), 0)
        self.assertNoResult(waiting)
        self.grow(1000)
        self.successResultOf(waiting)
        self.assertEqual(reader.ready(), 1000)
        self.assertEqual(self.successResultOf(self.reading(reader)), DATA[:1000])
        reading = self.reading(reader)
        self.assertNoResult(reading)
        self.grow(1010)
        self.assertEqual(self.successResultOf(reading), DATA[1000:1010])

    def test_waiters_are_the_callers_own(self) -> None:
        """One who gives up waiting takes nothing from others, not even from others of the same reader."""
        reader = self.reader(self.make(), 0, 5000)
        left, waiting = reader.more(), reader.more()
        left.addErrback(lambda _: None)
        left.cancel()
        self.assertNoResult(waiting)
        self.grow(1)
        self.successResultOf(waiting)

    def test_range_is_kept(self) -> None:
        """No more is ready than was asked for, however much is there."""
        reader = self.reader(self.make(), 100, 200)
        waiting = reader.more()
        self.grow(150)
        self.successResultOf(waiting)
        self.assertEqual(self.successResultOf(self.reading(reader)), DATA[100:150])
        waiting = reader.more()
        self.grow(5000)
        self.successResultOf(waiting)
        self.assertEqual(reader.ready(), 50)
        self.assertEqual(self.rest(reader), DATA[150:200])
        self.assertEqual(self.successResultOf(self.reading(reader)), b"")

    def test_empty_range(self) -> None:
        """Nobody waits for the bytes of an empty range."""
        reader = self.reader(self.make(), 100, 100)
        self.assertEqual(reader.ready(), 0)
        self.successResultOf(reader.more())
        self.assertEqual(self.successResultOf(self.reading(reader)), b"")

    def test_last_byte(self) -> None:
        """The last byte is held back until the whole is verified; no other byte is."""
        content = self.make()
        whole, part = self.reader(content), self.reader(content, 0, SIZE - 1)
        waiting = [whole.more(), part.more()]
        self.grow(SIZE - 1)
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual(self.rest(part), DATA[:-1])
        got = b""
        while whole.ready():
            got += self.successResultOf(self.reading(whole))
        self.assertEqual(got, DATA[:-1])
        last = self.reading(whole)
        self.assertNoResult(last)
        self.finish()
        self.assertEqual(self.successResultOf(last), DATA[-1:])

    def test_verified(self) -> None:
        """`verified` waits for the verification; each who waits has a Deferred of its own."""
        content = self.make()
        left, waiting = content.verified(), content.verified()
        if self.waits_for_verification:
            left.addErrback(lambda _: None)
            left.cancel()
            self.assertNoResult(waiting)
            self.grow(SIZE - 1)
            self.assertNoResult(waiting)
            self.finish()
        self.successResultOf(waiting)
        self.successResultOf(content.verified())

    def test_wrong_bytes(self) -> None:
        """Bytes that do not verify never look whole: who waits for the last one, or for the whole, hears why."""
        content = self.make(corrupt=True)
        reader = self.reader(content)
        verified = content.verified()
        waiting = reader.more()
        self.grow(1000)
        self.successResultOf(waiting)
        got = self.successResultOf(self.reading(reader))
        reading = self.collect(reader)
        self.finish()
        self.failureResultOf(reading, Unverified)
        self.assertLess(reader.position, reader.stop)
        self.assertEqual(got, DATA[:1000])
        if self.waits_for_verification:
            self.failureResultOf(verified, Unverified)

    def collect(self, reader: Reader) -> Deferred[None]:
        """Read to the end, however long it takes."""

        async def read() -> None:
            while reader.position < reader.stop:
                await reader.read(SIZE)

        return Deferred.fromCoroutine(read())

    def test_broken_off(self) -> None:
        """When no more will come, all who wait are told so, and all who ask later."""
        content = self.make()
        reader = self.reader(content)
        waiting = reader.more()
        self.grow(1000)
        self.successResultOf(waiting)
        self.successResultOf(self.reading(reader))
        waiting, reading, verified = reader.more(), self.reading(reader), content.verified()
        self.break_off()
        for failed in (waiting, reading, reader.more()):
            self.failureResultOf(failed, Broken)
        if self.waits_for_verification:
            self.failureResultOf(verified, Broken)
            self.failureResultOf(content.verified(), Broken)

    def test_one_leaves(self) -> None:
        """A reader that is closed under way ends nothing for the others."""
        content = self.make()
        leaver, stayer = self.reader(content), self.reader(content)
        waiting = [leaver.more(), stayer.more()]
        self.grow(1000)
        for each in waiting:
            self.successResultOf(each)
        leaver.close()
        leaver.close()
        content.close()
        reading = self.collect(stayer)
        self.finish()
        self.successResultOf(reading)
