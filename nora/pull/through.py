"""Pull-through: what a client can pull, from the store or through it."""

from __future__ import annotations

from typing import Protocol

from nora.access import Action, Rights
from nora.oci import Descriptor, Digest, Reference, Tag
from nora.oci.errors import ManifestUnknown
from nora.pull.blobs import BlobPull
from nora.pull.interfaces import Answer, Cached, Content, Served
from nora.pull.manifests import Manifests
from nora.pull.owners import Owners
from nora.pull.tags import Tags
from nora.storage.interfaces import TagRecord
from nora.upstream.interfaces import Route, repositories_of


class StaleObserver(Protocol):
    """Hears of stale answers."""

    def stale(self) -> None:
        """A stored copy was served though its freshness could not be confirmed."""

    def spared(self) -> None:
        """A stored copy was served though its tag moved, to spare the upstream's rate limit."""


class PullThrough:
    """Everything that can be pulled; see `nora.pull.interfaces.Pull`."""

    def __init__(
        self, manifests: Manifests, tags: Tags, blobs: BlobPull, owners: Owners, observer: StaleObserver
    ) -> None:
        self._manifests = manifests
        self._tags = tags
        self._blobs = blobs
        self._owners = owners
        self._observer = observer

    async def manifest(self, route: Route, reference: Reference, rights: Rights) -> Served[Answer]:
        """GET of a manifest."""
        rights.require(Action.PULL, route.name)
        if isinstance(reference, Tag):
            served = await self._tags.get(route, reference)
            self._observe(served.cached)
            return served
        candidates = await self._owners.order(route)
        for repository, upstream in repositories_of(candidates):
            answer = await self._manifests.read(repository, reference)
            if answer is not None:
                return Served(answer, repository, Cached.HIT, upstream)
        if not candidates:
            raise ManifestUnknown("not stored, and no upstream to ask")
        found, stored = await self._manifests.fetch(candidates, reference)
        answer = Answer(found.value.descriptor, found.value.body)
        cached = Cached.MISS if stored else Cached.BYPASS
        return Served(answer, found.candidate.repository, cached, found.candidate.upstream.name)

    async def describe(self, route: Route, reference: Reference, rights: Rights) -> Served[Answer]:
        """HEAD of a manifest."""
        rights.require(Action.PULL, route.name)
        if isinstance(reference, Tag):
            served = await self._tags.describe(route, reference)
            self._observe(served.cached)
            return Served(Answer(served.content, None), served.repository, served.cached, served.upstream)
        candidates = await self._owners.order(route)
        for repository, upstream in repositories_of(candidates):
            descriptor = await self._manifests.has(repository, reference)
            if descriptor is not None:
                return Served(Answer(descriptor, None), repository, Cached.HIT, upstream)
        if not candidates:
            raise ManifestUnknown("not stored, and no upstream to ask")
        found = await self._manifests.describe(candidates, reference)
        answer = Answer(found.value, None)
        return Served(answer, found.candidate.repository, Cached.MISS, found.candidate.upstream.name)

    async def blob(self, route: Route, digest: Digest, rights: Rights) -> Served[Content]:
        """GET of a blob."""
        return await self._blobs.get(route, digest, rights)

    async def describe_blob(self, route: Route, digest: Digest, rights: Rights) -> Served[int]:
        """HEAD of a blob."""
        return await self._blobs.describe(route, digest, rights)

    async def refresh(self, route: Route, tag: Tag) -> tuple[TagRecord, Served[Descriptor]]:
        """Ask the upstreams about a cached tag now; see `Tags.refresh`. Whether the client may is known already."""
        return await self._tags.refresh(route, tag)

    def _observe(self, cached: Cached) -> None:
        if cached is Cached.STALE:
            self._observer.stale()
        elif cached is Cached.QUOTA:
            self._observer.spared()
