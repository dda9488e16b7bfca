"""Pushing blobs: what a client sends, and what of it counts."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from nora.access import Action, Rights
from nora.oci import Digest, Repository
from nora.oci.errors import (
    Broken,
    InvalidDigest,
    InvalidName,
    InvalidRequest,
    InvalidSize,
    InvalidUpload,
    NoSpace,
    NotAllowed,
    Overloaded,
    RequestTooLarge,
    UploadOutOfOrder,
    UploadUnknown,
)
from nora.push.interfaces import Session, Target
from nora.storage.locks import of_blob
from tests.support.pushing import PUSHER, STRANGER, PlayedBody, Pushing, WholeBody, started
from tests.support.storage_fakes import ImmediateDisk, SteppedDisk, temporary_folder

MIB = 1024 * 1024
DATA = bytes(range(256)) * 40
DIGEST = Digest.of(DATA)
NAME = "team/app"
TARGET = Target(NAME)
HERE = Repository("local", NAME)


class FailingDisk(ImmediateDisk):
    """Does the work at once, but fails what `fails` names."""

    fails: str | None = None

    def run(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Call `work(*arguments)` now, or write half of it and be full."""
        if self.fails is None or self.fails not in work.__qualname__:
            return super().run(work, *arguments)

        def full() -> None:
            if work.__name__ == "_write":
                work([chunk[: len(chunk) // 2] for chunk in arguments[0]], arguments[1])
            raise OSError(28, "No space left on device")

        return super().run(full)


class SessionsCase(SynchronousTestCase):
    """A client that pushes to `team/app`."""

    max_size = 1 << 40
    max_uploads = 100

    def setUp(self) -> None:
        self.root, self.clock = temporary_folder(self), Clock()
        self.disk = FailingDisk()
        self.here = self.process(self.disk)

    def process(self, disk: Any = None) -> Pushing:
        process = Pushing(
            self.root, clock=self.clock, disk=disk, max_size=self.max_size, max_uploads=self.max_uploads
        )
        self.addCleanup(process.locks.close)
        return process

    def begin(self, algorithm: str = "sha256") -> str:
        session: Session = self.successResultOf(started(self.here.push.begin(TARGET, PUSHER, algorithm)))
        self.assertEqual(session.size, 0)
        return session.id

    def append(
        self, id: str, body: PlayedBody, span: tuple[int, int] | None = None, rights: Rights = PUSHER
    ) -> Deferred[Session]:
        return started(self.here.push.append(TARGET, id, span, body, rights))

    def finish(
        self,
        id: str,
        digest: Digest = DIGEST,
        body: PlayedBody | None = None,
        span: tuple[int, int] | None = None,
        rights: Rights = PUSHER,
    ) -> Deferred[int]:
        return started(self.here.push.finish(TARGET, id, digest, span, body or WholeBody(b""), rights))

    def upload(self, body: PlayedBody, digest: Digest = DIGEST) -> Deferred[int]:
        return started(self.here.push.upload(TARGET, digest, body, PUSHER))

    def size(self, id: str) -> int:
        session: Session = self.successResultOf(started(self.here.push.status(TARGET, id, PUSHER)))
        return session.size

    def refused(self, work: Deferred[Any], kind: type[Exception]) -> Any:
        failure: Failure = self.failureResultOf(work, kind)
        return failure.value

    def assert_stored(self, data: bytes = DATA, digest: Digest = DIGEST) -> None:
        """Check that the repository has the blob, that it is whole, and that nothing else is left."""
        self.assertEqual(self.successResultOf(started(self.here.blobs.read(digest, 1 << 30))), data)
        self.assertEqual(self.successResultOf(started(self.here.repositories.blob(HERE, digest))), len(data))
        self.assertTrue(self.here.names.known(NAME))
        self.assertEqual(self.here.index.sizes, {digest: len(data)})
        self.assertEqual(os.listdir(self.here.layout.uploads), [])
        self.assertEqual(os.listdir(self.here.layout.tmp), [])
        self.assertFalse(self.here.locks.held(of_blob(digest)))

    def assert_nothing(self, sessions: int = 0) -> None:
        """Check that nothing is stored or hosted."""
        self.assertEqual(self.here.index.sizes, {})
        self.assertEqual(self.here.index.links, {})
        self.assertFalse(self.here.names.known(NAME))
        self.assertEqual([files for _, _, files in os.walk(self.here.layout.blobs) if files], [])
        self.assertEqual(len(os.listdir(self.here.layout.uploads)), sessions)


class SessionsTests(SessionsCase):
    """What goes well, and what a client does wrong."""

    def test_stream_then_put(self) -> None:
        """The docker way: one PATCH of unknown length, then a PUT without a body."""
        id = self.begin()
        body = PlayedBody()
        appending = self.append(id, body)
        body.send(DATA[:5000], DATA[5000:])
        self.assertNoResult(appending)
        body.end()
        self.assertEqual(self.successResultOf(appending), Session(id, len(DATA)))
        self.assertEqual(self.successResultOf(self.finish(id)), len(DATA))
        self.assert_stored()
        self.refused(self.finish(id), UploadUnknown)

    def test_chunks(self) -> None:
        """Chunks in order, the last of them with the PUT."""
        id = self.begin()
        for start in (0, 4000):
            span = (start, start + 4000)
            appended = self.successResultOf(self.append(id, WholeBody(DATA[slice(*span)]), span))
            self.assertEqual(appended, Session(id, start + 4000))
            self.assertEqual(self.size(id), start + 4000)
        last = WholeBody(DATA[8000:])
        self.assertEqual(self.successResultOf(self.finish(id, body=last, span=(8000, len(DATA)))), len(DATA))
        self.assert_stored()

    def test_put_with_everything(self) -> None:
        """POST, then a PUT with the whole blob, of a length that was told or not."""
        for counted in (True, False):
            self.successResultOf(self.finish(self.begin(), body=WholeBody(DATA, counted=counted)))
            self.assert_stored()

    def test_monolithic(self) -> None:
        """A POST with the digest and the whole blob."""
        self.assertEqual(self.successResultOf(self.upload(WholeBody(DATA))), len(DATA))
        self.assert_stored()

    def test_empty(self) -> None:
        """An empty blob is a blob, by each way."""
        empty = Digest.of(b"")
        self.assertEqual(self.successResultOf(self.finish(self.begin(), empty)), 0)
        self.assert_stored(b"", empty)
        self.assertEqual(self.successResultOf(self.upload(WholeBody(b""), empty)), 0)
        self.assertEqual(self.successResultOf(self.finish(self.begin(), empty, PlayedEmpty())), 0)
        self.assert_stored(b"", empty)

    def test_sha512(self) -> None:
        """A digest of sha512, for sessions that were begun for it and for those that were not."""
        long = Digest.of(DATA, "sha512")
        for algorithm in ("sha512", "sha256"):
            id = self.begin(algorithm)
            self.successResultOf(self.finish(id, long, WholeBody(DATA)))
            self.assert_stored(DATA, long)
        self.assertEqual(self.successResultOf(self.upload(WholeBody(DATA), long)), len(DATA))
        self.assert_stored(DATA, long)

    def test_wrong_digest(self) -> None:
        """A digest that does not match stores nothing, and ends the session."""
        for wrong in (Digest.of(b"else"), Digest.of(b"else", "sha512")):
            id = self.begin()
            error = self.refused(self.finish(id, wrong, WholeBody(DATA)), InvalidDigest)
            self.assertEqual(error.detail["uploaded"], str(Digest.of(DATA, wrong.algorithm)))
            self.refused(self.append(id, WholeBody(DATA)), UploadUnknown)
            self.refused(self.upload(WholeBody(DATA), wrong), InvalidDigest)
            self.assert_nothing()

    def test_out_of_order(self) -> None:
        """A chunk that does not begin where the upload ends is refused with what the upload has, unread."""
        id = self.begin()
        self.successResultOf(self.append(id, WholeBody(DATA[:100]), (0, 100)))
        for span in ((0, 100), (99, 199), (101, 201), (1 << 62, (1 << 62) + 100)):
            body = WholeBody(DATA[:100])
            error = self.refused(self.append(id, body, span), UploadOutOfOrder)
            self.assertEqual(error.size, 100)
            self.assertIsNone(body.sink)
            self.refused(self.finish(id, body=WholeBody(DATA[:100]), span=span), UploadOutOfOrder)
        self.assertEqual(self.size(id), 100)
        self.successResultOf(self.finish(id, body=WholeBody(DATA[100:]), span=(100, len(DATA))))
        self.assert_stored()

    def test_range_and_length(self) -> None:
        """A body whose length is not that of its range is refused; nothing of it counts."""
        id = self.begin()
        self.successResultOf(self.append(id, WholeBody(DATA[:10])))
        self.refused(self.append(id, WholeBody(DATA[10:20]), (10, 21)), InvalidSize)
        self.refused(self.append(id, WholeBody(DATA[10:20], counted=False), (10, 21)), InvalidSize)
        self.refused(self.append(id, WholeBody(DATA[10:20], counted=False), (10, 19)), InvalidSize)
        self.refused(self.append(id, WholeBody(DATA[10:20], length=11)), InvalidSize)
        self.refused(self.append(id, WholeBody(DATA[10:20], length=9)), InvalidSize)
        self.assertEqual(self.size(id), 10)
        self.successResultOf(self.finish(id, body=WholeBody(DATA[10:])))
        self.assert_stored()

    def test_broken_off(self) -> None:
        """A body that breaks off leaves what came: the client asks how much, and goes on there."""
        id = self.begin()
        for start, body in ((0, PlayedBody()), (1000, PlayedBody(len(DATA) - 1000))):
            appending = self.append(id, body)
            body.send(DATA[start : start + 1000])
            body.break_off()
            self.refused(appending, Broken)
        self.assertEqual(self.size(id), 2000)
        self.successResultOf(self.append(id, WholeBody(DATA[2000:])))
        self.successResultOf(self.finish(id))
        self.assert_stored()

    def test_broken_chunk(self) -> None:
        """Of a chunk with a range that breaks off nothing counts, with PATCH or PUT: it is sent again."""
        id = self.begin()
        self.successResultOf(self.append(id, WholeBody(DATA[:100])))
        for work in (self.append, lambda id, body, span: self.finish(id, body=body, span=span)):
            body = PlayedBody(1000)
            waiting = work(id, body, (100, 1100))
            body.send(DATA[100:600])
            body.break_off()
            self.refused(waiting, Broken)
            self.assertEqual(self.size(id), 100)
        self.successResultOf(self.append(id, WholeBody(DATA[100:]), (100, len(DATA))))
        self.successResultOf(self.finish(id))
        self.assert_stored()

    def test_malformed(self) -> None:
        """Of a body whose form is broken nothing counts: nobody knows what it was to be."""
        id = self.begin()
        self.successResultOf(self.append(id, WholeBody(DATA[:100])))
        body = PlayedBody()
        waiting = self.append(id, body)
        body.send(DATA[100:600])
        body.break_off(InvalidRequest("no chunks"))
        self.refused(waiting, InvalidRequest)
        self.assertEqual(self.size(id), 100)

    def test_broken_monolithic(self) -> None:
        """Nothing is left of a POST that breaks off."""
        body = PlayedBody(len(DATA))
        uploading = self.upload(body)
        body.send(DATA[:1000])
        self.assert_nothing(sessions=1)
        body.break_off()
        self.refused(uploading, Broken)
        self.assert_nothing()

    def test_two_requests(self) -> None:
        """A second request to a session waits for the first, and is refused after a while; then all is well."""
        id = self.begin()
        body = PlayedBody()
        first = self.append(id, body)
        body.send(DATA[:100])
        late = self.append(id, WholeBody(DATA))
        self.clock.pump([1.0] * 6)
        self.refused(late, InvalidUpload)
        waiting = self.append(id, WholeBody(DATA[200:]))
        body.send(DATA[100:200])
        body.end()
        self.assertEqual(self.successResultOf(first), Session(id, 200))
        self.assertEqual(self.successResultOf(waiting), Session(id, len(DATA)))
        self.successResultOf(self.finish(id))
        self.assert_stored()

    def test_impatient_client(self) -> None:
        """Who stops waiting cancels nothing: the work ends when the body does, and the next request can go on."""
        id = self.begin()
        body = PlayedBody()
        appending = self.append(id, body)
        body.send(DATA[:100])
        appending.addErrback(lambda _: None)
        appending.cancel()
        body.break_off()
        self.assertEqual(len(self.here.background), 0)
        self.assertEqual(self.size(id), 100)

    def test_restart(self) -> None:
        """A session goes on in a process that did not begin it."""
        id = self.begin()
        self.successResultOf(self.append(id, WholeBody(DATA[:5000])))
        self.here = self.process()
        self.assertEqual(self.size(id), 5000)
        self.successResultOf(self.finish(id, body=WholeBody(DATA[5000:])))
        self.assert_stored()

    def test_cancelled(self) -> None:
        """A session that the client ends is gone with its bytes."""
        id = self.begin()
        self.successResultOf(self.append(id, WholeBody(DATA)))
        self.successResultOf(started(self.here.push.cancel(TARGET, id, PUSHER)))
        self.refused(self.finish(id), UploadUnknown)
        self.refused(started(self.here.push.cancel(TARGET, id, PUSHER)), UploadUnknown)
        self.assert_nothing()

    def test_whose_session(self) -> None:
        """A session is its repository's and its user's alone; to all others there is none."""
        id = self.begin()
        bob = Rights("bob", PUSHER.actions)
        elsewhere = Target("team/other")
        for rights in (bob, STRANGER):
            self.refused(self.append(id, WholeBody(DATA), rights=rights), UploadUnknown)
            self.refused(self.finish(id, body=WholeBody(DATA), rights=rights), UploadUnknown)
            self.refused(started(self.here.push.status(TARGET, id, rights)), UploadUnknown)
            self.refused(started(self.here.push.cancel(TARGET, id, rights)), UploadUnknown)
        self.refused(started(self.here.push.status(elsewhere, id, PUSHER)), UploadUnknown)
        self.refused(started(self.here.push.cancel(elsewhere, id, PUSHER)), UploadUnknown)
        self.refused(started(self.here.push.status(TARGET, "../" + id, PUSHER)), UploadUnknown)
        self.assertEqual(self.size(id), 0)

    def test_rights(self) -> None:
        """Nothing is done, or found out, without the right to push."""
        id = self.begin()
        reader = Rights("alice", frozenset({Action.PULL}))
        push = self.here.push
        for work in (
            push.begin(TARGET, reader),
            push.mount(TARGET, DIGEST, None, reader),
            push.upload(TARGET, DIGEST, WholeBody(DATA), reader),
            push.append(TARGET, id, None, WholeBody(DATA), reader),
            push.finish(TARGET, id, DIGEST, None, WholeBody(DATA), reader),
            push.status(TARGET, id, reader),
            push.cancel(TARGET, id, reader),
        ):
            self.refused(started(work), NotAllowed)
        self.refused(started(push.begin(Target("../etc"), PUSHER)), InvalidName)
        self.assert_nothing(sessions=1)

    def test_same_blob_twice(self) -> None:
        """A blob that another repository pushed is linked here, and its bytes stay the one copy that there is."""
        self.successResultOf(
            started(self.here.push.upload(Target("team/other"), DIGEST, WholeBody(DATA), PUSHER))
        )
        inode = os.stat(self.here.layout.blob(DIGEST)).st_ino
        self.assertIsNone(self.successResultOf(started(self.here.repositories.blob(HERE, DIGEST))))
        self.successResultOf(self.upload(WholeBody(DATA)))
        self.assert_stored()
        self.assertEqual(os.stat(self.here.layout.blob(DIGEST)).st_ino, inode)

    def test_waits_for_the_blobs_lock(self) -> None:
        """Publishing and linking wait for who holds the blob's lock; after minutes the client hears that."""
        lock = self.successResultOf(started(self.here.locks.hold(of_blob(DIGEST))))
        uploading = self.upload(WholeBody(DATA))
        self.assertNoResult(uploading)
        self.assert_nothing(sessions=1)
        lock.release()
        self.successResultOf(uploading)
        self.assert_stored()
        lock = self.successResultOf(started(self.here.locks.hold(of_blob(DIGEST))))
        id = self.begin()
        finishing = self.finish(id, body=WholeBody(DATA))
        self.clock.pump([10.0] * 31)
        self.refused(finishing, Overloaded)
        self.assertEqual(self.size(id), len(DATA), "the client may try again")


class PlayedEmpty(PlayedBody):
    """A body of unknown length that turns out to be empty."""

    def deliver(self, sink: Callable[[bytes], None]) -> Deferred[None]:
        """End at once."""
        done = super().deliver(sink)
        self.end()
        return done


class LimitsTests(SessionsCase):
    """What there is too much of."""

    max_size = 1000
    max_uploads = 2

    def test_largest(self) -> None:
        """A blob of just the largest size can be pushed, by each way."""
        data = DATA[:1000]
        for counted in (True, False):
            self.successResultOf(self.upload(WholeBody(data, counted=counted), Digest.of(data)))
            self.assert_stored(data, Digest.of(data))

    def test_too_large(self) -> None:
        """One byte more is refused, before it is read where the length is told; the session ends."""
        told, untold = WholeBody(DATA[:1001]), WholeBody(DATA[:1001], counted=False)
        for body in (told, untold):
            id = self.begin()
            error = self.refused(self.append(id, body), RequestTooLarge)
            self.assertEqual(error.detail, {"key": "docker.max_upload_size"})
            self.refused(self.append(id, WholeBody(b"x")), UploadUnknown)
            self.assert_nothing()
        self.assertIsNone(told.sink)
        self.refused(self.upload(WholeBody(DATA[:1001])), RequestTooLarge)
        self.assert_nothing()

    def test_too_large_by_chunks(self) -> None:
        """What came before counts too, and so does a range without a length."""
        id = self.begin()
        self.successResultOf(self.append(id, WholeBody(DATA[:600])))
        self.refused(self.append(id, WholeBody(DATA[:401], counted=False), (600, 1001)), RequestTooLarge)
        self.assert_nothing()

    def test_endless(self) -> None:
        """A body that does not end is cut off where it becomes too large."""
        id = self.begin()
        body = PlayedBody()
        appending = self.append(id, body)
        body.send(*[DATA[:300]] * 4)
        self.assertTrue(body.aborted)
        self.refused(appending, RequestTooLarge)
        self.assert_nothing()

    def test_too_many(self) -> None:
        """More sessions than allowed are refused, with a time to come back."""
        self.begin()
        id = self.begin()
        self.assertGreater(
            self.refused(started(self.here.push.begin(TARGET, PUSHER)), Overloaded).retry_after, 0
        )
        self.refused(self.upload(WholeBody(b"x"), Digest.of(b"x")), Overloaded)
        self.successResultOf(self.finish(id, Digest.of(b"x"), WholeBody(b"x")))
        self.begin()


class DiskTests(SessionsCase):
    """What the disk does."""

    def test_full_while_writing(self) -> None:
        """Without space the request fails, what it wrote is taken back, and later the client goes on."""
        id = self.begin()
        self.successResultOf(self.append(id, WholeBody(DATA[:100])))
        self.disk.fails = "UploadFile._write"
        body = PlayedBody()
        appending = self.append(id, body)
        body.send(DATA[100:500])
        self.assertTrue(body.aborted)
        self.refused(appending, NoSpace)
        self.refused(self.finish(id, body=WholeBody(DATA[100:])), NoSpace)
        self.disk.fails = None
        self.assertEqual(self.size(id), 100)
        self.successResultOf(self.finish(id, body=WholeBody(DATA[100:])))
        self.assert_stored()

    def test_full_while_publishing(self) -> None:
        """Without space for the blob's name the session stays, and can be finished later."""
        id = self.begin()
        self.successResultOf(self.append(id, WholeBody(DATA)))
        self.disk.fails = "_publish"
        self.refused(self.finish(id), OSError)
        self.disk.fails = None
        self.assert_nothing(sessions=1)
        self.successResultOf(self.finish(id))
        self.assert_stored()

    def test_back_pressure(self) -> None:
        """While the disk is behind the client is paused, so that no more than 2 MiB are ever in memory."""
        id = self.begin()
        steps = SteppedDisk()
        slow = self.process(steps)
        body = PlayedBody()
        appending = started(slow.push.append(TARGET, id, None, body, PUSHER))
        steps.drain()
        sent = 0
        while not body.paused:
            body.send(bytes(64 * 1024))
            sent += 64 * 1024
        self.assertLessEqual(sent, 2 * MIB)
        steps.step()
        self.assertTrue(body.paused, "most of it is still in memory")
        steps.drain()
        self.assertFalse(body.paused)
        body.end()
        steps.drain()
        self.assertEqual(self.successResultOf(appending), Session(id, sent))
