"""The seams of the store: what the rooms above use, whatever engine is behind it.

Two things are kept apart on purpose: local growing files (`nora.storage.growing`) from published blobs (`Blobs`), and
the bytes (`Blobs`) from the right to read them (the records of a repository).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred

from nora.oci import Descriptor, Digest, Hasher, Repository
from nora.oci.listing import TagList, TagPage
from nora.storage.growing import OpenUpload, Parts, Published, Trailing, Upload, Uploads, Writing, Written

R = TypeVar("R")

Stamp = tuple[int, int, int]
"""What changes whenever a record does: inode, modification time in nanoseconds, size in bytes."""


class Disk(Protocol):
    """The threads in which blocking work on files is done."""

    def run(self, work: Callable[..., R], *arguments: Any) -> Deferred[R]:
        """Call `work(*arguments)` in a thread of the disk's own pool; the result arrives on the reactor."""

    def edge(self, descriptor: int, start: int, stop: int) -> int:
        """Tell the offset up to which a file's bytes from `start` are in memory; at most `stop`. Never waits."""

    def bring(self, descriptor: int, start: int, stop: int) -> Deferred[None]:
        """Bring a file's bytes into memory, in a thread. Only a part of the threads do such work at once.

        Cancelling gives it up; the descriptor may then be closed.
        """


class Lock(Protocol):
    """A lock that is held. It is freed by `release`, and by the death of the process."""

    def release(self) -> None:
        """Free it; a second call does nothing."""


class Locks(Protocol):
    """One lock a key, across all processes of the store."""

    async def hold(self, key: str, wait: float = 0.0) -> Lock | None:
        """Take the lock of `key`, waiting up to `wait` seconds; None when another holds it still."""

    def held(self, key: str) -> bool:
        """Tell whether anyone, in any process, holds `key` now."""


@attrs.frozen
class Record:
    """A small JSON document and the stamp it was read at."""

    value: dict[str, Any]
    stamp: Stamp


class Records(Protocol):
    """Small JSON documents under relative keys such as `names/library/nginx/_owner`.

    The parts of a key are made by `nora.storage.repositories` from checked names alone.
    """

    async def get(self, key: str) -> Record | None:
        """Read a record; None when there is none, or when what is there is no JSON object."""

    async def put(self, key: str, value: dict[str, Any], *, durable: bool = True) -> None:
        """Write a record atomically. `durable=False` leaves out the fsync: a crash may bring the old one back."""

    async def remove(self, key: str) -> bool:
        """Delete a record; False when there was none."""

    def stamp(self, key: str) -> Stamp | None:
        """Tell a record's stamp by one `stat`; None when there is none."""

    async def page(self, prefix: str, after: str, limit: int) -> list[str]:
        """List, in byte order, up to `limit` names of records right under `prefix` that come after `after`."""


class File(Protocol):
    """A published blob, open for reading. It stays readable when the blob is removed meanwhile."""

    size: int
    descriptor: int

    def close(self) -> None:
        """Close it; a second call does nothing."""


class Blobs(Protocol):
    """Published byte strings: immutable, whole, verified before they came here."""

    async def open(self, digest: Digest, size: int | None = None) -> File | None:
        """Open a blob. One whose size is not the recorded `size` goes to quarantine, and is a miss: None."""

    def open_now(self, digest: Digest, size: int) -> File | None:
        """Open a blob at once; None when it is not there, or not of that size, which changes nothing."""

    def size(self, digest: Digest) -> int | None:
        """Tell a blob's size in bytes by one `stat`; None when it is not there."""

    async def read(self, digest: Digest, limit: int) -> bytes | None:
        """Read a whole blob of at most `limit` bytes; None when it is not there or larger."""

    async def add(self, data: bytes, digest: Digest) -> None:
        """Publish verified `data`: written, synced, renamed into place. Raises `NoSpace`."""

    async def publish(self, path: str, digest: Digest) -> None:
        """Publish the verified file at `path`, on the store's file system, by rename. Raises `NoSpace`."""

    async def remove(self, digest: Digest) -> bool:
        """Delete a blob's bytes; False when there were none."""


@attrs.frozen
class TagRecord:
    """What a tag of a proxied repository pointed at when it was last asked for."""

    descriptor: Descriptor
    upstream: str
    """The name of the upstream that said so."""
    checked_at: float
    """Seconds since the epoch."""


@attrs.frozen
class OwnerRecord:
    """What an unqualified name resolved to."""

    upstream: str
    namespace: str
    provisional: bool
    """An upstream earlier in the chain could not answer, so the next check begins at the head again."""
    since: float


class Repositories(Protocol):
    """The records of repositories, typed: tags, and the rights to read manifests and blobs.

    A right is a small record that names the size; bytes come before it, and it goes before the bytes do.
    """

    async def tag(self, repository: Repository, tag: str) -> TagRecord | None:
        """Read a tag."""

    async def put_tag(
        self, repository: Repository, tag: str, record: TagRecord, *, durable: bool = True
    ) -> None:
        """Write a tag, after its manifest is stored. `durable=False` when only `checked_at` changes."""

    async def remove_tag(self, repository: Repository, tag: str) -> bool:
        """Forget a tag."""

    async def manifest(self, repository: Repository, digest: Digest) -> Descriptor | None:
        """Read the right to read this manifest here: its media type and size."""

    async def link_manifest(self, repository: Repository, descriptor: Descriptor) -> None:
        """Record that right; the manifest's bytes are published already."""

    async def unlink_manifest(self, repository: Repository, digest: Digest) -> bool:
        """Take that right away; False when there was none."""

    async def blob(self, repository: Repository, digest: Digest) -> int | None:
        """Read the right to read this blob here: its size in bytes."""

    async def link_blob(self, repository: Repository, digest: Digest, size: int) -> None:
        """Record that right; the blob's bytes are published already."""

    async def unlink_blob(self, repository: Repository, digest: Digest) -> bool:
        """Take that right away; False when there was none. The bytes stay."""

    async def owner(self, name: str) -> OwnerRecord | None:
        """Tell what the unqualified `name` resolved to."""

    async def put_owner(self, name: str, record: OwnerRecord) -> None:
        """Remember what the unqualified `name` resolved to. For `Hosted.resolved`, which sees to it that it may."""

    async def remove_owner(self, name: str) -> bool:
        """Forget what the unqualified `name` resolved to."""

    async def tag_upstream(self, name: str, tag: str) -> OwnerRecord | None:
        """Tell which upstream had `tag` of the unqualified `name` when its owner did not."""

    async def put_tag_upstream(self, name: str, tag: str, record: OwnerRecord) -> None:
        """Remember that."""

    async def remove_tag_upstream(self, name: str, tag: str) -> bool:
        """Forget that."""


@attrs.frozen
class ListSource:
    """Who sent a list, by the upstream's name, and when, in seconds since the epoch."""

    upstream: str
    checked_at: float


@attrs.frozen
class ListedTags:
    """A part of a stored list of tags."""

    page: TagPage
    source: ListSource


@attrs.frozen
class ListedReferrers:
    """A stored index of referrers, as `nora.oci.listing` composes it."""

    body: bytes
    source: ListSource


class Lists(Protocol):
    """What upstreams listed for proxied repositories, each list whole."""

    async def tags(self, repository: Repository, last: bytes, limit: int) -> ListedTags | None:
        """Give up to `limit` tags after `last` of the stored list, as `TagList.page`; None when there is no list."""

    async def put_tags(self, repository: Repository, tags: TagList, source: ListSource) -> None:
        """Replace the stored list of tags. Raises `NoSpace`."""

    async def referrers(self, repository: Repository, subject: Digest) -> ListedReferrers | None:
        """Give the stored index of what refers to `subject`; None when there is none."""

    async def put_referrers(
        self, repository: Repository, subject: Digest, body: bytes, source: ListSource
    ) -> None:
        """Replace the stored index of what refers to `subject`. Raises `NoSpace`."""

    async def remove(self, repository: Repository) -> bool:
        """Forget all lists of a repository; False when there were none."""


@attrs.frozen
class Totals:
    """How much is stored: published blobs and their bytes."""

    blobs: int
    bytes: int


@attrs.frozen
class Space:
    """How much room the store's file system has for us, and in all; in bytes."""

    free: int
    total: int


class Index(Protocol):
    """What files cannot answer without a walk. Derived: losing it loses no right and no byte.

    The telling methods return at once and never fail; what they tell is written by a thread of the index's
    own within a second, and is visible to this process's own questions at once.
    """

    def stored(self, digest: Digest, size: int) -> None:
        """Tell that a blob was published."""

    def removed(self, digest: Digest) -> None:
        """Tell that a blob is gone."""

    def used(self, digest: Digest) -> None:
        """Tell that a blob or manifest was served now."""

    def listed(self, repository: Repository, children: Sequence[Descriptor]) -> None:
        """Tell what a stored manifest of `repository` lists: its blobs, or the manifests of an index."""

    def linked(self, repository: Repository, digest: Digest) -> None:
        """Tell that `repository` got the right to read a blob or manifest."""

    def unlinked(self, repository: Repository, digest: Digest) -> None:
        """Tell that it lost that right."""

    async def holders(self, digest: Digest, limit: int) -> list[Repository]:
        """List up to `limit` repositories that may read `digest`, hosted ones first; each is to be confirmed."""

    def appeared(self, repository: Repository) -> None:
        """Tell that `repository` has a manifest."""

    def emptied(self, repository: Repository) -> None:
        """Tell that `repository` has no manifest any more."""

    async def repositories(self, last: str, limit: int) -> list[Repository]:
        """List up to `limit` repositories after `last`, in the byte order of their full names."""

    async def flush(self) -> None:
        """Write what was told until now, so that other processes see it; a failure is logged, and tried again."""

    async def listed_size(self, repository: Repository, digest: Digest) -> int | None:
        """Tell the size, in bytes, that a stored manifest of `repository` gives for `digest`; None if none lists it."""

    async def totals(self) -> Totals:
        """Count what is stored."""


class Hosted(Protocol):
    """The names that are hosted here: once something was pushed to them, for ever.

    A name is hosted or has an owner, never both: `mark` and `resolved` are under one lock, in all processes.
    """

    def known(self, name: str) -> bool:
        """Tell, by one `stat`, whether `name` is hosted."""

    async def owned(self, name: str) -> bool:
        """Tell whether `name`, or for one component `library/<name>`, resolved to an upstream."""

    async def mark(self, name: str, *, covered: bool = False) -> bool:
        """Make `name` hosted, before anything is linked there; False, and it is not, where it is `owned`.

        `covered` tells that the configuration's `hosted` says so all the same: the owner is then forgotten.
        Raises `Overloaded` when another has the name's lock for too long, `NoSpace`.
        """

    async def resolved(self, name: str, record: OwnerRecord) -> bool:
        """Remember what the unqualified `name` resolved to; False, and nothing is written, where it is hosted."""


__all__ = [
    "Blobs",
    "Disk",
    "File",
    "Hasher",
    "Hosted",
    "Index",
    "ListSource",
    "ListedReferrers",
    "ListedTags",
    "Lists",
    "Lock",
    "Locks",
    "OpenUpload",
    "OwnerRecord",
    "Parts",
    "Published",
    "Record",
    "Records",
    "Repositories",
    "Space",
    "Stamp",
    "TagRecord",
    "Totals",
    "Trailing",
    "Upload",
    "Uploads",
    "Writing",
    "Written",
]
