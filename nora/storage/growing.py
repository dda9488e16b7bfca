"""The seams of local growing files: parts of fills, and uploads. Published blobs are another thing.

The rooms above import them from `nora.storage.interfaces`, with all else that the store offers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import attrs
from twisted.internet.defer import Deferred

from nora.oci import Digest, Repository


@attrs.frozen
class Written:
    """What a follower in any process sees of a part: one `fstat`."""

    size: int
    verified: bool
    """The digest was verified: the last byte may be shown."""
    abandoned: bool
    """No link is left: the leader gave it up, or it was published and removed."""


@runtime_checkable
class Writing(Protocol):
    """A part that this process leads. Its appends must not overlap."""

    digest: Digest
    written: int
    """Bytes in the file."""
    size: int | None
    """The whole blob's size in bytes, from the sidecar or `describe`; None while it is not known."""

    def describe(self, size: int | None, repository: Repository, upstream: str) -> Deferred[None]:
        """Write the sidecar: what a follower elsewhere, or a later start, needs to know."""

    def append(self, chunks: Sequence[bytes]) -> Deferred[None]:
        """Write `chunks` at the end and hash behind the writing, in one hop. Raises `NoSpace`."""

    def draw(self, read: Callable[[memoryview], int], most: int) -> Deferred[int]:
        """Append what `read` puts into a buffer, hashed behind the writing, in one hop; tells how many bytes.

        `read` is called in the thread, until it tells 0 bytes or about `most` are written. Raises `NoSpace`.
        """

    def restart(self) -> Deferred[None]:
        """Give up what is written and begin again at 0, in a new inode."""

    def verify(self) -> Deferred[bool]:
        """Finish the hash and compare it; True marks the part verified, for followers in any process."""

    def publish(self) -> Deferred[None]:
        """Sync and rename the verified part into the blobs, and free the lock. Raises `NoSpace`."""

    def abandon(self, *, keep: bool) -> Deferred[None]:
        """Stop leading and free the lock. `keep` leaves the bytes for a resumption; else they are unlinked."""

    def open(self) -> int:
        """Give a new descriptor for reading the file; the caller closes it."""


class Trailing(Protocol):
    """A part that another process leads."""

    digest: Digest

    def look(self) -> Written:
        """Look at the file now."""

    def size(self) -> int | None:
        """Tell the whole blob's size from the sidecar, None when it is not known yet."""

    def led(self) -> bool:
        """Tell whether anyone still leads it."""

    def open(self) -> int:
        """Give a new descriptor for reading the file; the caller closes it."""

    def close(self) -> None:
        """Stop looking."""


@attrs.frozen
class Published:
    """The blob is there already: no part is needed."""

    digest: Digest


class Upload(Protocol):
    """An upload session's growing file, while one request has it. Its methods must not overlap."""

    id: str
    repository: Repository
    user: str | None
    """Whose session it is; None for an anonymous client's."""
    size: int
    """Bytes in the file."""

    def append(self, chunks: Sequence[bytes]) -> Deferred[None]:
        """Write `chunks` at the end, and hash them as they go, in one hop. Raises `NoSpace`."""

    def truncate(self, size: int) -> Deferred[None]:
        """Forget what is past `size` bytes."""

    def digest(self, algorithm: str) -> Deferred[Digest]:
        """Tell the digest of the whole file: at once where it was hashed as it came, else by one reading."""

    def publish(self, digest: Digest) -> Deferred[None]:
        """Sync the file, whose digest the caller has compared, and rename it into the blobs; the session ends."""

    def discard(self) -> Deferred[None]:
        """End the session, and unlink its file."""

    def close(self) -> None:
        """Let the next request have it; a second call, or one after the end, does nothing."""


@attrs.frozen
class OpenUpload:
    """An upload session as one sees it who only looks. Times are in seconds since the epoch."""

    repository: Repository
    user: str | None
    began: float
    written_at: float
    """When bytes came last."""
    size: int
    """Bytes in the file."""


class Uploads(Protocol):
    """Upload sessions. They survive a restart."""

    async def begin(self, repository: Repository, user: str | None, algorithm: str = "sha256") -> Upload:
        """Begin a session whose bytes are hashed by `algorithm` as they come.

        Raises `Overloaded` when there are too many, `NoSpace`.
        """

    async def open(self, id: str) -> Upload | None:
        """Take a session for one request; None when there is none, or when `id` is none of ours.

        Raises `InvalidUpload` while another request has it.
        """

    async def seen(self, most: int) -> list[OpenUpload]:
        """Tell which sessions are open, of all processes: `most` of them, the one that was written to last first."""

    async def sweep(self, age: float, idle: float) -> int:
        """End the sessions that began `age` seconds ago, or had nothing written for `idle`; gives their number."""


class Parts(Protocol):
    """Growing files. Whoever holds a fill's lock leads it; all others trail."""

    async def claim(self, digest: Digest) -> Writing | Trailing | Published:
        """Lead the part of `digest` when nobody does, from where it stands; else trail it."""

    def free(self) -> int:
        """Tell the bytes that the store's file system has free."""
