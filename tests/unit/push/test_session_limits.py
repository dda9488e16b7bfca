"""What bounds upload sessions, and what becomes of them when the disk fails."""

from __future__ import annotations

from nora.oci import Digest
from nora.oci.errors import (
    NoSpace,
    Overloaded,
    RequestTooLarge,
    UploadUnknown,
)
from nora.push.interfaces import Session
from tests.support.pushing import PUSHER, PlayedBody, WholeBody, started
from tests.support.sessions_case import (
    DATA,
    MIB,
    TARGET,
    SessionsCase,
)
from tests.support.storage_fakes import SteppedDisk


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
