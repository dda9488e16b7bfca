"""The catalog: all repositories that have a manifest here, hosted and cached alike.

The index knows them in byte order; who may see one is decided for each, from the rules and from the records of what is
private. A page looks at a few hundred repositories at a time, and lets other requests have their turn in between.
"""

from __future__ import annotations

from typing import Protocol

from nora.access import Action, Rights
from nora.access.rights import full_name
from nora.content.interfaces import CatalogPage
from nora.oci import Repository
from nora.oci.errors import NotAllowed
from nora.oci.reference import LOCAL
from nora.storage.interfaces import Index

_STEP = 200
MOST = 20_000


class Shown(Protocol):
    """What knows which cached repositories are private; see `nora.pull.privacy.Privacy`."""

    async def shows(self, repository: Repository, rights: Rights) -> bool:
        """Tell whether the client may know of `repository`, from what is recorded alone."""


class IndexedCatalog:
    """See `nora.content.interfaces.Catalog`."""

    def __init__(self, index: Index, privacy: Shown, most: int = MOST) -> None:
        """`most` is how many repositories one page looks at, once it has a name to go on from."""
        self._index = index
        self._privacy = privacy
        self._most = most

    async def repositories(self, last: str, limit: int, rights: Rights) -> CatalogPage:
        """List up to `limit` repositories after `last` that the client may pull, by their full names.

        A page can be shorter though `more` follow. Raises `NotAllowed` for who may pull nothing at all.
        """
        if Action.PULL not in rights.actions:
            raise NotAllowed("pull is not allowed")
        found: list[str] = []
        seen = 0
        while True:
            step = await self._index.repositories(last, _STEP)
            for repository in step:
                last = full_name(repository)
                if last in found[-1:] or not await self.shows(repository, rights):
                    continue
                if len(found) >= limit:
                    return CatalogPage(tuple(found), True)
                found.append(last)
            seen += len(step)
            if len(step) < _STEP:
                return CatalogPage(tuple(found), False)
            if found and seen >= self._most:
                return CatalogPage(tuple(found), True)

    async def shows(self, repository: Repository, rights: Rights) -> bool:
        """Tell whether the client may know of `repository`: it may pull it, by the rules and by what is private."""
        if not rights.allows(Action.PULL, repository):
            return False
        return repository.namespace == LOCAL or await self._privacy.shows(repository, rights)
