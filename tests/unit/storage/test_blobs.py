"""The real blobs: what a disk can do to them, and what is not cancelled."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Digest
from nora.oci.errors import NoSpace
from nora.storage import DiskBlobs, Layout
from tests.support.storage_fakes import FullDisk, ImmediateDisk, MemoryIndex, SteppedDisk, temporary_folder

DATA = b"some content"
DIGEST = Digest.of(DATA)
LARGE = os.urandom(100_000)


class DiskBlobsTests(SynchronousTestCase):
    """On a real folder."""

    def setUp(self) -> None:
        self.layout = Layout(temporary_folder(self))
        self.layout.prepare()
        self.index = MemoryIndex()
        self.blobs = self.on(ImmediateDisk())
        self.path = self.layout.blob(DIGEST)

    def on(self, disk: ImmediateDisk | SteppedDisk | FullDisk) -> DiskBlobs:
        return DiskBlobs(self.layout, disk, self.index)

    def add(self, data: bytes = DATA) -> None:
        self.successResultOf(self.blobs.add(data, Digest.of(data)))

    def replace(self, data: bytes) -> None:
        os.unlink(self.path)
        with open(self.path, "wb") as file:
            file.write(data)

    def assert_miss(self, size: int | None = len(DATA)) -> None:
        self.assertIsNone(self.successResultOf(self.blobs.open(DIGEST, size)))

    def assert_quarantined(self) -> None:
        self.assertFalse(os.path.lexists(self.path))
        self.assertTrue(os.path.lexists(self.layout.quarantine(DIGEST)))
        self.assertEqual(self.index.sizes, {})

    def test_read_only(self) -> None:
        """A published file can be written by nobody, however it was published."""
        self.add()
        self.assertEqual(os.stat(self.path).st_mode & 0o222, 0)
        other = Digest.of(LARGE)
        with open(self.layout.part(other), "wb") as file:
            file.write(LARGE)
        self.successResultOf(self.blobs.publish(self.layout.part(other), other))
        self.assertEqual(os.stat(self.layout.blob(other)).st_mode & 0o777, 0o444)
        self.assertEqual(os.listdir(self.layout.tmp), [])

    def test_publishing_keeps_the_inode(self) -> None:
        """Followers of a part go on reading the same file when it is published."""
        part = self.layout.part(DIGEST)
        with open(part, "wb") as file:
            file.write(DATA)
        inode = os.stat(part).st_ino
        self.successResultOf(self.blobs.publish(part, DIGEST))
        self.assertEqual(os.stat(self.path).st_ino, inode)

    def test_truncated(self) -> None:
        """A truncated blob goes to quarantine, bytes and all, and is a miss."""
        self.add()
        self.replace(DATA[:5])
        self.assert_miss()
        self.assert_quarantined()
        with open(self.layout.quarantine(DIGEST), "rb") as file:
            self.assertEqual(file.read(), DATA[:5])

    def test_not_a_regular_file(self) -> None:
        """A link, a pipe or a folder in the place of a blob is never read, and goes to quarantine."""
        for make in (lambda p: os.symlink("/etc/passwd", p), os.mkfifo, os.mkdir):
            self.add()
            os.unlink(self.path)
            make(self.path)
            self.assertIsNone(self.blobs.size(DIGEST))
            self.assert_miss(None)
            self.assert_quarantined()
            aside = self.layout.quarantine(DIGEST)
            (os.rmdir if os.path.isdir(aside) and not os.path.islink(aside) else os.unlink)(aside)

    def test_damaged_blob_is_replaced(self) -> None:
        """Publishing over something that is not the blob sets that aside, and the blob is whole."""
        for publish in (True, False):
            self.add()
            self.replace(b"short")
            if publish:
                with open(self.layout.part(DIGEST), "wb") as file:
                    file.write(DATA)
                self.successResultOf(self.blobs.publish(self.layout.part(DIGEST), DIGEST))
            else:
                self.add()
            self.assertEqual(self.successResultOf(self.blobs.read(DIGEST, 100)), DATA)
            with open(self.layout.quarantine(DIGEST), "rb") as file:
                self.assertEqual(file.read(), b"short")

    def test_quarantine_that_fails(self) -> None:
        """On a disk that lets nothing be moved a damaged blob is a miss all the same, and is still counted."""
        self.add()
        self.replace(b"short")

        def read_only(source: str, target: str) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        self.patch(os, "rename", read_only)
        self.assert_miss()
        self.assertEqual(self.index.sizes, {DIGEST: len(DATA)})

    def test_one_quarantine_for_all(self) -> None:
        """Those who find a damaged blob at once move it once; a blob published by then is not moved."""
        self.add()
        self.replace(b"short")
        disk = SteppedDisk()
        blobs = self.on(disk)
        found = [Deferred.fromCoroutine(blobs.open(DIGEST, len(DATA))) for _ in range(3)]
        self.assertEqual(len(disk.waiting), 1)
        found[0].cancel()
        self.failureResultOf(found[0], CancelledError)
        os.rename(self.path, self.layout.temporary())
        self.add()
        disk.drain()
        self.assertEqual([self.successResultOf(each) for each in found[1:]], [None, None])
        self.assertEqual(self.successResultOf(self.blobs.read(DIGEST, 100)), DATA)
        self.assertEqual(self.index.sizes, {DIGEST: len(DATA)})

    def test_errors_of_the_disk_are_raised(self) -> None:
        """A blob that cannot be opened is not taken for a missing one, and is not moved."""
        self.add()

        def fails(path: str, flags: int) -> int:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        patch = self.patch(os, "open", fails)
        error = self.failureResultOf(self.blobs.open(DIGEST, len(DATA)), OSError)
        patch.restore()
        self.assertEqual(error.value.errno, errno.EMFILE)
        self.assertEqual(self.successResultOf(self.blobs.read(DIGEST, 100)), DATA)

    def test_no_space(self) -> None:
        """On a full disk nothing is published, nothing is counted, and no temporary file is left."""

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        part = self.layout.part(DIGEST)
        with open(part, "wb") as file:
            file.write(DATA)
        self.patch(os, "fsync", full)
        self.failureResultOf(self.blobs.add(DATA, DIGEST), NoSpace)
        self.failureResultOf(self.blobs.publish(part, DIGEST), NoSpace)
        self.failureResultOf(self.on(FullDisk()).add(DATA, DIGEST), NoSpace)
        self.assertEqual(
            (os.listdir(self.layout.tmp), self.blobs.size(DIGEST), self.index.sizes), ([], None, {})
        )

    def test_cancelled_publishing_goes_on(self) -> None:
        """Who stops waiting for a publication does not part the file from the index."""
        disk = SteppedDisk()
        blobs = self.on(disk)
        adding = Deferred.fromCoroutine(blobs.add(DATA, DIGEST))
        idle = blobs.idle()
        adding.cancel()
        self.failureResultOf(adding, CancelledError)
        self.assertNoResult(idle)
        disk.drain()
        self.successResultOf(idle)
        self.assertEqual((self.blobs.size(DIGEST), self.index.sizes), (len(DATA), {DIGEST: len(DATA)}))

    def test_removal_is_told_once(self) -> None:
        """The index hears of a removal that took place, and of no other."""
        self.add()
        os.unlink(self.path)
        self.assertFalse(self.successResultOf(self.blobs.remove(DIGEST)))
        self.assertEqual(self.index.sizes, {DIGEST: len(DATA)})

    def test_large_blobs_are_read_in_a_thread(self) -> None:
        """What takes long to read is not read on the reactor; if it went, or grew, meanwhile, it is not there."""
        self.add(LARGE)
        digest = Digest.of(LARGE)
        path = self.layout.blob(digest)
        disk = SteppedDisk()
        blobs = self.on(disk)

        def read_after(change: Callable[[], object]) -> bytes | None:
            reading = Deferred.fromCoroutine(blobs.read(digest, len(LARGE)))
            self.assertNoResult(reading)
            change()
            disk.drain()
            data: bytes | None = self.successResultOf(reading)
            return data

        self.assertEqual(read_after(lambda: None), LARGE)
        self.assertIsNone(read_after(lambda: os.truncate(path, len(LARGE) + 1)))
        os.truncate(path, len(LARGE))
        self.assertIsNone(read_after(lambda: os.unlink(path)))

    def test_shrinking_while_it_is_read(self) -> None:
        """A file that ends before its size is not handed out short."""
        self.add()
        self.patch(os, "pread", lambda descriptor, count, at: b"some" if at == 0 else b"")
        self.assertIsNone(self.successResultOf(self.blobs.read(DIGEST, 100)))

    def test_descriptors_are_closed(self) -> None:
        """No question leaves a descriptor open, whatever its answer."""
        self.add()
        self.add(LARGE)
        before = len(os.listdir("/proc/self/fd"))
        for digest, limit in ((DIGEST, 100), (DIGEST, 1), (Digest.of(LARGE), 1), (Digest.of(LARGE), 200_000)):
            self.successResultOf(self.blobs.read(digest, limit))
        self.assert_miss(1)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
