"""The seam above push: what `web` is handed.

The caller passes the name and `ns` as the client sent them. Every method finds out what they mean, asks `rights`, and
raises the errors of `nora.oci.errors`: `NotAllowed`, `Denied` where pushing makes no sense (a cached repository, an
upstream's namespace), `InvalidDigest`, `NoSpace`, `TooLarge`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs

from nora.access import Rights
from nora.concurrency import Flow
from nora.oci import Digest, Reference, Repository


class Body(Flow, Protocol):
    """A request's body on its way in."""

    length: int | None
    """Its `Content-Length` in bytes; None when the client did not say."""


@attrs.frozen
class Session:
    """An upload session (distribution-spec, "Pushing blobs")."""

    id: str
    size: int
    """How many bytes it has."""


@attrs.frozen
class PushedManifest:
    """A manifest that was stored."""

    digest: Digest
    subject: Digest | None
    """What it says it refers to."""
    tags: tuple[str, ...]
    """The tags that point at it by this push."""


@attrs.frozen
class Target:
    """Where a push goes, as the client named it."""

    name: str
    ns: str | None = None


class Targets(Protocol):
    """What a name means for a push. Everything that stores something of a hosted repository asks here first."""

    async def resolve(self, target: Target, rights: Rights) -> Repository:
        """Tell the hosted repository that `target` means, which the client may push to.

        Raises `NotAllowed`, and `Denied` for what cannot be pushed to: the message says why, and which key decides.
        """

    async def host(self, repository: Repository) -> None:
        """Make the repository hosted. Call it before the first link of a blob or a manifest, after the bytes.

        Raises `Denied` where the name came to mean an upstream's repository meanwhile, `Overloaded`, `NoSpace`.
        """


class Push(Protocol):
    """What a client can push."""

    async def begin(self, target: Target, rights: Rights, algorithm: str = "sha256") -> Session:
        """Open an upload session, for a digest of `algorithm` as far as the client says.

        Raises `Overloaded` when there are too many.
        """

    async def mount(
        self, target: Target, digest: Digest, source: str | None, rights: Rights
    ) -> int | Session:
        """Let the repository have a blob that the client may read already: in `source`, or without one anywhere.

        Gives the blob's size; where it cannot be mounted, a new session.
        """

    async def upload(self, target: Target, digest: Digest, body: Body, rights: Rights) -> int:
        """Store a blob that comes in one request, and give its size. Nothing is left of one that fails."""

    async def append(
        self, target: Target, id: str, span: tuple[int, int] | None, body: Body, rights: Rights
    ) -> Session:
        """Add `body` at the end. `span` is the chunk's first byte and the one past its last, as the client says.

        A body that breaks off leaves what came, unless `span` told how long it is: then nothing of it counts.
        Raises `UploadUnknown`, `UploadOutOfOrder`, `InvalidSize`, `InvalidUpload` when another request writes to it,
        `RequestTooLarge` past `max_upload_size`, which ends the session, and what `body` fails with.
        """

    async def finish(
        self,
        target: Target,
        id: str,
        digest: Digest,
        span: tuple[int, int] | None,
        body: Body,
        rights: Rights,
    ) -> int:
        """Add `body`, if any, as `append`, and make the upload the blob `digest`; gives its size.

        A digest that does not match is `InvalidDigest`, and ends the session. `span` is for a `body` that has bytes.
        """

    async def status(self, target: Target, id: str, rights: Rights) -> Session:
        """Tell how far a session is."""

    async def cancel(self, target: Target, id: str, rights: Rights) -> None:
        """End a session, and forget its bytes."""

    async def manifest(
        self,
        target: Target,
        reference: Reference,
        media_type: str | None,
        body: bytes,
        tags: Sequence[str],
        rights: Rights,
    ) -> PushedManifest:
        """Store a manifest, under a tag, or by its digest and `tags` beside it.

        Raises `InvalidManifest`, `MissingContent`.
        """
