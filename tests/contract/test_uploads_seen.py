"""Which upload sessions are open, as every process of the store sees it."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Repository
from nora.storage.interfaces import OpenUpload, Upload
from tests.support.pushing import Pushing, started
from tests.support.storage_fakes import temporary_folder

HERE = Repository("local", "team/app")


class SeenTests(SynchronousTestCase):
    """Sessions of one store, seen by two workers."""

    def setUp(self) -> None:
        root, clock = temporary_folder(self), Clock()
        self.one, self.other = (Pushing(root, clock=clock) for _ in range(2))
        for worker in (self.one, self.other):
            self.addCleanup(worker.locks.close)

    def begin(self, user: str | None, written_at: int, *chunks: bytes) -> Upload:
        """Begin a session that was written to at that moment."""
        upload: Upload = self.successResultOf(started(self.one.uploads.begin(HERE, user)))
        self.addCleanup(upload.close)
        self.successResultOf(upload.append(chunks))
        os.utime(f"{self.one.layout.upload(upload.id)}/data", (written_at, written_at))
        return upload

    def seen(self, worker: Pushing, most: int = 5) -> list[OpenUpload]:
        """Look."""
        found: Any = self.successResultOf(started(worker.uploads.seen(most)))
        return list(found)

    def test_seen(self) -> None:
        """Whoever looks sees what is open, used just now or not: whose, how long, how much; the last one first."""
        self.assertEqual(self.seen(self.other), [])
        first = self.begin("alice", 10, b"abc", b"d")
        self.begin(None, 20)
        for worker in (self.one, self.other):
            self.assertEqual(
                [(each.repository, each.user, each.written_at, each.size) for each in self.seen(worker)],
                [(HERE, None, 20, 0), (HERE, "alice", 10, 4)],
            )
        self.assertEqual([each.user for each in self.seen(self.other, 1)], [None])
        self.successResultOf(first.discard())
        self.assertEqual([each.user for each in self.seen(self.other)], [None])

    def test_what_a_crash_left(self) -> None:
        """A session whose document says nothing is not shown."""
        upload = self.begin("alice", 10, b"abc")
        for text in ("[", "{}", '{"name": "a", "user": 5, "began": 1}', '{"name": "a", "user": null}'):
            with open(f"{self.one.layout.upload(upload.id)}/session.json", "w", encoding="ascii") as file:
                file.write(text)
            self.assertEqual(self.seen(self.one), [])
