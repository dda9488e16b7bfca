"""Mounts: a repository gets a blob that its client may read elsewhere, without a byte moving.

Knowing a digest is no right, so a mount needs a source: a repository that has a link to the blob and that this client
may pull, by its own name and rights. Without one named (distribution-spec 1.1, "Mounting a blob from another
repository") the index tells who may have it; its word is only a hint, and the source's record decides. Whatever is in
doubt, such as a cached repository of which nobody asked whether it is private, is not mounted: the client then uploads,
which is always right.
"""

from __future__ import annotations

from typing import Protocol

from nora.access import Action, Rights, full_name
from nora.oci import Digest, Repository
from nora.oci.errors import Denied, InvalidName, NameUnknown
from nora.oci.reference import LOCAL
from nora.push.interfaces import Targets
from nora.storage.interfaces import Blobs, Hosted, Index, Locks, Records, Repositories
from nora.storage.locks import of_blob
from nora.storage.repositories import credential_key, private_key
from nora.upstream.interfaces import Route

_MOST_SOURCES = 32
"""Repositories that are looked at for a mount that names none."""
_WAIT = 10.0


class Routes(Protocol):
    """What a name may mean at upstreams; see `nora.upstream.routing.Routing`."""

    def route(self, name: str, ns: str | None = None) -> Route:
        """Resolve a name; raises `InvalidName`, `NameUnknown`, `Denied`."""


class Mounts:
    """Finds a source that a client may read, and links."""

    def __init__(
        self,
        routes: Routes,
        targets: Targets,
        blobs: Blobs,
        repositories: Repositories,
        records: Records,
        hosted: Hosted,
        index: Index,
        locks: Locks,
    ) -> None:
        self._routes = routes
        self._targets = targets
        self._blobs = blobs
        self._repositories = repositories
        self._records = records
        self._hosted = hosted
        self._index = index
        self._locks = locks

    async def mount(
        self, repository: Repository, digest: Digest, source: str | None, rights: Rights
    ) -> int | None:
        """Link `digest` to `repository` and give its size; None where no source lets this client have it.

        Raises as `Targets.host` does.
        """
        size = await self._held(repository, digest)
        if size is not None:
            return size
        if not await self._may_have(digest, source, rights):
            return None
        lock = await self._locks.hold(of_blob(digest), _WAIT)
        if lock is None:
            return None
        try:
            size = self._blobs.size(digest)
            # The source's record is asked again: it may have gone while the lock was waited for.
            if size is None or not await self._may_have(digest, source, rights):
                return None
            await self._targets.host(repository)
            await self._repositories.link_blob(repository, digest, size)
        finally:
            lock.release()
        return size

    async def _may_have(self, digest: Digest, source: str | None, rights: Rights) -> bool:
        """Tell whether there is a source that has the blob and that the client may pull."""
        if source is not None:
            return any(
                [await self._gives(each, source, digest, rights) for each in await self._named(source)]
            )
        for holder in await self._index.holders(digest, _MOST_SOURCES):
            name = full_name(holder)
            if holder in await self._named(name) and await self._gives(holder, name, digest, rights):
                return True
        return False

    async def _named(self, name: str) -> list[Repository]:
        """Tell the repository, if any, that a client who pulls `name` is served from."""
        try:
            route = self._routes.route(name)
        except Denied:
            return [Repository(LOCAL, name)] if self._hosted.known(name) else []
        except (InvalidName, NameUnknown):
            return []
        if route.qualified:
            return [route.candidates[0].repository]
        if self._hosted.known(name):
            return [Repository(LOCAL, name)]
        owner = await self._repositories.owner(name)
        if owner is None:
            return []
        places = {candidate.repository for candidate in route.candidates}
        return [place for place in places if place.namespace == owner.namespace]

    async def _gives(self, source: Repository, name: str, digest: Digest, rights: Rights) -> bool:
        try:
            rights.require_on(Action.PULL, source, name)
        except Denied:
            return False
        return await self._is_open(source, rights) and await self._held(source, digest) is not None

    async def _is_open(self, source: Repository, rights: Rights) -> bool:
        """Tell whether the source is surely not private to this client; see `nora.pull.privacy`."""
        if source.namespace == LOCAL or rights.private:
            return True
        if self._records.stamp(credential_key(source.namespace)) is None:
            return True
        known = await self._records.get(private_key(source))
        return known is not None and known.value.get("private") is False

    async def _held(self, repository: Repository, digest: Digest) -> int | None:
        """Tell the blob's size where the repository has a link to it, and the bytes are here."""
        size = await self._repositories.blob(repository, digest)
        return size if size is not None and self._blobs.size(digest) == size else None
