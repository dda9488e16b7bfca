"""What was pushed here, as clients pull it and list it. No upstream is ever asked.

Everything is read from the records at each request, so a push or a removal in any worker counts from the next request
on. A tag whose manifest is not linked is none.
"""

from __future__ import annotations

from functools import partial

from nora.access import Action, Rights
from nora.oci import Digest, Reference, Repository, Tag
from nora.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown
from nora.oci.listing import TagPage
from nora.oci.reference import LOCAL
from nora.pull.contents import StoredContent
from nora.pull.interfaces import Answer, Cached, Content, Served
from nora.pull.manifests import Manifests
from nora.storage.holdings import Holdings
from nora.storage.interfaces import Blobs, Disk, Hosted, Index, Repositories
from nora.upstream.interfaces import Route


class HostedPull:
    """The hosted part of `nora.pull.interfaces.Pull`: the route's name is that of the repository."""

    def __init__(
        self, manifests: Manifests, repositories: Repositories, blobs: Blobs, index: Index, disk: Disk
    ) -> None:
        self._manifests = manifests
        self._repositories = repositories
        self._blobs = blobs
        self._index = index
        self._disk = disk

    async def manifest(self, route: Route, reference: Reference, rights: Rights) -> Served[Answer]:
        """GET of a manifest."""
        repository = readable(route, rights)
        digest = await self._digest(repository, reference)
        answer = await self._manifests.read(repository, digest)
        if answer is None:
            raise ManifestUnknown(f"{route.name} has no such manifest", {"reference": str(reference)})
        return Served(answer, repository, Cached.HIT, None)

    async def describe(self, route: Route, reference: Reference, rights: Rights) -> Served[Answer]:
        """HEAD of a manifest."""
        repository = readable(route, rights)
        digest = await self._digest(repository, reference)
        descriptor = await self._manifests.has(repository, digest)
        if descriptor is None:
            raise ManifestUnknown(f"{route.name} has no such manifest", {"reference": str(reference)})
        return Served(Answer(descriptor, None), repository, Cached.HIT, None)

    async def blob(self, route: Route, digest: Digest, rights: Rights) -> Served[Content]:
        """GET of a blob."""
        repository = readable(route, rights)
        size = await self._repositories.blob(repository, digest)
        file = None if size is None else await self._blobs.open(digest, size)
        if size is None or file is None:
            raise BlobUnknown(f"{route.name} has no such blob", {"digest": str(digest)})
        self._index.used(digest)
        content = StoredContent(file, self._disk, partial(self._blobs.open_now, digest, size))
        return Served(content, repository, Cached.HIT, None)

    async def describe_blob(self, route: Route, digest: Digest, rights: Rights) -> Served[int]:
        """HEAD of a blob."""
        repository = readable(route, rights)
        size = await self._repositories.blob(repository, digest)
        if size is None or self._blobs.size(digest) != size:
            raise BlobUnknown(f"{route.name} has no such blob", {"digest": str(digest)})
        return Served(size, repository, Cached.HIT, None)

    async def _digest(self, repository: Repository, reference: Reference) -> Digest:
        if not isinstance(reference, Tag):
            return reference
        record = await self._repositories.tag(repository, reference.name)
        if record is None:
            raise ManifestUnknown(f"{repository.name} has no such tag", {"reference": reference.name})
        return record.descriptor.digest


class HostedDiscovery:
    """The hosted part of `nora.pull.interfaces.Discovery`."""

    def __init__(self, holdings: Holdings, hosted: Hosted) -> None:
        self._holdings = holdings
        self._hosted = hosted

    async def tags(self, route: Route, last: bytes, limit: int, rights: Rights) -> Served[TagPage]:
        """List tags. A name that is only kept for pushes is no repository yet."""
        repository = readable(route, rights)
        self._require_known(route)
        page = await self._holdings.tags(repository, last.decode("utf-8", "surrogateescape"), limit)
        return Served(page, repository, Cached.HIT, None)

    async def referrers(
        self, route: Route, digest: Digest, artifact_type: str | None, rights: Rights, last: str = ""
    ) -> Served[bytes]:
        """List what refers to a manifest, whether or not that is here."""
        repository = readable(route, rights)
        page = await self._holdings.referrers(repository, digest, artifact_type, last)
        return Served(page.body, repository, Cached.HIT, None, page.following)

    def _require_known(self, route: Route) -> None:
        if not self._hosted.known(route.name):
            raise NameUnknown(f"nothing was pushed to {route.name} yet", {"name": route.name})


def readable(route: Route, rights: Rights) -> Repository:
    """Give the hosted repository of a route; raises `NotAllowed` unless the client may pull from it."""
    repository = Repository(LOCAL, route.name)
    rights.require_on(Action.PULL, repository, route.name)
    return repository
