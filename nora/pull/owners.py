"""Owners: which upstream an unqualified name belongs to.

The owner is the first upstream that has the image while every earlier one answered a definite no. When an earlier
one could not answer, what was found is served but stays provisional: the next check begins at the head of the
chain again. A tag that the owner lacks may come from further down; that is remembered for the tag alone. A name that
became hosted meanwhile gets no owner any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from nora.oci import Repository
from nora.storage.interfaces import Hosted, OwnerRecord, Repositories
from nora.upstream.chain import Found
from nora.upstream.interfaces import Candidate, Route

_MAX_NAMES = 10_000


class ProvisionalObserver(Protocol):
    """Hears of answers whose owner is not certain."""

    def provisional(self) -> None:
        """An answer was given though an earlier upstream could not be asked."""


class Owners:
    """Keeps and applies what unqualified names resolved to."""

    def __init__(
        self,
        repositories: Repositories,
        hosted: Hosted,
        now: Callable[[], float],
        fallback: str,
        observer: ProvisionalObserver,
    ) -> None:
        """`now` gives seconds since the epoch. `fallback` is `image`, or `repository`: the owner alone."""
        self._repositories = repositories
        self._hosted = hosted
        self._now = now
        self._fallback = fallback
        self._observer = observer
        self._provisional: set[str] = set()

    @property
    def provisional(self) -> int:
        """How many names are provisional, of those that were asked for lately; 10,000 at most."""
        return len(self._provisional)

    async def order(self, route: Route) -> tuple[Candidate, ...]:
        """Order the candidates for a digest: the owner's first."""
        if route.qualified:
            return route.candidates
        owner = await self._owner(route)
        if owner is None:
            return route.candidates
        return self._owner_first(route, owner)

    async def order_of_list(self, route: Route) -> tuple[Candidate, ...]:
        """Order the candidates for a list of what the name has.

        While an owner is provisional the order is the configuration's.
        """
        if route.qualified:
            return route.candidates
        owner = await self._owner(route)
        if owner is None or owner.provisional:
            return route.candidates
        ordered = self._owner_first(route, owner)
        if self._fallback == "repository":
            mine = _repository(route, owner)
            return tuple(each for each in ordered if each.repository == mine)
        return ordered

    async def order_of_tag(self, route: Route, tag: str) -> tuple[tuple[Candidate, ...], Repository | None]:
        """Order the candidates for a tag, and tell the repository whose copy of it counts as cached.

        While an owner is provisional the order is the configuration's.
        """
        if not route.candidates:
            return (), None
        if route.qualified:
            return route.candidates, route.candidates[0].repository
        owner = await self._owner(route)
        if owner is None:
            return route.candidates, route.candidates[0].repository
        mine = _repository(route, owner)
        if owner.provisional:
            return route.candidates, mine
        ordered = self._owner_first(route, owner)
        if self._fallback == "repository":
            return tuple(each for each in ordered if each.repository == mine), mine
        elsewhere = await self._repositories.tag_upstream(route.name, tag)
        if elsewhere is not None and (repository := _repository(route, elsewhere)) is not None:
            return ordered, repository
        return ordered, mine

    async def resolved(self, route: Route, tag: str, found: Found[Any]) -> None:
        """Remember where `tag` was found, when that says something new."""
        if found.provisional:
            self._observer.provisional()
        if route.qualified or route.partial:
            return
        candidate = found.candidate
        record = OwnerRecord(
            candidate.upstream.name, candidate.repository.namespace, found.provisional, self._now()
        )
        owner = await self._owner(route)
        if owner is None or owner.provisional:
            if owner is None or not _agree(owner, record):
                await self._hosted.resolved(route.name, record)
                self._note(route.name, record)
            return
        elsewhere = await self._repositories.tag_upstream(route.name, tag)
        if elsewhere is None and owner.namespace == record.namespace:
            return
        if elsewhere is None or not _agree(elsewhere, record):
            await self._repositories.put_tag_upstream(route.name, tag, record)

    async def forget(self, route: Route, tag: str) -> None:
        """Forget which upstream had `tag` when the owner did not."""
        if not route.qualified and not route.partial:
            await self._repositories.remove_tag_upstream(route.name, tag)

    async def _owner(self, route: Route) -> OwnerRecord | None:
        """Read the owner; one that is no longer configured counts for nothing."""
        owner = await self._repositories.owner(route.name)
        if owner is None or _repository(route, owner) is None:
            self._provisional.discard(route.name)
            return None
        self._note(route.name, owner)
        return owner

    def _note(self, name: str, owner: OwnerRecord) -> None:
        if not owner.provisional:
            self._provisional.discard(name)
        elif len(self._provisional) < _MAX_NAMES:
            self._provisional.add(name)

    def _owner_first(self, route: Route, owner: OwnerRecord) -> tuple[Candidate, ...]:
        mine = _repository(route, owner)
        return tuple(sorted(route.candidates, key=lambda candidate: candidate.repository != mine))


def _repository(route: Route, record: OwnerRecord) -> Repository | None:
    for candidate in route.candidates:
        if candidate.repository.namespace == record.namespace:
            return candidate.repository
    return None


def _agree(one: OwnerRecord, other: OwnerRecord) -> bool:
    return (one.namespace, one.provisional) == (other.namespace, other.provisional)
