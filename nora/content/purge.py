"""Purging what is cached: an administrator's removal. The next pull asks the upstream again.

A purge takes rights and tags away, never bytes, which other repositories may link. What a transfer or a check that is
under way brings back counts as asked for after the purge.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults

from nora.oci import Digest, Repository
from nora.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown
from nora.storage.holdings import Holdings
from nora.storage.interfaces import Index, Lists, Repositories
from nora.storage.inventory import Inventory

T = TypeVar("T")
_AT_ONCE = 4
"""Half of the disk's threads."""


class Purge:
    """Removes from cached repositories. A name may mean several: what any of them has of it goes."""

    def __init__(
        self,
        repositories: Repositories,
        holdings: Holdings,
        inventory: Inventory,
        lists: Lists,
        index: Index,
    ) -> None:
        self._repositories = repositories
        self._holdings = holdings
        self._inventory = inventory
        self._lists = lists
        self._index = index

    async def everything(self, name: str, places: Sequence[Repository]) -> None:
        """Forget all tags, manifests, blobs and lists; raises `NameUnknown` where there are none.

        Whose an unqualified name is stays known.
        """
        gone = [await self._clear(place) for place in places]
        if not any(gone):
            raise NameUnknown(f"nothing of {name} is cached", {"name": name})

    async def _clear(self, place: Repository) -> bool:
        """Forget what one place has, in the order in which a removal goes; tells whether there was anything."""
        repositories, inventory = self._repositories, self._inventory
        removed = [
            await _each(inventory.tags(place), lambda tag: repositories.remove_tag(place, tag)),
            await _each(
                inventory.manifests(place), lambda digest: repositories.unlink_manifest(place, digest)
            ),
            await _each(inventory.blobs(place), lambda digest: repositories.unlink_blob(place, digest)),
            await self._lists.remove(place),
        ]
        self._index.emptied(place)
        await self._index.flush()
        return any(removed)

    async def tag(self, name: str, places: Sequence[Repository], tag: str) -> None:
        """Forget a tag, and which upstream of `name` had it; raises `ManifestUnknown`."""
        gone = [await self._repositories.remove_tag(place, tag) for place in places]
        gone.append(await self._repositories.remove_tag_upstream(name, tag))
        if not any(gone):
            raise ManifestUnknown(f"no such tag of {name} is cached", {"reference": tag})

    async def manifest(self, name: str, places: Sequence[Repository], digest: Digest) -> None:
        """Forget a manifest, and the tags that point at it; raises `ManifestUnknown`."""
        found = [place for place in places if await self._repositories.manifest(place, digest) is not None]
        if not found:
            raise ManifestUnknown(f"no such manifest of {name} is cached", {"reference": str(digest)})
        for place in found:
            for tag in await self._holdings.tags_of(place, digest):
                await self._repositories.remove_tag(place, tag)
            await self._repositories.unlink_manifest(place, digest)
            if await self._holdings.is_empty(place):
                self._index.emptied(place)

    async def blob(self, name: str, places: Sequence[Repository], digest: Digest) -> None:
        """Forget a blob, whether or not a manifest lists it: a pull fetches it again. Raises `BlobUnknown`."""
        found = [place for place in places if await self._repositories.blob(place, digest) is not None]
        if not found:
            raise BlobUnknown(f"no such blob of {name} is cached", {"digest": str(digest)})
        for place in found:
            await self._repositories.unlink_blob(place, digest)


async def _each(found: AsyncIterator[T], remove: Callable[[T], Coroutine[Any, Any, bool]]) -> bool:
    """Remove each of what is found, some at once, because each waits for the disk; tells whether there was anything."""
    gone = False
    removing: list[Deferred[bool]] = []
    async for one in found:
        removing.append(Deferred.fromCoroutine(remove(one)))
        if len(removing) == _AT_ONCE:
            gone = any(await _together(removing)) or gone
            removing = []
    return any(await _together(removing)) or gone


async def _together(removing: list[Deferred[bool]]) -> list[bool]:
    try:
        return await gatherResults(removing, consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()
