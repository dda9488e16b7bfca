"""GET and HEAD of blobs: who may read which bytes, and where they come from.

The right to read is per repository. A link says that this repository has the blob; without one, only this
repository's own upstream can: by the transfer itself, or by a HEAD where the bytes are here already, stored
or growing for another repository. Knowing a digest is no right.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from twisted.logger import Logger

from nora.access import Action, Rights
from nora.concurrency import Background, SingleFlight
from nora.oci import Digest
from nora.oci.errors import BlobUnknown, Broken, NoraError, NoSpace
from nora.pull.absences import Absences
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

    _log = Logger()

    def __init__(
        self,
        blobs: Blobs,
        repositories: Repositories,
        index: Index,
        disk: Disk,
        fills: Fills,
        owners: Owners,
        background: Background,
        absences: Absences,
    ) -> None:
        self._blobs = blobs
        self._repositories = repositories
        self._index = index
        self._disk = disk
        self._fills = fills
        self._owners = owners
        self._absences = absences
        self._confirming: SingleFlight[tuple[Digest, tuple[Candidate, ...]], Found[int | None]] = (
            SingleFlight(background)
        )

    async def get(self, route: Route, digest: Digest, rights: Rights) -> Served[Content]:
        """Give a blob as soon as its size is known; raises `BlobUnknown`, or what the upstreams' outcomes mean."""
        rights.require(Action.PULL, route.name)
        # A hit needs no index, which a thread would have to be asked for.
        served = await self._stored(await self._owners.order(route), digest)
        if served is not None:
            return served
        candidates, expected = await self._candidates(route, digest)
        if not candidates:
            raise BlobUnknown("not stored, and no upstream to ask")
        asked = [candidate.repository for candidate in candidates]
        served = await self._absences.ask(
            asked, digest, BlobUnknown, lambda: self._fetch(candidates, digest, expected)
        )
        self._absences.forget(served.repository)
        return served

    async def _fetch(
        self, candidates: tuple[Candidate, ...], digest: Digest, expected: int | None
    ) -> Served[Content]:
        """Get a blob that was not stored a moment ago."""
        for _ in range(_ROUNDS):
            served = await self._stored(candidates, digest)
            if served is not None:
                return served
            fill = self._fills.find(digest)
            if fill is not None:
                served = await self._join(fill, candidates, Cached.FOLLOWED)
            elif self._blobs.size(digest) is None:
                served = await self._join(
                    self._fills.start(digest, candidates, expected), candidates, Cached.MISS
                )
            else:
                served = await self._link(digest, await self._confirm(candidates, digest))
            if served is not None:
                return served
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
        asked = [each.repository for each in candidates]
        found = await self._absences.ask(
            asked, digest, BlobUnknown, lambda: self._confirm(candidates, digest)
        )
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
                content = StoredContent(file, self._disk, partial(self._blobs.open_now, digest, size))
                return Served(content, repository, Cached.HIT, upstream)
        return None

    async def _join(
        self, fill: Fill, candidates: tuple[Candidate, ...], cached: Cached
    ) -> Served[Content] | None:
        """Follow a fill that runs, once this repository may; None when it ended for a reason of its own."""
        if fill.candidates == candidates:
            await fill.opening()
        mine = {candidate.repository for candidate in candidates}
        if not mine & fill.confirmed.keys():
            found = await self._confirm(candidates, fill.digest)
            if self._fills.find(fill.digest) is not fill:
                return await self._link(fill.digest, found)
            fill.confirm(found.candidate.repository, found.candidate.upstream.name)
        try:
            await fill.opening()
        except NoraError:
            return None
        repository, upstream = next(each for each in fill.confirmed.items() if each[0] in mine)
        content = FollowedContent(fill, self._blobs, self._disk, self._fills)
        return Served(content, repository, Cached.BYPASS if fill.spaceless else cached, upstream)

    async def _confirm(self, candidates: tuple[Candidate, ...], digest: Digest) -> Found[int | None]:
        async def ask(candidate: Candidate) -> int | None:
            return await candidate.upstream.describe_blob(candidate.repository.name, digest)

        return await self._confirming.run((digest, candidates), lambda: first(candidates, ask, BlobUnknown))

    async def _link(self, digest: Digest, found: Found[int | None]) -> Served[Content] | None:
        """Give the confirmed repository the right to the stored bytes, and them; None when they are gone by now.

        A disk that does not take the record costs the next client a HEAD, not this one its blob.
        """
        file = await self._blobs.open(digest)
        if file is None:
            return None
        candidate = found.candidate
        try:
            await self._repositories.link_blob(candidate.repository, digest, file.size)
        except (OSError, NoSpace) as error:
            self._log.error("{digest} could not be linked: {error}", digest=str(digest), error=error)
        except BaseException:
            file.close()
            raise
        self._index.used(digest)
        content = StoredContent(file, self._disk, partial(self._blobs.open_now, digest, file.size))
        return Served(content, candidate.repository, Cached.HIT, candidate.upstream.name)
