"""Purging what is cached: an administrator's removal. The next pull asks the upstream again.

A purge takes rights and tags away, never bytes, which other repositories may link. What a transfer or a check that is
under way brings back counts as asked for after the purge.
"""

from __future__ import annotations

from collections.abc import Sequence

from nora.oci import Digest, Repository
from nora.oci.errors import BlobUnknown, ManifestUnknown
from nora.storage.holdings import Holdings
from nora.storage.interfaces import Index, Repositories


class Purge:
    """Removes from cached repositories. A name may mean several: what any of them has of it goes."""

    def __init__(self, repositories: Repositories, holdings: Holdings, index: Index) -> None:
        self._repositories = repositories
        self._holdings = holdings
        self._index = index

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
