"""Administration: what somebody who may does to what is here, from the pages and their API.

A removal is the one that a DELETE under `/v2` makes, under another word: what is hosted is deleted and gone, what is
cached is purged and comes back with the next pull. Each word is refused where the other one is meant, so that nobody
deletes for good what they took for a copy.
"""

from __future__ import annotations

from typing import Protocol

import attrs

from nora.access import Action, Rights
from nora.content.interfaces import Done, Outcome, Standing
from nora.content.removal import HostedRemoval, Router
from nora.oci import Descriptor, Reference, Tag
from nora.oci.errors import Denied, NotAllowed
from nora.pull.freshness import Forgotten
from nora.pull.interfaces import Cached, Served
from nora.push.interfaces import Target
from nora.storage.interfaces import TagRecord
from nora.upstream.interfaces import Route


class Tags(Protocol):
    """What asks upstreams about tags: see `nora.pull.through.PullThrough`."""

    async def refresh(self, route: Route, tag: Tag) -> tuple[TagRecord, Served[Descriptor]]:
        """Ask now what a cached tag names; tells what was known of it before, too."""


class StoreAdministration:
    """See `nora.content.interfaces.Administration`."""

    def __init__(self, routing: Router, removal: HostedRemoval, tags: Tags) -> None:
        self._routing = routing
        self._removal = removal
        self._tags = tags

    def standing(self, target: Target, rights: Rights) -> Standing:
        """Tell what a name stands for. Raises `NotAllowed` where the client may do nothing of this."""
        standing = self._removal.standing(target, rights)
        if not standing.may:
            raise NotAllowed(f"only an administrator of {target.name} may do this", {"name": target.name})
        return standing

    async def purge(self, target: Target, reference: Reference | None, rights: Rights) -> Done:
        """Forget what is cached: a tag, a manifest with its tags, or without a reference everything."""
        if self.standing(target, rights).hosted:
            raise Denied(
                f"{target.name} is hosted here: a purge is for what an upstream can bring back",
                {"name": target.name},
            )
        if reference is None:
            await self._removal.everything(target, rights)
        else:
            await self._remove(target, reference, rights)
        return Done(Outcome.PURGED)

    async def delete(self, target: Target, reference: Reference, rights: Rights) -> Done:
        """Delete what is hosted: a tag, or a manifest with its tags."""
        if not self.standing(target, rights).hosted:
            raise Denied(
                f"{target.name} is cached from an upstream: it is purged, not deleted", {"name": target.name}
            )
        await self._remove(target, reference, rights)
        return Done(Outcome.DELETED)

    async def refresh(self, target: Target, tag: Tag, rights: Rights) -> Done:
        """Ask the upstreams now what a cached tag names, and fetch what it names."""
        standing = self.standing(target, rights)
        if standing.hosted:
            raise Denied(f"{target.name} is hosted here: there is no upstream to ask", {"name": target.name})
        route = self._routing.route(target.name, target.ns)
        left = tuple(each for each in route.candidates if rights.allows(Action.ADMIN, each.repository))
        partial = route.partial or len(left) < len(route.candidates)
        try:
            before, served = await self._tags.refresh(
                attrs.evolve(route, candidates=left, partial=partial), tag
            )
        except Forgotten:
            return Done(Outcome.FORGOTTEN)
        known, digest = before.descriptor.digest, served.content.digest
        if served.cached is Cached.QUOTA:
            outcome = Outcome.SPARED
        else:
            outcome = Outcome.UNCHANGED if known == digest else Outcome.MOVED
        return Done(outcome, known, digest, served.upstream)

    async def _remove(self, target: Target, reference: Reference, rights: Rights) -> None:
        if isinstance(reference, Tag):
            await self._removal.tag(target, reference.name, rights)
        else:
            await self._removal.manifest(target, reference, rights)
