"""The inventory of a repository: all records that it has, whether or not they count for anybody, part by part.

What is listed can be removed while the listing goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from nora.oci import Digest, Repository
from nora.oci.errors import InvalidDigest, InvalidTag
from nora.oci.reference import Tag, parse_reference
from nora.storage.interfaces import Records
from nora.storage.repositories import blobs_keys, manifests_keys, tags_key

T = TypeVar("T")
_STEP = 1000


class Inventory:
    """The inventories of one store's repositories."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def tags(self, repository: Repository) -> AsyncIterator[str]:
        """Go through the tags."""
        async for tag in self._each(tags_key(repository), _tag):
            yield tag

    async def manifests(self, repository: Repository) -> AsyncIterator[Digest]:
        """Go through the manifests that may be read here."""
        async for digest in self._digests(manifests_keys(repository)):
            yield digest

    async def blobs(self, repository: Repository) -> AsyncIterator[Digest]:
        """Go through the blobs that may be read here."""
        async for digest in self._digests(blobs_keys(repository)):
            yield digest

    async def _digests(self, prefixes: Sequence[str]) -> AsyncIterator[Digest]:
        for prefix in prefixes:
            algorithm = prefix.rpartition("/")[2]
            async for digest in self._each(prefix, lambda name, of=algorithm: _digest(of, name)):  # type: ignore[misc]
                yield digest

    async def _each(self, prefix: str, read: Callable[[str], T | None]) -> AsyncIterator[T]:
        after = ""
        while names := await self._records.page(prefix, after, _STEP):
            after = names[-1]
            for name in names:
                found = read(name)
                if found is not None:
                    yield found


def _tag(name: str) -> str | None:
    try:
        return name if isinstance(parse_reference(name), Tag) else None
    except (InvalidTag, InvalidDigest):
        return None


def _digest(algorithm: str, encoded: str) -> Digest | None:
    try:
        return Digest.parse(f"{algorithm}:{encoded}")
    except InvalidDigest:
        return None
