"""In-memory stand-ins for what `nora.push` and `nora.content` give; `tests/web` builds on their promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, succeed

from nora.access import Action, Rights
from nora.content.interfaces import CatalogPage
from nora.oci import Digest, Reference, Repository, Tag
from nora.oci.errors import (
    BlobUnknown,
    InvalidDigest,
    InvalidSize,
    InvalidUpload,
    ManifestUnknown,
    UploadOutOfOrder,
    UploadUnknown,
)
from nora.push.interfaces import Body, PushedManifest, Session, Target


class FakePush:
    """A registry in memory. `gate` delays every call before it does anything; `taken` hears of each chunk."""

    def __init__(self) -> None:
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[bytes, str | None]] = {}
        self.sessions: dict[str, bytes] = {}
        self.busy: set[str] = set()
        self.calls: list[tuple[str, Target]] = []
        self.users: list[str | None] = []
        self.error: Exception | None = None
        self.broken: list[BaseException] = []
        self.gate: Callable[[], Deferred[None]] = lambda: succeed(None)
        self.taken: Callable[[Body, bytes], None] = lambda body, chunk: None
        self.subject: Digest | None = None

    async def begin(self, target: Target, rights: Rights, algorithm: str = "sha256") -> Session:
        """Open a session."""
        await self._enter("begin", target, rights)
        id = f"s{len(self.calls)}"
        self.sessions[id] = b""
        return Session(id, 0)

    async def mount(
        self, target: Target, digest: Digest, source: str | None, rights: Rights
    ) -> int | Session:
        """Copy a blob from `source`, or from anywhere."""
        await self._enter(f"mount {source}", target, rights)
        for (name, held), data in list(self.blobs.items()):
            if held == str(digest) and source in (None, name):
                self.blobs[target.name, held] = data
                return len(data)
        return await self.begin(target, rights)

    async def upload(self, target: Target, digest: Digest, body: Body, rights: Rights) -> int:
        """Take a blob at once."""
        await self._enter("upload", target, rights)
        data = await self._read(body)
        self._keep(target, digest, data)
        return len(data)

    async def append(
        self, target: Target, id: str, span: tuple[int, int] | None, body: Body, rights: Rights
    ) -> Session:
        """Take a chunk."""
        await self._enter("append", target, rights)
        return await self._append(id, span, body)

    async def finish(
        self,
        target: Target,
        id: str,
        digest: Digest,
        span: tuple[int, int] | None,
        body: Body,
        rights: Rights,
    ) -> int:
        """Take the last chunk."""
        await self._enter("finish", target, rights)
        session = await self._append(id, span, body)
        self._keep(target, digest, self.sessions.pop(id))
        return session.size

    async def status(self, target: Target, id: str, rights: Rights) -> Session:
        """Tell a session's size."""
        await self._enter("status", target, rights)
        return Session(id, len(self._session(id)))

    async def cancel(self, target: Target, id: str, rights: Rights) -> None:
        """Forget a session."""
        await self._enter("cancel", target, rights)
        self._session(id)
        del self.sessions[id]

    async def manifest(
        self,
        target: Target,
        reference: Reference,
        media_type: str | None,
        body: bytes,
        tags: Sequence[str],
        rights: Rights,
    ) -> PushedManifest:
        """Keep a manifest."""
        await self._enter("manifest", target, rights)
        digest = reference if isinstance(reference, Digest) else Digest.of(body)
        names = [reference.name, *tags] if isinstance(reference, Tag) else list(tags)
        for name in (str(digest), *names):
            self.manifests[target.name, name] = (body, media_type)
        return PushedManifest(digest, self.subject, tuple(names))

    async def _enter(self, what: str, target: Target, rights: Rights) -> None:
        self.calls.append((what, target))
        self.users.append(rights.user)
        await self.gate()
        rights.require(Action.PUSH, target.name)
        if self.error is not None:
            raise self.error

    def _session(self, id: str) -> bytes:
        if id not in self.sessions:
            raise UploadUnknown("no such upload")
        return self.sessions[id]

    def _keep(self, target: Target, digest: Digest, data: bytes) -> None:
        if Digest.of(data, digest.algorithm) != digest:
            raise InvalidDigest("the content has another digest")
        self.blobs[target.name, str(digest)] = data

    async def _append(self, id: str, span: tuple[int, int] | None, body: Body) -> Session:
        size = len(self._session(id))
        if id in self.busy:
            raise InvalidUpload("another request writes to it")
        if span is not None and span[0] != size:
            raise UploadOutOfOrder(size)
        if span is not None and body.length is not None and body.length != span[1] - span[0]:
            raise InvalidSize("the chunk has another length")
        self.busy.add(id)
        try:
            await self._read(body, id)
        finally:
            self.busy.discard(id)
        return Session(id, len(self.sessions[id]))

    async def _read(self, body: Body, id: str | None = None) -> bytes:
        chunks: list[bytes] = []

        def take(chunk: bytes) -> None:
            chunks.append(chunk)
            self.taken(body, chunk)

        try:
            await body.deliver(take)
        except BaseException as error:
            self.broken.append(error)
            raise
        finally:
            if id is not None:
                self.sessions[id] += b"".join(chunks)
        return b"".join(chunks)


class FakeContents:
    """The removal and the catalog of what a `FakePush` holds."""

    def __init__(self, push: FakePush) -> None:
        self._push = push
        self.names: list[str] = []

    async def tag(self, target: Target, tag: str, rights: Rights) -> None:
        """Remove a tag."""
        rights.require(Action.DELETE, target.name)
        if self._push.manifests.pop((target.name, tag), None) is None:
            raise ManifestUnknown("no such tag")

    async def manifest(self, target: Target, digest: Digest, rights: Rights) -> None:
        """Remove a manifest and its tags."""
        rights.require(Action.DELETE, target.name)
        removed = self._push.manifests.get((target.name, str(digest)))
        if removed is None:
            raise ManifestUnknown("no such manifest")
        for key in [key for key, held in self._push.manifests.items() if held == removed]:
            if key[0] == target.name:
                del self._push.manifests[key]

    async def blob(self, target: Target, digest: Digest, rights: Rights) -> None:
        """Remove a blob."""
        rights.require(Action.DELETE, target.name)
        if self._push.blobs.pop((target.name, str(digest)), None) is None:
            raise BlobUnknown("no such blob")

    async def repositories(self, last: str, limit: int, rights: Rights) -> CatalogPage:
        """List names."""
        rights.require(Action.PULL, "")
        after = [name for name in sorted(self.names) if name > last]
        return CatalogPage(tuple(after[:limit]), len(after) > limit)

    async def shows(self, repository: Repository, rights: Rights) -> bool:
        """Show all that may be pulled."""
        return rights.allows(Action.PULL, repository)
