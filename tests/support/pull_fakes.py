"""In-memory stand-ins for what `nora.pull` gives: a pull, blobs that grow, and their readers.

`tests/web/test_fakes.py` holds them to what `nora.pull.interfaces` promises.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import TypeVar

import attrs
from twisted.internet.defer import Deferred, fail, succeed

from nora.access import Action, Rights
from nora.concurrency import Waiters
from nora.oci import Descriptor, Digest, Reference, Repository
from nora.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown
from nora.oci.listing import NO_REFERRERS, TagList, TagPage, filter_referrers
from nora.pull.interfaces import Answer, Cached, Content, Reader, Served
from nora.upstream.interfaces import Route

T = TypeVar("T")


class FakeContent:
    """A blob of `data`, of which `available` bytes are there; as a file when `on_disk`."""

    def __init__(self, data: bytes, *, available: int | None = None, on_disk: bool = True) -> None:
        self.data = data
        self.size = len(data)
        self.available = self.size if available is None else available
        self.is_verified = available is None
        self.on_disk = on_disk
        self.error: Exception | None = None
        self.unlinked = False
        self.descriptors_left = True
        """Whether somebody can open it again, both."""
        self.closed = 0
        self.readers: list[FakeReader] = []
        self._changed: Waiters[None] = Waiters()
        self._verified: Waiters[None] = Waiters()

    def verified(self) -> Deferred[None]:
        """Wait for `verify`, or for `break_off`."""
        if self.error is not None:
            return fail(self.error)
        return succeed(None) if self.is_verified else self._verified.wait()

    async def reader(self, start: int, stop: int) -> Reader:
        """Give a reader."""
        reader = FakeReader(self, start, stop)
        self.readers.append(reader)
        return reader

    def again(self) -> Reader | None:
        """Give another reader, unless it is unlinked; `OSError` when no descriptors are left."""
        if not self.descriptors_left:
            raise OSError(24, "too many open files")
        if self.unlinked:
            return None
        reader = FakeReader(self, 0, self.size)
        self.readers.append(reader)
        return reader

    def close(self) -> None:
        """Count the closings."""
        self.closed += 1

    def grow(self, count: int) -> None:
        """Let `count` more bytes be there."""
        self.available = min(self.size, self.available + count)
        self._changed.succeed(None)

    def verify(self) -> None:
        """Let all of it be there, verified."""
        self.available = self.size
        self.is_verified = True
        self._changed.succeed(None)
        self._verified.succeed(None)

    def break_off(self, error: Exception) -> None:
        """Let it fail with `error` for everybody."""
        self.error = error
        self._changed.fail(error)
        self._verified.fail(error)

    def changed(self) -> Deferred[None]:
        """Wait for the next of these."""
        return self._changed.wait()

    def shown(self) -> int:
        """Tell the offset up to which bytes may go out: the last one is held back until verified."""
        return self.available if self.is_verified else min(self.available, self.size - 1)


class FakeReader:
    """A reader of a `FakeContent`."""

    def __init__(self, content: FakeContent, start: int, stop: int) -> None:
        self.content = content
        self.position = start
        self.stop = stop
        self.closed = 0
        self.reads = 0
        self.descriptor: int | None = None
        self._file: int | None = None
        if content.on_disk:
            self._file = self.descriptor = self._open(content.data)

    @staticmethod
    def _open(data: bytes) -> int:
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            return os.dup(file.fileno())

    def ready(self, want: int = 0) -> int:
        """Tell how many bytes may go out."""
        return max(0, min(self.stop, self.content.shown()) - self.position)

    def more(self) -> Deferred[None]:
        """Wait for some."""
        if self.content.error is not None:
            return fail(self.content.error)
        if self.ready() or self.position >= self.stop:
            return succeed(None)
        return self.content.changed().addCallback(lambda _: self.more())

    def advance(self, sent: int) -> None:
        """Take note of bytes that went out."""
        assert 0 <= sent <= self.ready()
        self.position += sent

    async def read(self, limit: int) -> bytes:
        """Read."""
        if self.position >= self.stop:
            return b""
        if not self.ready():
            await self.more()
        if self.content.error is not None:
            raise self.content.error
        count = min(limit, self.ready())
        data = self.content.data[self.position : self.position + count]
        self.position += count
        self.reads += 1
        return data

    def truncate(self, size: int) -> None:
        """Cut the file, as nothing but a broken disk should."""
        assert self._file is not None
        os.ftruncate(self._file, size)

    def close(self) -> None:
        """Close the file, and count the closings."""
        self.closed += 1
        self.descriptor = None
        if self._file is not None:
            os.close(self._file)
            self._file = None


class FakePull:
    """A pull that has what it is told to have. `gate` delays every answer until it fires."""

    def __init__(self) -> None:
        self.manifests: dict[str, tuple[Descriptor, bytes | None]] = {}
        self.blobs: dict[str, FakeContent] = {}
        self.cached = Cached.HIT
        self.upstream: str | None = "hub"
        self.error: Exception | None = None
        self.gate: Callable[[], Deferred[None]] = lambda: succeed(None)
        self.calls: list[tuple[str, str, str]] = []
        self.cancelled = 0

    def add_manifest(self, body: bytes, media_type: str, *references: str) -> Digest:
        """Have a manifest under its digest and `references`."""
        descriptor = Descriptor(media_type, Digest.of(body), len(body))
        for name in (str(descriptor.digest), *references):
            self.manifests[name] = (descriptor, body)
        return descriptor.digest

    def add_blob(self, data: bytes, **how: object) -> tuple[Digest, FakeContent]:
        """Have a blob under its digest; `how` as for `FakeContent`."""
        digest = Digest.of(data)
        content = self.blobs[str(digest)] = FakeContent(data, **how)  # type: ignore[arg-type]
        return digest, content

    async def manifest(self, route: Route, reference: Reference, rights: Rights) -> Served[Answer]:
        """Give a manifest."""
        await self._enter("manifest", route, str(reference), rights)
        if str(reference) not in self.manifests:
            raise ManifestUnknown("no such manifest")
        return self._served(route, Answer(*self.manifests[str(reference)]))

    async def describe(self, route: Route, reference: Reference, rights: Rights) -> Served[Answer]:
        """Give a manifest's descriptor."""
        await self._enter("describe", route, str(reference), rights)
        if str(reference) not in self.manifests:
            raise ManifestUnknown("no such manifest")
        return self._served(route, Answer(self.manifests[str(reference)][0], None))

    async def blob(self, route: Route, digest: Digest, rights: Rights) -> Served[Content]:
        """Give a blob."""
        await self._enter("blob", route, str(digest), rights)
        if str(digest) not in self.blobs:
            raise BlobUnknown("no such blob")
        content: Content = self.blobs[str(digest)]
        return self._served(route, content)

    async def describe_blob(self, route: Route, digest: Digest, rights: Rights) -> Served[int]:
        """Give a blob's size."""
        await self._enter("describe_blob", route, str(digest), rights)
        if str(digest) not in self.blobs:
            raise BlobUnknown("no such blob")
        return self._served(route, self.blobs[str(digest)].size)

    async def _enter(self, what: str, route: Route, reference: str, rights: Rights) -> None:
        rights.require(Action.PULL, route.name)
        self.calls.append((what, route.name, reference))
        try:
            await self.gate()
        except BaseException:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error

    def _served(self, route: Route, content: T) -> Served[T]:
        repository = Repository(route.namespace or "docker.io", route.name)
        return Served(content, repository, self.cached, self.upstream)


class FakeDiscovery:
    """A discovery that has the lists it is told to have."""

    def __init__(self) -> None:
        self.tag_lists: dict[str, TagList] = {}
        self.indexes: dict[str, bytes] = {}
        """By digest, and by digest and `last`."""
        self.following: dict[str, str] = {}
        self.cached = Cached.HIT
        self.error: Exception | None = None
        self.calls: list[tuple[str, str, object]] = []

    async def tags(self, route: Route, last: bytes, limit: int, rights: Rights) -> Served[TagPage]:
        """Give a page of tags."""
        self._enter("tags", route, (last, limit), rights)
        if route.name not in self.tag_lists:
            raise NameUnknown("no such repository")
        return self._served(route, self.tag_lists[route.name].page(last, limit))

    async def referrers(
        self, route: Route, digest: Digest, artifact_type: str | None, rights: Rights, last: str = ""
    ) -> Served[bytes]:
        """Give an index."""
        self._enter("referrers", route, str(digest), rights)
        body = self.indexes.get(f"{digest}{last}", NO_REFERRERS)
        part = body if artifact_type is None else filter_referrers(body, artifact_type)
        return attrs.evolve(self._served(route, part), following=self.following.get(f"{digest}{last}"))

    def _enter(self, what: str, route: Route, asked: object, rights: Rights) -> None:
        rights.require(Action.PULL, route.name)
        self.calls.append((what, route.name, asked))
        if self.error is not None:
            raise self.error

    def _served(self, route: Route, content: T) -> Served[T]:
        return Served(content, Repository(route.namespace or "docker.io", route.name), self.cached, "hub")


class FakeRouting:
    """A routing with no upstreams: every name is a route of its own, and `ns` is echoed."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked: list[tuple[str, str | None]] = []

    def route(self, name: str, ns: str | None = None) -> Route:
        """Give the route, or raise `error`."""
        self.asked.append((name, ns))
        if self.error is not None:
            raise self.error
        return Route(name, (), ns is not None, ns)
