"""A file system that really is full: a small tmpfs."""

from __future__ import annotations

import os
import subprocess

from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Digest
from nora.oci.errors import NoSpace
from nora.storage import DiskBlobs, DiskRecords, Layout, StoreLock
from tests.support.storage_fakes import ImmediateDisk, MemoryIndex, temporary_folder

LARGE = os.urandom(512 * 1024)
SMALL = b"small"


class FullDiskTests(SynchronousTestCase):
    """Blobs and records on 256 KiB."""

    def setUp(self) -> None:
        if os.geteuid() != 0 and not os.environ.get("CI"):
            self.skipTest("needs root, to mount a tmpfs")
        folder = temporary_folder(self)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", folder], check=True)
        self.layout = Layout(f"{folder}/store")
        self.layout.prepare()
        self.index = MemoryIndex()
        self.blobs = DiskBlobs(self.layout, ImmediateDisk(), self.index)
        self.records = DiskRecords(self.layout, ImmediateDisk())

    def fill(self) -> str:
        path = f"{self.layout.root}/filler"
        with open(path, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                return path

    def test_too_large_for_the_disk(self) -> None:
        """A blob that does not fit leaves nothing, so that one which fits can be added after it."""
        self.failureResultOf(self.blobs.add(LARGE, Digest.of(LARGE)), NoSpace)
        self.assertEqual((os.listdir(self.layout.tmp), self.index.sizes), ([], {}))
        self.successResultOf(self.blobs.add(SMALL, Digest.of(SMALL)))

    def test_full(self) -> None:
        """A full store starts, is locked, serves what it has, refuses more, and recovers when there is space."""
        key = "names/nginx/_owner"
        self.successResultOf(self.blobs.add(SMALL, Digest.of(SMALL)))
        self.successResultOf(self.records.put(key, {"a": 1}))
        filler = self.fill()
        self.layout.prepare()
        lock = StoreLock(self.layout.daemon_lock)
        lock.acquire(0)
        self.addCleanup(lock.close)
        other = Digest.of(b"other")
        self.failureResultOf(self.blobs.add(b"other", other), NoSpace)
        self.failureResultOf(self.records.put(key, {"a": 2}), NoSpace)
        self.assertEqual(self.successResultOf(self.blobs.read(Digest.of(SMALL), 100)), SMALL)
        record = self.successResultOf(self.records.get(key))
        assert record is not None
        self.assertEqual(record.value, {"a": 1})
        self.assertEqual(os.listdir(self.layout.tmp), [])
        os.unlink(filler)
        self.successResultOf(self.blobs.add(b"other", other))
        self.successResultOf(self.records.put(key, {"a": 2}))
