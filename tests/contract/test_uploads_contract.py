"""What every `Uploads` promises, told to those on disk, one after another as a restarted process finds them too."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from nora.oci import Digest, Repository
from nora.oci.errors import InvalidUpload, NoSpace, Overloaded
from nora.storage import upload as upload_module
from nora.storage import uploads
from nora.storage.blobs import DiskBlobs
from nora.storage.disk import ThreadedDisk
from nora.storage.interfaces import Upload
from nora.storage.layout import Layout
from nora.storage.locks import DiskLocks
from nora.storage.uploads import DiskUploads
from tests.support.pushing import Pushing, started
from tests.support.storage_fakes import MemoryIndex, SteppedDisk, temporary_folder

HERE = Repository("local", "team/app")
MIB = 1024 * 1024
DATA = b"".join(number.to_bytes(4, "big") for number in range(50_000))


class UploadsTests(SynchronousTestCase):
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

    def test_from_begin_to_blob(self) -> None:
        """A session grows by several requests, is hashed as it comes, and becomes the blob by a rename."""
        upload = self.begin()
        self.add(upload, DATA[:10], b"", DATA[10:100])
        self.assertEqual((upload.repository, upload.user, upload.size), (HERE, "alice", 100))
        inode = os.stat(f"{self.root}/uploads/{upload.id}/data").st_ino
        upload.close()
        upload.close()
        again = self.open(upload.id)
        self.assertEqual((again.repository, again.user, again.size), (HERE, "alice", 100))
        self.add(again, DATA[100:])
        reads = self.count_reads()
        self.assertEqual(self.digest(again), Digest.of(DATA))
        self.assertEqual(reads, [], "it was hashed on the way")
        self.successResultOf(again.publish(Digest.of(DATA)))
        again.close()
        self.successResultOf(again.discard())
        path = self.one.layout.blob(Digest.of(DATA))
        self.assertEqual(os.stat(path).st_ino, inode, "no byte was copied")
        self.assertEqual(oct(os.stat(path).st_mode & 0o777), "0o444")
        self.assertEqual(self.sessions(), [])
        self.assertEqual(self.one.uploads.count, 0)
        self.assertIsNone(self.successResultOf(started(self.one.uploads.open(upload.id))))

    def test_restart(self) -> None:
        """A session survives a restart: what was hashed before is read once, and no more than that."""
        upload = self.begin(user=None)
        self.add(upload, DATA[:1000])
        upload.close()
        again = self.open(upload.id, self.worker())
        self.assertEqual((again.repository, again.user, again.size), (HERE, None, 1000))
        self.add(again, DATA[1000:])
        reads = self.count_reads()
        self.assertEqual(self.digest(again), Digest.of(DATA))
        self.assertEqual(sum(reads), len(DATA))
        self.assertEqual(self.digest(again), Digest.of(DATA))
        self.assertEqual(sum(reads), len(DATA), "a second question costs nothing")
        again.close()

    def test_other_worker_goes_on(self) -> None:
        """Workers take turns; the hash that one of them kept still counts for what it hashed."""
        upload = self.begin()
        self.add(upload, DATA[:1000])
        upload.close()
        there = self.open(upload.id, self.other)
        self.add(there, DATA[1000:3000])
        there.close()
        back = self.open(upload.id)
        self.assertEqual(back.size, 3000)
        self.add(back, DATA[3000:4000])
        reads = self.count_reads()
        self.assertEqual(self.digest(back), Digest.of(DATA[:4000]))
        self.assertEqual(sum(reads), 3000)
        back.close()

    def test_truncated(self) -> None:
        """What is taken back is out of the file and out of the hash: at no cost up to the request's start."""
        upload = self.begin()
        self.add(upload, DATA[:1000])
        upload.close()
        upload = self.open(upload.id)
        self.add(upload, b"what does not count")
        self.successResultOf(upload.truncate(1000))
        reads = self.count_reads()
        self.add(upload, DATA[1000:2000])
        self.assertEqual((upload.size, self.digest(upload)), (2000, Digest.of(DATA[:2000])))
        self.assertEqual(reads, [])
        self.successResultOf(upload.truncate(500))
        self.add(upload, DATA[500:600])
        self.assertEqual((upload.size, self.digest(upload)), (600, Digest.of(DATA[:600])))
        self.assertEqual(sum(reads), 600)
        upload.close()
        self.assertEqual(self.digest(self.open(upload.id)), Digest.of(DATA[:600]))

    def test_algorithms(self) -> None:
        """A session for sha512 is hashed so; a digest of another algorithm costs one reading; unknown is sha256."""
        for algorithm, other in (("sha512", "sha256"), ("sha256", "sha512"), ("md5", "sha512")):
            upload = self.begin(algorithm=algorithm)
            self.add(upload, DATA)
            upload.close()
            upload = self.open(upload.id)
            with self.subTest(algorithm=algorithm):
                reads = self.count_reads()
                first = "sha256" if algorithm == "md5" else algorithm
                self.assertEqual(self.digest(upload, first), Digest.of(DATA, first))
                self.assertEqual(reads, [])
                self.assertEqual(self.digest(upload, other), Digest.of(DATA, other))
                self.assertEqual(sum(reads), len(DATA))
            self.successResultOf(upload.discard())

    def test_one_request_at_a_time(self) -> None:
        """A second request waits a little for the first, in this worker and in another, and is refused after that."""
        upload = self.begin()
        for worker in (self.one, self.other):
            opening = started(worker.uploads.open(upload.id))
            self.assertNoResult(opening)
            self.clock.pump([0.5] * 11)
            self.failureResultOf(opening, InvalidUpload)
        opening = started(self.one.uploads.open(upload.id))
        upload.close()
        self.successResultOf(opening).close()

    def test_no_such_session(self) -> None:
        """An id that was never given out is none, and reaches no path; neither does what is no id."""
        self.begin().close()
        for id in (
            "0" * 32,
            "..",
            "../uploads",
            "",
            "a/b",
            "A" * 32,
            "0" * 31,
            "0" * 33,
            "0" * 32 + "\n",
            "\0",
        ):
            with self.subTest(id=id):
                self.assertIsNone(self.successResultOf(started(self.one.uploads.open(id))))
        ids = {self.begin().id for _ in range(50)}
        self.assertEqual(len(ids), 50)
        for id in ids:
            self.assertRegex(id, r"\A[0-9a-f]{32}\Z")

    def test_spoiled_sessions(self) -> None:
        """A session whose files are not what they should be is none; nothing of it is trusted."""
        good = {"namespace": "local", "name": "a", "user": None, "algorithm": "sha256"}
        wrong: list[dict[str, object]] = [
            {"namespace": "docker.io"},
            {"name": "../a"},
            {"name": 5},
            {"user": 5},
            {"algorithm": "md5"},
        ]
        documents = [b"", b"[]", b"{", b"{}", b"[" * 4000, b" " * 10_000]
        documents += [json.dumps(good | each).encode() for each in wrong]
        for document in documents:
            upload = self.begin()
            upload.close()
            with open(f"{self.root}/uploads/{upload.id}/session.json", "wb") as file:
                file.write(document)
            with self.subTest(document=document):
                self.assertIsNone(self.successResultOf(started(self.one.uploads.open(upload.id))))
        for name in ("session.json", "data"):
            upload = self.begin()
            upload.close()
            os.unlink(f"{self.root}/uploads/{upload.id}/{name}")
            self.assertIsNone(self.successResultOf(started(self.one.uploads.open(upload.id))))

    def test_shortened_file(self) -> None:
        """A file that lost its end is taken as it is, and its hash begins anew."""
        upload = self.begin()
        self.add(upload, DATA)
        upload.close()
        os.truncate(f"{self.root}/uploads/{upload.id}/data", 100)
        upload = self.open(upload.id)
        self.assertEqual((upload.size, self.digest(upload)), (100, Digest.of(DATA[:100])))
        os.truncate(f"{self.root}/uploads/{upload.id}/data", 50)
        self.failureResultOf(upload.digest("sha512"), OSError)
        upload.close()

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

    def test_blob_that_is_there(self) -> None:
        """A blob that is there already keeps its file, and the upload's goes."""
        first, second = self.begin(), self.begin()
        for upload in (first, second):
            self.add(upload, DATA)
        self.successResultOf(first.publish(Digest.of(DATA)))
        inode = os.stat(self.one.layout.blob(Digest.of(DATA))).st_ino
        self.successResultOf(second.publish(Digest.of(DATA)))
        self.assertEqual(os.stat(self.one.layout.blob(Digest.of(DATA))).st_ino, inode)
        self.assertEqual(self.sessions(), [])

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

    def test_written_out(self) -> None:
        """The disk begins early with a large blob: every 8 MiB, and with what this request brought alone."""
        told: list[tuple[int, int]] = []
        self.patch(upload_module, "write_out", lambda _, start, count: told.append((start, count)))
        upload = self.begin()
        self.add(upload, bytes(3 * MIB))
        upload.close()
        upload = self.open(upload.id)
        for _ in range(20):
            self.add(upload, bytes(MIB))
        self.assertEqual(told, [(3 * MIB, 8 * MIB), (11 * MIB, 8 * MIB)])
        self.successResultOf(upload.discard())

    def test_hashed_in_hops(self) -> None:
        """A long reading takes several hops of the disk, so that others have their turn."""
        upload = self.begin()
        self.add(upload, bytes(40 * 1024 * 1024))
        upload.close()
        steps = SteppedDisk()
        slow = self.worker(disk=steps)
        opening = started(slow.uploads.open(upload.id))
        steps.drain()
        telling = self.successResultOf(opening).digest("sha256")
        hops = 0
        while steps.waiting:
            steps.step()
            hops += 1
        self.assertEqual(hops, 3)
        self.assertEqual(
            self.successResultOf(telling).hex, hashlib.sha256(bytes(40 * 1024 * 1024)).hexdigest()
        )


class ThreadedUploadsTests(TestCase):
    """The same files by real threads."""

    def setUp(self) -> None:
        self.layout = Layout(temporary_folder(self))
        self.layout.prepare()
        self.disk = ThreadedDisk(installed)  # type: ignore[arg-type]
        self.disk.start()
        self.addCleanup(self.disk.stop)
        self.locks = DiskLocks(self.layout.locks, Clock())
        self.addCleanup(self.locks.close)

    async def test_in_threads(self) -> None:
        """Two sessions grow side by side and become blobs."""
        blobs = DiskBlobs(self.layout, self.disk, MemoryIndex())
        sessions = DiskUploads(self.layout, self.disk, self.locks, blobs, lambda: 0.0, 10)
        one, other = await sessions.begin(HERE, None), await sessions.begin(HERE, "bob", "sha512")
        for start in range(0, len(DATA), 10_000):
            chunk = DATA[start : start + 10_000]
            first, second = one.append([chunk]), other.append([chunk, chunk])
            await first
            await second
        twice = b"".join(DATA[at : at + 10_000] * 2 for at in range(0, len(DATA), 10_000))
        self.assertEqual(await one.digest("sha256"), Digest.of(DATA))
        self.assertEqual(await other.digest("sha512"), Digest.of(twice, "sha512"))
        await one.publish(Digest.of(DATA))
        await other.publish(Digest.of(twice, "sha512"))
        self.assertEqual(await blobs.read(Digest.of(DATA), len(DATA)), DATA)
        self.assertEqual(blobs.size(Digest.of(twice, "sha512")), len(twice))
        self.assertEqual(os.listdir(self.layout.uploads), [])
        shutil.rmtree(self.layout.uploads)
