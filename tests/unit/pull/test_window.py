"""Readers of files that are not in memory: nothing waits on the reactor, and little is brought too early."""

from __future__ import annotations

import os
import random
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from nora.oci.errors import Broken
from nora.pull.readers import FileReader
from nora.pull.window import WINDOW
from tests.support.cold_disk import ColdDisk
from tests.support.storage_fakes import ImmediateDisk, temporary_folder

MIB = 1024 * 1024
DATA = random.Random(3).randbytes(11 * MIB + 5)


class WindowTests(SynchronousTestCase):
    """A `FileReader` on a disk that is played."""

    def setUp(self) -> None:
        """Have a file, and nothing of it in memory."""
        self.path = Path(temporary_folder(self)) / "blob"
        self.path.write_bytes(DATA)
        self.disk = ColdDisk()
        self.reader = self.open(self.disk)

    def open(self, disk: ColdDisk | ImmediateDisk, start: int = 0) -> FileReader:
        """Open the file."""
        reader = FileReader(os.open(self.path, os.O_RDONLY), start, len(DATA), disk)
        self.addCleanup(reader.close)
        return reader

    def test_cold(self) -> None:
        """Nothing is ready until the disk brought it; then a window is, and the next is begun half way through."""
        self.assertEqual(self.reader.ready(), 0)
        waiting = self.reader.more()
        self.assertEqual(self.reader.ready(), 0)
        self.assertNoResult(waiting)
        self.assertEqual([each[1:] for each in self.disk.bringing], [(0, WINDOW)])
        self.disk.step()
        self.successResultOf(waiting)
        self.assertEqual(self.reader.ready(), WINDOW)
        self.reader.advance(WINDOW // 2)
        self.assertEqual((self.reader.ready(), len(self.disk.bringing)), (WINDOW // 2, 0))
        self.reader.advance(1)
        self.assertEqual(self.reader.ready(), WINDOW // 2 - 1)
        self.assertEqual([each[1:] for each in self.disk.bringing], [(WINDOW, 2 * WINDOW)])
        self.successResultOf(self.reader.more())

    def test_wanted(self) -> None:
        """Memory is looked at as far as is wanted, and a little further; what is missing is brought as ever."""
        self.disk.brought.append((0, 2 * WINDOW))
        self.assertEqual(self.reader.ready(WINDOW), WINDOW)
        self.assertEqual(self.reader.ready(WINDOW + 1), 2 * WINDOW)
        self.assertEqual(self.reader.ready(len(DATA)), 2 * WINDOW)
        self.assertEqual([each[1:] for each in self.disk.bringing], [(2 * WINDOW, len(DATA))])
        self.disk.step()
        self.assertEqual(self.reader.ready(len(DATA)), len(DATA))

    def test_all_of_it(self) -> None:
        """Read to its end the bytes are right, and each was brought once."""
        data = b""
        while self.reader.position < self.reader.stop:
            reading = Deferred.fromCoroutine(self.reader.read(300_000))
            if self.disk.bringing:
                self.disk.step()
            data += self.successResultOf(reading)
        self.assertTrue(data == DATA)
        self.assertEqual(self.disk.brought, [(0, WINDOW), (WINDOW, 2 * WINDOW), (2 * WINDOW, len(DATA))])

    def test_warm_again(self) -> None:
        """Where memory goes on after a gap, only the gap is waited for."""
        self.disk.brought.append((0, WINDOW))
        reader = self.open(self.disk, 100)
        self.assertEqual(reader.ready(), WINDOW - 100)
        self.assertEqual([each[1:] for each in self.disk.bringing], [(WINDOW, 2 * WINDOW)])
        self.successResultOf(reader.more())

    def test_forgetful_memory(self) -> None:
        """What was brought may go out though memory forgot it again: else nobody would get on."""
        self.reader.ready()
        self.disk.step()
        self.disk.brought.clear()
        self.assertEqual(self.reader.ready(), WINDOW)

    def test_warm(self) -> None:
        """A file that is in memory is looked at once a window, however small the turns."""
        self.disk.brought.append((0, len(DATA)))
        reader = self.open(self.disk)
        while reader.position < reader.stop:
            reader.advance(min(4096, reader.ready()))
        self.assertLessEqual(self.disk.looks, 4)
        self.assertFalse(self.disk.bringing)

    def test_broken_disk(self) -> None:
        """A disk that fails is told to who waits, in words without a path."""
        self.reader.ready()
        waiting, reading = self.reader.more(), Deferred.fromCoroutine(self.reader.read(10))
        self.disk.step(OSError(5, "I/O error", str(self.path)))
        for each in (waiting, reading):
            self.assertEqual(str(self.failureResultOf(each, Broken).value), "the store could not be read")

    def test_closing(self) -> None:
        """Closing gives up what is being brought, and whoever waits is told; what comes then changes nothing."""
        self.reader.ready()
        waiting = self.reader.more()
        self.reader.close()
        self.failureResultOf(waiting, Broken)
        self.assertTrue(self.disk.bringing[0][0].called)
        self.disk.step()
        self.assertEqual(self.reader.ready(), 0)

    def test_waiters(self) -> None:
        """One who gives up waiting takes nothing from another."""
        self.reader.ready()
        one, two = self.reader.more(), self.reader.more()
        one.addErrback(lambda _: None)
        one.cancel()
        self.disk.step()
        self.successResultOf(two)

    def test_unreadable(self) -> None:
        """A descriptor that cannot be read is a broken store, not a defect."""
        reader = FileReader(os.open(self.path.parent, os.O_RDONLY), 0, 5, ImmediateDisk())
        self.addCleanup(reader.close)
        self.failureResultOf(Deferred.fromCoroutine(reader.read(5)), Broken)
