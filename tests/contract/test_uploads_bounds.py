"""What bounds upload sessions: their number, their age, their descriptors, and the room that there is."""

from __future__ import annotations

import os
from typing import Any

from nora.oci import Digest
from nora.oci.errors import NoSpace, Overloaded
from nora.storage import uploads
from tests.support.pushing import started
from tests.support.uploads_case import DATA, HERE, UploadsCase


class UploadBoundsTests(UploadsCase):
    """Sessions of which there could be too many."""

    def test_bounded(self) -> None:
        """No more sessions than allowed, in all workers together; the ended ones make room at once."""
        self.one, self.other = self.worker(max_uploads=3), self.worker(max_uploads=3)
        begun = [self.begin() for _ in range(3)]
        for worker in (self.one, self.other):
            failure = self.failureResultOf(started(worker.uploads.begin(HERE, None)), Overloaded)
            self.assertGreater(failure.value.retry_after, 0)
        self.assertEqual((len(self.sessions()), self.one.uploads.count), (3, 3))
        self.successResultOf(begun.pop().discard())
        begun.append(self.begin())
        self.add(begun[0], DATA)
        self.successResultOf(begun[0].publish(Digest.of(DATA)))
        self.begin()
        self.failureResultOf(started(self.one.uploads.begin(HERE, None)), Overloaded)

    def test_room_is_made(self) -> None:
        """Where there is no room, sessions that got no byte for a minute go; those in use, or with bytes, stay."""
        self.one = self.worker(max_uploads=3)
        used, idle, full = self.begin(), self.begin(), self.begin()
        idle.close()
        self.add(full, b"x")
        full.close()
        self.failureResultOf(started(self.one.uploads.begin(HERE, None)), Overloaded)
        self.one.later = 61
        new = self.begin()
        self.assertEqual(set(self.sessions()), {used.id, full.id, new.id})

    def test_oldest_make_room(self) -> None:
        """No more sessions are ended at once than one who waits can wait for: those that are idle for longest."""
        self.patch(uploads, "_ROOM", 2)
        self.one = self.worker(max_uploads=4)
        begun = [self.begin() for _ in range(4)]
        for age, upload in enumerate(begun):
            upload.close()
            os.utime(f"{self.root}/uploads/{upload.id}/data", (1000 - age, 1000 - age))
        new = self.begin()
        self.assertEqual(set(self.sessions()), {begun[0].id, begun[1].id, new.id})

    def test_looking_for_room_is_bounded(self) -> None:
        """Who asks again and again for what there is no room for makes the folder be looked through once in 2 s."""
        self.one = self.worker(max_uploads=2)
        for _ in range(2):
            self.begin().close()
        looks: list[str] = []
        look = uploads._list

        def noted(folder: str) -> Any:
            looks.append(folder)
            return look(folder)

        self.patch(uploads, "_list", noted)
        for later, count in ((0, 1), (0, 1), (1, 1), (3, 2), (3, 2)):
            self.one.later = later
            self.failureResultOf(started(self.one.uploads.begin(HERE, None)), Overloaded)
            self.assertEqual(len(looks), count)

    def test_descriptors(self) -> None:
        """Whatever becomes of a session, its file is closed with the request, and its lock freed."""
        self.begin().close()
        before = len(os.listdir("/proc/self/fd"))
        for end in ("close", "discard", "publish"):
            upload = self.begin()
            self.add(upload, DATA)
            if end == "close":
                upload.close()
            elif end == "publish":
                self.successResultOf(upload.publish(Digest.of(DATA)))
            else:
                self.successResultOf(upload.discard())
            self.assertFalse(self.one.locks.held(f"upload:{upload.id}"))
            self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_swept(self) -> None:
        """A sweep ends what is idle, what is old and what a crash left; not what a request has now."""
        idle, busy, fresh = self.begin(), self.begin(), self.begin()
        for upload in (idle, fresh):
            self.add(upload, b"x")
            upload.close()
        os.mkdir(f"{self.root}/uploads/{'0' * 32}")
        os.mkdir(f"{self.root}/uploads/something-else")
        then = self.one.now() + 4000
        self.one.later = 4000
        os.utime(f"{self.root}/uploads/{fresh.id}/data", (then, then))
        self.assertEqual(self.successResultOf(started(self.one.uploads.sweep(86400, 3600))), 2)
        self.assertEqual(set(self.sessions()), {busy.id, fresh.id, "something-else"})
        self.assertEqual(self.one.uploads.count, 2)
        self.one.later = then = 90_000
        os.utime(f"{self.root}/uploads/{fresh.id}/data", (self.one.now(), self.one.now()))
        busy.close()
        self.assertEqual(self.successResultOf(started(self.one.uploads.sweep(86400, 86400))), 2)
        self.assertEqual(self.sessions(), ["something-else"])

    def test_no_space_for_a_session(self) -> None:
        """A session that cannot be made leaves nothing, holds no lock and does not count."""

        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        self.patch(os, "mkdir", full)
        self.failureResultOf(started(self.one.uploads.begin(HERE, None)), NoSpace)
        self.assertEqual((self.sessions(), self.one.uploads.count), ([], 0))

    def test_states_are_bounded(self) -> None:
        """The oldest of many kept hashes is dropped, which costs its session one reading."""
        self.patch(uploads, "_MOST_STATES", 2)
        sessions = [self.begin() for _ in range(3)]
        for upload in sessions:
            self.add(upload, DATA)
            upload.close()
        reads = self.count_reads()
        for upload, read in zip(sessions, (len(DATA), 0, 0), strict=True):
            reads.clear()
            found = self.open(upload.id)
            self.assertEqual(self.digest(found), Digest.of(DATA))
            self.assertEqual(sum(reads), read)
