"""Removal from what is hosted here. What is cached is an administrator's to purge (`nora.content.purge`).

A removal takes a right away, never bytes: another repository may link them, and an upload may be about to. The index
hears of each link that goes, so that a sweep finds bytes that nothing links. The order is that of a push backwards:
tags, the link, the record of what it referred to; whatever is left of a removal that died half-way is not listed.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from nora.access import Action, Rights
from nora.content.chosen import is_hosted
from nora.content.interfaces import Standing
from nora.content.purge import Purge
from nora.oci import MAX_MANIFEST_SIZE, Digest, Repository
from nora.oci.errors import BlobUnknown, Denied, ManifestUnknown, NameUnknown
from nora.oci.pushed import subject_of
from nora.oci.reference import LOCAL
from nora.push.immutable import ImmutableTags
from nora.push.interfaces import Target
from nora.push.turns import Turns
from nora.storage.holdings import Holdings
from nora.storage.interfaces import Blobs, Hosted, Index, Repositories
from nora.upstream.interfaces import Route, repositories_of


class Router(Protocol):
    """What resolves names: see `nora.upstream.routing.Routing`."""

    def route(self, name: str, ns: str | None = None) -> Route:
        """Resolve a name and what the client sent as `ns`."""


class HostedRemoval:
    """See `nora.content.interfaces.Removal`. For an administrator a removal from what is cached is a purge."""

    def __init__(
        self,
        routing: Router,
        hosted: Hosted,
        repositories: Repositories,
        holdings: Holdings,
        blobs: Blobs,
        index: Index,
        turns: Turns,
        immutable: ImmutableTags,
        purge: Purge,
    ) -> None:
        self._routing = routing
        self._hosted = hosted
        self._repositories = repositories
        self._holdings = holdings
        self._blobs = blobs
        self._index = index
        self._turns = turns
        self._immutable = immutable
        self._purge = purge

    async def tag(self, target: Target, tag: str, rights: Rights) -> None:
        """Remove a tag; its manifest stays. Raises `ManifestUnknown`, `Denied` for an immutable one."""
        repository, *others = await self._places(target, rights)
        if repository.namespace != LOCAL:
            await self._purge.tag(target.name, [repository, *others], tag)
            return

        async def remove() -> None:
            record = await self._repositories.tag(repository, tag)
            if record is None:
                raise ManifestUnknown(f"{repository.name} has no such tag", {"reference": tag})
            self._immutable.check_removal(repository, tag)
            await self._repositories.remove_tag(repository, tag)

        await self._alone(repository, remove)

    async def manifest(self, target: Target, digest: Digest, rights: Rights) -> None:
        """Remove a manifest, and with it the tags that point at it.

        Raises `ManifestUnknown`, `Denied` when one of the tags is immutable.
        """
        repository, *others = await self._places(target, rights)
        if repository.namespace != LOCAL:
            await self._purge.manifest(target.name, [repository, *others], digest)
            return

        async def remove() -> None:
            if await self._repositories.manifest(repository, digest) is None:
                raise ManifestUnknown(f"{repository.name} has no such manifest", {"reference": str(digest)})
            tags = await self._holdings.tags_of(repository, digest)
            for tag in tags:
                self._immutable.check_removal(repository, tag)
            body = await self._blobs.read(digest, MAX_MANIFEST_SIZE)
            for tag in tags:
                await self._repositories.remove_tag(repository, tag)
            await self._repositories.unlink_manifest(repository, digest)
            subject = None if body is None else subject_of(body)
            if subject is not None:
                await self._holdings.unrefer(repository, subject, digest)
            if await self._holdings.is_empty(repository):
                self._index.emptied(repository)
                await self._index.flush()  # under the lock: a push after this one must have the last word

        await self._alone(repository, remove)

    async def blob(self, target: Target, digest: Digest, rights: Rights) -> None:
        """Remove a blob from the repository. Raises `BlobUnknown`, `Denied` while a manifest there lists it."""
        repository, *others = await self._places(target, rights)
        if repository.namespace != LOCAL:
            await self._purge.blob(target.name, [repository, *others], digest)
            return

        async def remove() -> None:
            if await self._repositories.blob(repository, digest) is None:
                raise BlobUnknown(f"{repository.name} has no such blob", {"digest": str(digest)})
            lister = await self._holdings.lister(repository, digest)
            if lister is not None:
                raise Denied(
                    f"a manifest of {repository.name} lists this blob: remove that first",
                    {"manifest": str(lister)},
                )
            await self._repositories.unlink_blob(repository, digest)

        await self._alone(repository, remove)

    async def everything(self, target: Target, rights: Rights) -> None:
        """Purge all that is cached of a repository. Raises `NameUnknown`, `Denied` for a hosted one."""
        repository, *others = await self._places(target, rights)
        if repository.namespace == LOCAL:
            raise Denied(
                f"{target.name} is hosted here, and nothing could bring it back: delete its tags one by one",
                {"name": target.name},
            )
        await self._purge.everything(target.name, [repository, *others])

    def standing(self, target: Target, rights: Rights) -> Standing:
        """Tell what a name stands for, and whether the client may remove from it, or purge it."""
        route = self._routing.route(target.name, target.ns)
        granted = rights.grants(Action.DELETE, target.name)
        if is_hosted(route, self._hosted):
            place = Repository(LOCAL, route.name)
            return Standing(True, (place,), granted and rights.allows(Action.DELETE, place))
        cached = tuple(place for place, _ in repositories_of(route.candidates))
        purged = tuple(place for place in cached if rights.allows(Action.ADMIN, place))
        return Standing(False, purged, granted and bool(purged))

    async def _alone(self, repository: Repository, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self._turns.take(repository, work)

    async def _places(self, target: Target, rights: Rights) -> list[Repository]:
        """Find the hosted repository that the client may remove from, or the cached ones that it may purge."""
        rights.require(Action.DELETE, target.name)
        route = self._routing.route(target.name, target.ns)
        if is_hosted(route, self._hosted):
            repository = Repository(LOCAL, route.name)
            rights.require_on(Action.DELETE, repository, target.name)
            return [repository]
        cached = [place for place, _ in repositories_of(route.candidates)]
        purged = [place for place in cached if rights.allows(Action.ADMIN, place)]
        if purged:
            return purged
        if route.qualified or await self._hosted.owned(route.name):
            raise Denied(
                f"{target.name} is cached from an upstream: only an administrator may purge it from here",
                {"name": target.name},
            )
        raise NameUnknown(f"nothing was pushed to {target.name}", {"name": target.name})
