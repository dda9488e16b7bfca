"""GET and HEAD of blobs: who may read which bytes, and where they come from.

The right to read is per repository. A link says that this repository has the blob; without one, only this
repository's own upstream can: by the transfer itself, or by a HEAD where the bytes are here already, stored
or growing for another repository. Knowing a digest is no right.
"""

from __future__ import annotations

from collections.abc import Sequence

from nora.access import Action, Rights
from nora.concurrency import Background, SingleFlight
from nora.oci import Digest, Repository
from nora.oci.errors import BlobUnknown, Broken, NoraError
from nora.pull.contents import FollowedContent, StoredContent
from nora.pull.fill import Fill
from nora.pull.fills import Fills
from nora.pull.interfaces import Cached, Content, Served
from nora.pull.owners import Owners
from nora.storage.interfaces import Blobs, Disk, Index, Repositories
from nora.upstream.chain import Found, first
from nora.upstream.interfaces import Candidate, Route, repositories_of

_ROUNDS = 4
"""How often a request looks again after what it waited for turned out to be another's failure."""


class BlobPull:
    """The blobs that clients can pull."""

    def __init__(
        self,
        blobs: Blobs,
        repositories: Repositories,
        index: Index,
        disk: Disk,
        fills: Fills,
        owners: Owners,
        background: Background,
    ) -> None:
        self._blobs = blobs
        self._repositories = repositories
        self._index = index
        self._disk = disk
        self._fills = fills
        self._owners = owners
        self._confirming: SingleFlight[tuple[Digest, tuple[Candidate, ...]], Found[int | None]] = (
            SingleFlight(background)
        )

    async def get(self, route: Route, digest: Digest, rights: Rights) -> Served[Content]:
        """Give a blob as soon as its size is known; raises `BlobUnknown`, or what the upstreams' outcomes mean."""
        rights.require(Action.PULL, route.name)
        candidates, expected = await self._candidates(route, digest)
        for _ in range(_ROUNDS):
            served = await self._stored(candidates, digest)
            if served is not None:
                return served
            fill = self._fills.find(digest)
            if fill is None and self._blobs.size(digest) is None:
                fill = self._fills.start(digest, candidates, expected)
                await fill.opening()
                return self._follow(fill, Cached.MISS)
            if fill is not None:
                followed = await self._join(fill, candidates)
                if followed is not None:
                    return followed
                continue
            await self._link(digest, await self._confirm(candidates, digest))
        raise Broken("the blob changed too often while it was asked for")

    async def describe(self, route: Route, digest: Digest, rights: Rights) -> Served[int]:
        """Tell a blob's size; raises as `get` does. Moves no bytes.

        An upstream is asked only for what a stored manifest of the repository lists: whoever is about to push
        asks for much that no upstream has, and must not wait for one.
        """
        rights.require(Action.PULL, route.name)
        candidates, expected = await self._candidates(route, digest)
        for repository, upstream in repositories_of(candidates):
            size = await self._repositories.blob(repository, digest)
            if size is not None and self._blobs.size(digest) == size:
                return Served(size, repository, Cached.HIT, upstream)
        if expected is None:
            raise BlobUnknown("not stored, and no stored manifest lists it")
        found = await self._confirm(candidates, digest)
        size = expected if found.value is None else found.value
        candidate = found.candidate
        return Served(size, candidate.repository, Cached.MISS, candidate.upstream.name)

    async def _candidates(self, route: Route, digest: Digest) -> tuple[tuple[Candidate, ...], int | None]:
        """Order the candidates: those whose stored manifests list the digest first. Gives its listed size, too."""
        ordered = await self._owners.order(route)
        sizes = {
            repository: await self._index.listed_size(repository, digest)
            for repository, _ in repositories_of(ordered)
        }
        listing = [candidate for candidate in ordered if sizes[candidate.repository] is not None]
        if not listing:
            return ordered, None
        others = [candidate for candidate in ordered if candidate not in listing]
        return (*listing, *others), sizes[listing[0].repository]

    async def _stored(self, candidates: Sequence[Candidate], digest: Digest) -> Served[Content] | None:
        for repository, upstream in repositories_of(candidates):
            size = await self._repositories.blob(repository, digest)
            if size is None:
                continue
            file = await self._blobs.open(digest, size)
            if file is not None:
                self._index.used(digest)
                return Served(StoredContent(file, self._disk), repository, Cached.HIT, upstream)
        return None

    async def _join(self, fill: Fill, candidates: tuple[Candidate, ...]) -> Served[Content] | None:
        """Follow a fill that runs, once this repository may; None when it ended for a reason of its own."""
        mine = {candidate.repository for candidate in candidates}
        if not mine & fill.confirmed.keys():
            if fill.candidates == candidates:
                await fill.opening()
            else:
                found = await self._confirm(candidates, fill.digest)
                if self._fills.find(fill.digest) is not fill:
                    await self._link(fill.digest, found)
                    return None
                fill.confirm(found.candidate.repository, found.candidate.upstream.name)
        try:
            await fill.opening()
        except NoraError:
            if fill.candidates == candidates:
                raise
            return None
        return self._follow(fill, Cached.FOLLOWED, mine)

    def _follow(self, fill: Fill, cached: Cached, mine: set[Repository] | None = None) -> Served[Content]:
        repository, upstream = next(
            each for each in fill.confirmed.items() if mine is None or each[0] in mine
        )
        content = FollowedContent(fill, self._blobs, self._disk, self._fills)
        return Served(content, repository, Cached.BYPASS if fill.spaceless else cached, upstream)

    async def _confirm(self, candidates: tuple[Candidate, ...], digest: Digest) -> Found[int | None]:
        async def ask(candidate: Candidate) -> int | None:
            return await candidate.upstream.describe_blob(candidate.repository.name, digest)

        return await self._confirming.run((digest, candidates), lambda: first(candidates, ask, BlobUnknown))

    async def _link(self, digest: Digest, found: Found[int | None]) -> None:
        """Give the confirmed repository the right to the stored bytes; nothing when they are gone by now."""
        size = self._blobs.size(digest)
        if size is not None:
            await self._repositories.link_blob(found.candidate.repository, digest, size)
