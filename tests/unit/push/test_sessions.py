"""Pushing blobs: what a client sends, and what of it counts."""

from __future__ import annotations

import os

from nora.access import Action, Rights
from nora.oci import Digest
from nora.oci.errors import (
    Broken,
    InvalidDigest,
    InvalidName,
    InvalidRequest,
    InvalidSize,
    InvalidUpload,
    NotAllowed,
    Overloaded,
    UploadOutOfOrder,
    UploadUnknown,
)
from nora.push.interfaces import Session, Target
from nora.storage.locks import of_blob
from tests.support.pushing import PUSHER, STRANGER, PlayedBody, WholeBody, started
from tests.support.sessions_case import (
    DATA,
    DIGEST,
    HERE,
    TARGET,
    PlayedEmpty,
    SessionsCase,
)


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
