"""The seams of the upstream room: one registry, one transfer, a routed name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred

from nora.concurrency import Tap
from nora.oci import Descriptor, Digest, Manifest, Reference, Repository
from nora.oci.errors import Unavailable
from nora.oci.listing import TagList


class Incoming(Protocol):
    """One body on its way from an upstream. Nothing is read before `deliver`."""

    size: int | None
    """The whole blob's size in bytes; None when the upstream did not say."""
    start: int
    """The offset of the first byte that will be delivered: the one asked for, or 0 if the upstream knows no ranges."""

    def deliver(self, sink: Callable[[bytes], None]) -> Deferred[None]:
        """Begin, once. `sink` is called with each chunk; the Deferred fires at a clean end and fails with `Broken`.

        A clean end is the last byte of `size`, or where that is None the end of the chunks. Silence for the upstream's
        `read_timeout` while not paused is `Broken` too, and so are more bytes than `size`. Cancelling the Deferred
        aborts. What `sink` raises aborts, and is what the Deferred fails with.
        """

    def tap(self) -> Tap | None:
        """Let a thread read the rest straight from the socket. At most once, after `deliver` and while not paused.

        None where it cannot, and nothing is changed. Else the sink gets nothing until `Tap.ready` was False; what is
        told of silence, of the end and of giving up holds as before.
        """

    def pause(self) -> None:
        """Stop reading from the socket until `resume`; the time of silence stands still.

        Bytes that were read already, at most 128 KiB, may still reach the sink, and so may the end.
        """

    def resume(self) -> None:
        """Go on reading."""

    def abort(self) -> None:
        """Close the connection; `deliver`'s Deferred fails with `Broken`. Before `deliver`: drop the body."""


class Breaker(Protocol):
    """What a chain asks before it asks an upstream; see `nora.upstream.circuit`."""

    def objection(self) -> Unavailable | None:
        """Tell why the upstream is better not asked while another one is left; None when nothing speaks against it."""


class Upstream(Protocol):
    """One remote registry.

    Every method raises one of the outcomes: `outcomes.Absent`, `errors.Limited`, `errors.Unavailable` (of which
    `TimedOut` and a lie, `Unverified`, are kinds); the message is the reason, without the upstream's name, a
    secret or a signed URL. Cancelling the Deferred ends the exchange.
    """

    name: str
    """What configuration and records call it: host and port of its URL unless configured."""
    namespace: str
    """The registry's name in image references, such as `docker.io`."""

    @property
    def circuit(self) -> Breaker:
        """Its circuit breaker."""

    def pulls_left(self) -> int | None:
        """Tell how many more manifests its rate limit lets us GET, as it last said; None when it says nothing."""

    async def describe(self, repository: str, reference: Reference) -> Descriptor:
        """Ask for a manifest's descriptor: HEAD, and GET only where HEAD does not tell the digest."""

    async def manifest(self, repository: str, reference: Reference) -> Manifest:
        """Get a manifest, verified against the digest where one is known."""

    async def describe_blob(self, repository: str, digest: Digest) -> int | None:
        """Confirm that the repository has the blob: HEAD, no bytes. Gives its size, None when not told."""

    async def blob(self, repository: str, digest: Digest, start: int = 0) -> Incoming:
        """Begin a transfer of the blob from `start`; answers at the response's headers."""

    async def tags(self, repository: str) -> TagList:
        """List the repository's tags, all of them."""

    async def referrers(self, repository: str, digest: Digest) -> bytes:
        """List what refers to a manifest: a whole index as `nora.oci.listing` composes it.

        `Absent` that is not `denied`: nothing does, as far as the upstream can tell.
        """


@attrs.frozen
class Candidate:
    """One place where a name may be: `upstream`, and what the `repository` is called in its namespace."""

    repository: Repository
    upstream: Upstream


def repositories_of(candidates: Iterable[Candidate]) -> list[tuple[Repository, str]]:
    """List the candidates' repositories in order, each once, with the name of the first upstream for it."""
    seen: dict[Repository, str] = {}
    for candidate in candidates:
        seen.setdefault(candidate.repository, candidate.upstream.name)
    return list(seen.items())


@attrs.frozen
class Route:
    """A client's name, resolved to where it may be, in order. It does no lookups: only rules made it."""

    name: str
    """The repository as the client named it."""
    candidates: tuple[Candidate, ...]
    qualified: bool
    """The client named the namespace, so all candidates share one repository; else records tell the owner."""
    namespace: str | None = None
    """What `OCI-Namespace` echoes when the client sent `ns`."""
    hosted: bool = False
    """The configuration keeps the name from every upstream."""
    refused: str | None = None
    """Why nothing may be pulled by this name unless it is hosted here; None where something may."""
    partial: bool = False
    """Candidates that this client may not have were left out, so what it gets says nothing of the name's owner."""
