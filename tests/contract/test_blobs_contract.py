"""What every `Blobs` promises, told to the real one and to the fake."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Digest
from nora.storage import DiskBlobs, Layout
from nora.storage.interfaces import Blobs, File
from tests.support.storage_fakes import ImmediateDisk, MemoryBlobs, MemoryIndex, temporary_folder

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object

DATA = b"some content"
DIGEST = Digest.of(DATA)
LARGE = os.urandom(200_000)


class BlobsContract(_Base):
    """The suite. `spool` names a file on the store's file system that is not there."""

    blobs: Blobs
    index: MemoryIndex
    spool: str

    def opened(self, digest: Digest, size: int | None = None) -> File:
        file: File | None = self.successResultOf(self.blobs.open(digest, size))
        assert file is not None
        self.addCleanup(file.close)
        return file

    def add(self, data: bytes = DATA, algorithm: str = "sha256") -> Digest:
        digest = Digest.of(data, algorithm)
        self.successResultOf(self.blobs.add(data, digest))
        return digest

    def test_absent(self) -> None:
        """A blob that is not there is None to every question."""
        self.assertIsNone(self.successResultOf(self.blobs.open(DIGEST)))
        self.assertIsNone(self.successResultOf(self.blobs.open(DIGEST, 12)))
        self.assertIsNone(self.successResultOf(self.blobs.read(DIGEST, 100)))
        self.assertIsNone(self.blobs.size(DIGEST))
        self.assertFalse(self.successResultOf(self.blobs.remove(DIGEST)))

    def test_added(self) -> None:
        """An added blob can be opened and read, and the index knows it, under either algorithm."""
        for algorithm in ("sha256", "sha512"):
            for data in (DATA, LARGE, b""):
                digest = self.add(data, algorithm)
                self.assertEqual(self.blobs.size(digest), len(data))
                file = self.opened(digest, len(data))
                self.assertEqual((file.size, os.pread(file.descriptor, 300_000, 0)), (len(data), data))
                self.assertEqual(self.successResultOf(self.blobs.read(digest, len(data))), data)
                self.assertEqual(self.index.sizes[digest], len(data))

    def test_added_twice(self) -> None:
        """Adding what is there already changes nothing."""
        self.add()
        self.add()
        self.assertEqual(self.successResultOf(self.blobs.read(DIGEST, 100)), DATA)
        self.assertEqual(self.index.sizes, {DIGEST: len(DATA)})

    def test_published(self) -> None:
        """A published file is the blob, and its old name is gone."""
        with open(self.spool, "wb") as file:
            file.write(DATA)
        self.successResultOf(self.blobs.publish(self.spool, DIGEST))
        self.assertEqual(self.successResultOf(self.blobs.read(DIGEST, 100)), DATA)
        self.assertEqual(self.index.sizes, {DIGEST: len(DATA)})
        self.assertFalse(os.path.exists(self.spool))

    def test_published_twice(self) -> None:
        """Publishing what is there already only removes the file."""
        self.add()
        self.test_published()

    def test_published_from_nowhere(self) -> None:
        """Publishing a file that is not there fails, and publishes nothing."""
        self.failureResultOf(self.blobs.publish(self.spool, DIGEST), FileNotFoundError)
        self.assertIsNone(self.blobs.size(DIGEST))
        self.assertEqual(self.index.sizes, {})

    def test_read_is_bounded(self) -> None:
        """A blob larger than the limit is not read."""
        for data in (DATA, LARGE):
            digest = self.add(data)
            self.assertIsNone(self.successResultOf(self.blobs.read(digest, len(data) - 1)))

    def test_removed(self) -> None:
        """A removed blob is gone, and the index knows it."""
        self.add()
        self.assertTrue(self.successResultOf(self.blobs.remove(DIGEST)))
        self.assertIsNone(self.successResultOf(self.blobs.open(DIGEST)))
        self.assertEqual(self.index.sizes, {})

    def test_open_file_outlives_the_blob(self) -> None:
        """Who has a blob open can read it after its removal."""
        self.add()
        file = self.opened(DIGEST)
        self.successResultOf(self.blobs.remove(DIGEST))
        self.assertEqual(os.pread(file.descriptor, 100, 0), DATA)

    def test_wrong_size_is_a_miss(self) -> None:
        """A blob of another size than the recorded one is a miss, for everybody, until it is added again."""
        self.add()
        self.assertIsNone(self.successResultOf(self.blobs.open(DIGEST, len(DATA) + 1)))
        self.assertIsNone(self.successResultOf(self.blobs.open(DIGEST)))
        self.assertIsNone(self.blobs.size(DIGEST))
        self.assertEqual(self.index.sizes, {})
        self.add()
        self.opened(DIGEST, len(DATA))

    def test_open_now(self) -> None:
        """It is opened at once where it is of that size; where it is not, nothing changes."""
        self.assertIsNone(self.blobs.open_now(DIGEST, len(DATA)))
        self.add()
        self.assertIsNone(self.blobs.open_now(DIGEST, len(DATA) + 1))
        file = self.blobs.open_now(DIGEST, len(DATA))
        assert file is not None
        self.addCleanup(file.close)
        self.assertEqual((file.size, os.pread(file.descriptor, 2 * len(DATA), 0)), (len(DATA), DATA))
        self.assertEqual(self.index.sizes, {DIGEST: len(DATA)})

    def test_close_twice(self) -> None:
        """Closing a file again does not close the descriptor that has its number by then."""
        self.add()
        file = self.opened(DIGEST)
        descriptor = file.descriptor
        file.close()
        taken = os.open("/dev/null", os.O_RDONLY)
        self.addCleanup(os.close, taken)
        self.assertEqual(taken, descriptor)
        file.close()
        os.fstat(taken)


class DiskBlobsTests(BlobsContract, SynchronousTestCase):
    """The real blobs."""

    def setUp(self) -> None:
        layout = Layout(temporary_folder(self))
        layout.prepare()
        self.spool = layout.part(DIGEST)
        self.index = MemoryIndex()
        self.blobs = DiskBlobs(layout, ImmediateDisk(), self.index)


class MemoryBlobsTests(BlobsContract, SynchronousTestCase):
    """The fake."""

    def setUp(self) -> None:
        self.spool = os.path.join(temporary_folder(self), "spool")
        self.index = MemoryIndex()
        self.blobs = MemoryBlobs(self.index)
