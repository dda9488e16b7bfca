"""The seams above content: what `web` is handed beside `nora.pull.interfaces`."""

from __future__ import annotations

from typing import Protocol

import attrs

from nora.access import Rights
from nora.oci import Digest, Repository
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
