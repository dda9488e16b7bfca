"""Upload sessions over a store of their own, for a test."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from nora.access import Rights
from nora.oci import Digest, Repository
from nora.push.interfaces import Session, Target
from nora.storage.locks import of_blob
from tests.support.pushing import PUSHER, PlayedBody, Pushing, WholeBody, started
from tests.support.storage_fakes import ImmediateDisk, temporary_folder

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


class PlayedEmpty(PlayedBody):
    """A body of unknown length that turns out to be empty."""

    def deliver(self, sink: Callable[[bytes], None]) -> Deferred[None]:
        """End at once."""
        done = super().deliver(sink)
        self.end()
        return done
