"""Upload sessions of a store, as its workers have them, for a test."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Digest, Repository
from nora.storage.interfaces import Upload
from tests.support.pushing import Pushing, started
from tests.support.storage_fakes import temporary_folder

HERE = Repository("local", "team/app")
MIB = 1024 * 1024
DATA = b"".join(number.to_bytes(4, "big") for number in range(50_000))


class UploadsCase(SynchronousTestCase):
    """Sessions of one store, seen by two workers."""

    def setUp(self) -> None:
        self.root, self.clock = temporary_folder(self), Clock()
        self.one, self.other = self.worker(), self.worker()

    def worker(self, **options: Any) -> Pushing:
        worker = Pushing(self.root, clock=self.clock, **options)
        self.addCleanup(worker.locks.close)
        return worker

    def begin(self, user: str | None = "alice", algorithm: str = "sha256") -> Upload:
        upload: Upload = self.successResultOf(started(self.one.uploads.begin(HERE, user, algorithm)))
        return upload

    def open(self, id: str, worker: Pushing | None = None) -> Upload:
        upload = self.successResultOf(started((worker or self.one).uploads.open(id)))
        assert upload is not None, "there is no such upload"
        found: Upload = upload
        return found

    def add(self, upload: Upload, *chunks: bytes) -> None:
        self.successResultOf(upload.append(chunks))

    def digest(self, upload: Upload, algorithm: str = "sha256") -> Digest:
        digest: Digest = self.successResultOf(upload.digest(algorithm))
        return digest

    def sessions(self) -> list[str]:
        return os.listdir(self.one.layout.uploads)

    def count_reads(self) -> list[int]:
        """Note how many bytes are read from files from now on."""
        sizes: list[int] = []
        pread = os.pread

        def counted(descriptor: int, size: int, at: int) -> bytes:
            data = pread(descriptor, size, at)
            sizes.append(len(data))
            return data

        self.patch(os, "pread", counted)
        return sizes
