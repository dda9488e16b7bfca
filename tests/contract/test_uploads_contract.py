"""What every `Uploads` promises, told to those on disk, one after another as a restarted process finds them too."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

from twisted.internet import reactor as installed
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from nora.oci import Digest
from nora.oci.errors import InvalidUpload
from nora.storage import upload as upload_module
from nora.storage.blobs import DiskBlobs
from nora.storage.disk import ThreadedDisk
from nora.storage.layout import Layout
from nora.storage.locks import DiskLocks
from nora.storage.uploads import DiskUploads
from tests.support.pushing import started
from tests.support.storage_fakes import MemoryIndex, SteppedDisk, temporary_folder
from tests.support.uploads_case import DATA, HERE, MIB, UploadsCase


class UploadsTests(UploadsCase):
    """Sessions and their files."""

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
