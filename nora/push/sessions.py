"""Pushing blobs: upload sessions, monolithic uploads, mounts.

Bytes go once, from the socket to the session's file, hashed on the way; while the disk is behind, the socket is paused.
What a request began belongs to nobody who waits for it: a client that leaves ends its body, and the work then ends in
order, with its file closed and what does not count taken back.

A blob's bytes come first, then its name is made hosted, then the link is written: the repository is never said to have
what is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from nora.access import Rights
from nora.concurrency import Background, Pump, SingleFlight
from nora.oci import Digest, Repository
from nora.oci.errors import (
    Broken,
    InvalidDigest,
    InvalidSize,
    Overloaded,
    RequestTooLarge,
    UploadOutOfOrder,
    UploadUnknown,
)
from nora.push.interfaces import Body, Session, Target, Targets
from nora.push.mounts import Mounts
from nora.storage.interfaces import Locks, Repositories, Upload, Uploads
from nora.storage.locks import of_blob

R = TypeVar("R")
_WAIT = 300.0
"""Seconds that a push waits for another of the same blob, which may have much to sync."""


class Sessions:
    """The part of `nora.push.interfaces.Push` that is about blobs."""

    def __init__(
        self,
        uploads: Uploads,
        repositories: Repositories,
        locks: Locks,
        targets: Targets,
        mounts: Mounts,
        background: Background,
        max_size: int,
    ) -> None:
        """`background` must come to its end by itself, and never be cancelled. A blob has at most `max_size` bytes."""
        self._uploads = uploads
        self._repositories = repositories
        self._locks = locks
        self._targets = targets
        self._mounts = mounts
        self._max_size = max_size
        self._working: SingleFlight[object, Any] = SingleFlight(background)

    async def begin(self, target: Target, rights: Rights, algorithm: str = "sha256") -> Session:
        """Open an upload session, for a digest of `algorithm` as far as the client says."""
        repository = await self._targets.resolve(target, rights)
        return await self._apart(lambda: self._begin(repository, rights, algorithm))

    async def mount(
        self, target: Target, digest: Digest, source: str | None, rights: Rights
    ) -> int | Session:
        """Let the repository have a blob that the client may read already; where it cannot, begin a session."""
        repository = await self._targets.resolve(target, rights)
        size = await self._apart(lambda: self._mounts.mount(repository, digest, source, rights))
        if size is not None:
            return size
        return await self._apart(lambda: self._begin(repository, rights, digest.algorithm))

    async def upload(self, target: Target, digest: Digest, body: Body, rights: Rights) -> int:
        """Store a blob that comes in one request, and give its size. Nothing is left of one that fails."""
        repository = await self._targets.resolve(target, rights)
        return await self._apart(lambda: self._upload(repository, digest, body, rights))

    async def append(
        self, target: Target, id: str, span: tuple[int, int] | None, body: Body, rights: Rights
    ) -> Session:
        """Add `body` at the end of a session; see `Push`."""
        repository = await self._targets.resolve(target, rights)
        return await self._apart(lambda: self._append(repository, id, span, body, rights))

    async def finish(
        self,
        target: Target,
        id: str,
        digest: Digest,
        span: tuple[int, int] | None,
        body: Body,
        rights: Rights,
    ) -> int:
        """Add `body`, if any, and make the upload the blob `digest`; gives its size. See `Push`."""
        repository = await self._targets.resolve(target, rights)
        return await self._apart(lambda: self._finish(repository, id, digest, span, body, rights))

    async def status(self, target: Target, id: str, rights: Rights) -> Session:
        """Tell how far a session is."""
        repository = await self._targets.resolve(target, rights)
        return await self._apart(lambda: self._status(repository, id, rights))

    async def cancel(self, target: Target, id: str, rights: Rights) -> None:
        """End a session, and forget its bytes."""
        repository = await self._targets.resolve(target, rights)
        await self._apart(lambda: self._cancel(repository, id, rights))

    def _apart(self, work: Callable[[], Coroutine[Any, Any, R]]) -> Deferred[R]:
        """Do `work` to its end, whether or not the caller still waits for it."""
        return self._working.run(object(), work)

    async def _begin(self, repository: Repository, rights: Rights, algorithm: str) -> Session:
        upload = await self._uploads.begin(repository, rights.user, algorithm)
        upload.close()
        return Session(upload.id, 0)

    async def _upload(self, repository: Repository, digest: Digest, body: Body, rights: Rights) -> int:
        upload = await self._uploads.begin(repository, rights.user, digest.algorithm)
        try:
            await self._receive(upload, None, body)
            return await self._complete(upload, digest)
        finally:
            await upload.discard()

    async def _append(
        self, repository: Repository, id: str, span: tuple[int, int] | None, body: Body, rights: Rights
    ) -> Session:
        upload = await self._take(repository, id, rights)
        try:
            await self._receive(upload, span, body)
            return Session(id, upload.size)
        finally:
            upload.close()

    async def _finish(
        self,
        repository: Repository,
        id: str,
        digest: Digest,
        span: tuple[int, int] | None,
        body: Body,
        rights: Rights,
    ) -> int:
        upload = await self._take(repository, id, rights)
        try:
            if body.length != 0:
                await self._receive(upload, span, body)
            return await self._complete(upload, digest)
        finally:
            upload.close()

    async def _status(self, repository: Repository, id: str, rights: Rights) -> Session:
        upload = await self._take(repository, id, rights)
        upload.close()
        return Session(id, upload.size)

    async def _cancel(self, repository: Repository, id: str, rights: Rights) -> None:
        upload = await self._take(repository, id, rights)
        await upload.discard()

    async def _take(self, repository: Repository, id: str, rights: Rights) -> Upload:
        """Take a session that is this repository's and this client's, for one request."""
        upload = await self._uploads.open(id)
        if upload is not None and (upload.repository, upload.user) == (repository, rights.user):
            return upload
        if upload is not None:
            upload.close()
        raise UploadUnknown("this upload has ended, or was never begun here by this client")

    async def _receive(self, upload: Upload, span: tuple[int, int] | None, body: Body) -> None:
        """Write `body` behind what is there, in the bounds that the request gave."""
        start, expected = upload.size, body.length
        if span is not None:
            first, past = span
            if first != start:
                raise UploadOutOfOrder(start)
            if expected not in (None, past - first):
                raise InvalidSize(
                    "the body is not as long as its range", {"range": past - first, "body": expected}
                )
            expected = past - first
        incoming = _Incoming(upload, expected, self._max_size)
        try:
            if expected is not None:
                incoming.check(expected)
            await Pump(body, incoming.append, 0, lambda: None).run()
            if expected is not None and upload.size - start != expected:
                raise incoming.refuse(InvalidSize("the body is shorter than it was said to be"))
        except RequestTooLarge:
            await upload.discard()
            raise
        except Exception as error:
            if span is not None or incoming.refused or not isinstance(error, Broken):
                await upload.truncate(start)
            raise

    async def _complete(self, upload: Upload, digest: Digest) -> int:
        """Make a whole upload the blob that it is said to be."""
        actual = await upload.digest(digest.algorithm)
        if actual != digest:
            await upload.discard()
            raise InvalidDigest(
                "what was uploaded has another digest", {"given": str(digest), "uploaded": str(actual)}
            )
        size = upload.size
        lock = await self._locks.hold(of_blob(digest), _WAIT)
        if lock is None:
            raise Overloaded("another upload of this blob does not come to its end", 60)
        try:
            await upload.publish(digest)
            await self._targets.host(upload.repository)
            await self._repositories.link_blob(upload.repository, digest, size)
        finally:
            lock.release()
        return size


class _Incoming:
    """One body on its way into an upload, held to its bounds."""

    def __init__(self, upload: Upload, expected: int | None, max_size: int) -> None:
        self.refused = False
        """Nothing of the body counts, for a reason of ours."""
        self._upload = upload
        self._start = upload.size
        self._expected = expected
        self._max_size = max_size

    def check(self, count: int) -> None:
        """Raise `RequestTooLarge` when the upload cannot have `count` bytes more than at the start."""
        if self._start + count > self._max_size:
            raise self.refuse(
                RequestTooLarge(
                    f"the blob is larger than {self._max_size} bytes, which is what docker.max_upload_size allows",
                    {"key": "docker.max_upload_size"},
                )
            )

    def refuse(self, error: Exception) -> Exception:
        """Note that nothing of the body counts, because of `error`."""
        self.refused = True
        return error

    def append(self, chunks: Sequence[bytes]) -> Deferred[None]:
        """Write the next chunks, unless they are more than there may be."""
        return Deferred.fromCoroutine(self._append(chunks))

    async def _append(self, chunks: Sequence[bytes]) -> None:
        count = sum(map(len, chunks))
        total = self._upload.size + count - self._start
        if self._expected is not None and total > self._expected:
            raise self.refuse(InvalidSize("the body is longer than it was said to be"))
        self.check(total)
        try:
            await self._upload.append(chunks)
        except Exception as error:
            raise self.refuse(error) from None
