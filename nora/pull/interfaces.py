"""The seams above pull: what `web` is handed, whatever stands behind it."""

from __future__ import annotations

import enum
from typing import Generic, Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred

from nora.access import Rights
from nora.oci import Descriptor, Digest, Reference, Repository
from nora.oci.listing import TagPage
from nora.upstream.interfaces import Route

T = TypeVar("T")


class Cached(enum.Enum):
    """How the cache did; the words of `Cache-Status` (RFC 9211) are made of it."""

    HIT = "hit"
    """From the store, without a body from upstream."""
    STALE = "stale"
    """From the store, though its freshness could not be confirmed."""
    QUOTA = "quota"
    """From the store though the tag moved: the upstream's rate limit is nearly used up."""
    MISS = "miss"
    """A body is, or was just now, fetched from an upstream for this answer, and is stored."""
    FOLLOWED = "followed"
    """A fill that another request started is followed: RFC 9211 calls it `collapsed`."""
    BYPASS = "bypass"
    """Fetched for this client alone and not stored: no space, or a far range."""

    @property
    def stored(self) -> bool:
        """No body moved from an upstream for it."""
        return self in (Cached.HIT, Cached.STALE, Cached.QUOTA)


@attrs.frozen
class Served(Generic[T]):
    """An answer and where it came from. `upstream` is None when no upstream is known for it."""

    content: T
    repository: Repository
    cached: Cached
    upstream: str | None
    following: str | None = None
    """What to ask for next as `last`, where this is a part of a list that has no other way to tell."""


@attrs.frozen
class Answer:
    """A manifest as it goes out. `body` is None when only HEAD was asked and it is not stored."""

    descriptor: Descriptor
    body: bytes | None


class Reader(Protocol):
    """One client's way through one blob's bytes; it may change its source under way without the client noticing.

    Bytes go out in order from `position` to `stop`. Either by `sendfile`: when `descriptor` is not None, up to
    `ready()` bytes at file offset `position` of it may be sent, then `advance(n)` tells how many were. Or by
    `read`, which advances by itself. `descriptor` may change, also to None, whenever `more` fires: ask again.
    """

    position: int
    """Offset in the blob of the next byte to send."""
    stop: int
    """Offset past the last byte to send."""
    descriptor: int | None

    def ready(self, want: int = 0) -> int:
        """Tell how many bytes may go out now; the blob's last one is held back until the digest is verified.

        Of more than a few MiB it tells only when that many are wanted.
        """

    def more(self) -> Deferred[None]:
        """Wait until `ready()` is more than 0, or all was sent; a Deferred of the caller's own.

        Fails with `Unverified` or `Broken`.
        """

    def advance(self, sent: int) -> None:
        """Tell that `sent` bytes, at most `ready()`, went out by `sendfile`."""

    async def read(self, limit: int) -> bytes:
        """Give up to `limit` bytes, at least one unless all was sent, and advance; waits for them. Fails as `more`."""

    def close(self) -> None:
        """Free everything; a second call does nothing. The fill, if any, goes on."""


class Content(Protocol):
    """A blob that may be sent: whole in the store, growing here, growing elsewhere, or remote."""

    size: int

    def verified(self) -> Deferred[None]:
        """Wait until the whole blob is verified. A Deferred of the caller's own; fails as `Reader.more` does."""

    async def reader(self, start: int, stop: int) -> Reader:
        """Give a reader of the bytes from `start` up to `stop`, 0 <= start <= stop <= size."""

    def again(self) -> Reader | None:
        """Give a reader of all of it, at once and at any time, also after `close`; None when that cannot be.

        Raises `OSError` when the disk fails or descriptors run out.
        """

    def close(self) -> None:
        """Tell that no more readers will be asked for but by `again`; those given stay valid."""


class Pull(Protocol):
    """What a client can pull. Every method asks `rights` first and raises the errors of `nora.oci.errors`."""

    async def manifest(self, route: Route, reference: Reference, rights: Rights) -> Served[Answer]:
        """GET of a manifest."""

    async def describe(self, route: Route, reference: Reference, rights: Rights) -> Served[Answer]:
        """HEAD of a manifest: nothing is stored that was not, and `body` may be None."""

    async def blob(self, route: Route, digest: Digest, rights: Rights) -> Served[Content]:
        """GET of a blob: answers as soon as its size is known."""

    async def describe_blob(self, route: Route, digest: Digest, rights: Rights) -> Served[int]:
        """HEAD of a blob: its size in bytes. Moves no bytes."""


class Discovery(Protocol):
    """What a client can learn of a repository. Every method asks `rights` first, and raises as `Pull` does."""

    async def tags(self, route: Route, last: bytes, limit: int, rights: Rights) -> Served[TagPage]:
        """List up to `limit` tags that come after `last` in byte order; raises `NameUnknown`."""

    async def referrers(
        self, route: Route, digest: Digest, artifact_type: str | None, rights: Rights, last: str = ""
    ) -> Served[bytes]:
        """List what refers to a manifest, of one type of artifact or all: an index, empty when nothing surely does.

        It has at most 4 MiB; where more refer to it, `Served.following` is the `last` that goes on. The list of a
        proxied repository is whole. Raises `NameUnknown`.
        """
