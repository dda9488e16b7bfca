"""The seams above content: what `web` is handed beside `nora.pull.interfaces`."""

from __future__ import annotations

import enum
from typing import Protocol

import attrs

from nora.access import Rights
from nora.oci import Digest, Reference, Repository, Tag
from nora.push.interfaces import Target


@attrs.frozen
class CatalogPage:
    """A part of the list of repositories, in byte order; `more` tells that others follow."""

    names: tuple[str, ...]
    more: bool


class Catalog(Protocol):
    """The repositories that are here."""

    async def repositories(self, last: str, limit: int, rights: Rights) -> CatalogPage:
        """List up to `limit` repositories after `last` that the client may pull, by their full names."""

    async def shows(self, repository: Repository, rights: Rights) -> bool:
        """Tell whether the client may know of `repository`, from what is recorded alone."""


class Removal(Protocol):
    """What a client can remove from a hosted repository (distribution-spec, "Deleting").

    Every method raises `NotAllowed`, `Denied` for a cached repository, and the `Unknown` that fits. What it removes is
    gone for the next request to any worker.
    """

    async def tag(self, target: Target, tag: str, rights: Rights) -> None:
        """Remove a tag; its manifest stays."""

    async def manifest(self, target: Target, digest: Digest, rights: Rights) -> None:
        """Remove a manifest, and with it the tags that point at it."""

    async def blob(self, target: Target, digest: Digest, rights: Rights) -> None:
        """Remove a blob from the repository; it is `Denied` while a manifest there lists it."""


@attrs.frozen
class Standing:
    """What a name stands for to one client."""

    hosted: bool
    places: tuple[Repository, ...]
    """The hosted repository, or those of the cached ones that the rules let the client administer."""
    may: bool
    """The client may remove from what is hosted, or purge what is cached."""


class Outcome(enum.Enum):
    """What became of an action."""

    DELETED = "deleted"
    PURGED = "purged"
    UNCHANGED = "unchanged"
    """The upstream says the same as before."""
    MOVED = "moved"
    """The tag names another image now, which is here."""
    SPARED = "spared"
    """The tag names another image, which was not fetched: the upstream's rate limit is nearly used up."""
    FORGOTTEN = "forgotten"
    """No upstream has the tag any more, so it is gone from here."""


@attrs.frozen
class Done:
    """What was done. `before` and `after` are what a refreshed tag names, `upstream` is who said so."""

    outcome: Outcome
    before: Digest | None = None
    after: Digest | None = None
    upstream: str | None = None


class Administration(Protocol):
    """What the administrator of a repository does to it from the pages.

    Every method raises `NotAllowed` for who is none, `NameUnknown`, and the `Unknown` that fits. What it changes is so
    for the next request to any worker.
    """

    def standing(self, target: Target, rights: Rights) -> Standing:
        """Tell what a name stands for."""

    async def purge(self, target: Target, reference: Reference | None, rights: Rights) -> Done:
        """Forget what is cached: a tag, a manifest with its tags, or everything. `Denied` for what is hosted."""

    async def delete(self, target: Target, reference: Reference, rights: Rights) -> Done:
        """Delete what is hosted: a tag, or a manifest with its tags. `Denied` for what is cached, or immutable."""

    async def refresh(self, target: Target, tag: Tag, rights: Rights) -> Done:
        """Ask the upstreams now what a cached tag names. `Denied` for what is hosted; raises what they come to."""
