"""Tags and their freshness.

A tag's record is believed for its time to live; then one HEAD asks whether it moved (which costs no pull), and
only when it did is the new manifest fetched, by digest. The record changes after its manifest is stored, so a
tag never points at less than before. Who asks meanwhile waits a little, then gets the stored copy, stale: it
comes before any error and before another upstream's image of the same name, unless it is older than
`Freshness` bears, or that tells to forget what the upstreams have no more.

A HEAD of a tag that is not stored leaves a record that points at nothing yet: the manifest follows by digest,
as containerd asks for it, and the tag is there for the next pull.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nora.concurrency import Background, SingleFlight
from nora.oci import Descriptor, Repository, Tag
from nora.oci.errors import ManifestUnknown, NoraError, NoSpace
from nora.pull.freshness import Forgotten, Freshness
from nora.pull.interfaces import Answer, Cached, Served
from nora.pull.manifests import ELSEWHERE, Manifests
from nora.pull.owners import Owners
from nora.storage import witness
from nora.storage.interfaces import Lock, Locks, Repositories, TagRecord
from nora.upstream.chain import Found
from nora.upstream.interfaces import Candidate, Route


@attrs.frozen
class _Known:
    """A tag's record, whether its manifest is stored, and where to ask about it."""

    repository: Repository
    record: TagRecord
    stored: bool
    check: tuple[Candidate, ...]


class Tags:
    """The tags of proxied repositories."""

    _log = Logger()

    def __init__(
        self,
        repositories: Repositories,
        manifests: Manifests,
        owners: Owners,
        locks: Locks,
        background: Background,
        clock: IReactorTime,
        now: Callable[[], float],
        freshness: Freshness,
    ) -> None:
        self._repositories = repositories
        self._manifests = manifests
        self._owners = owners
        self._locks = locks
        self._clock = clock
        self._now = now
        self._freshness = freshness
        self._checking: SingleFlight[tuple[Repository, str], Served[Descriptor]] = SingleFlight(background)
        self._fetching: SingleFlight[tuple[Route, str], Served[Answer]] = SingleFlight(background)

    async def get(self, route: Route, tag: Tag) -> Served[Answer]:
        """Give the manifest that `tag` names now; raises what the upstreams' outcomes come to."""
        candidates, known = await self._look(route, tag)
        if known is not None and known.stored:
            served = await self._current(route, tag, known)
            answer = (
                None
                if served is None
                else await self._manifests.read(served.repository, served.content.digest)
            )
            if served is not None and answer is not None:
                return attrs.evolve(served, content=answer)  # type: ignore[arg-type, return-value]
        if not candidates:
            raise ManifestUnknown("not stored, and no upstream to ask")
        return await self._fetching.run((route, tag.name), lambda: self._fetch(route, tag, candidates))

    async def _fetch(self, route: Route, tag: Tag, candidates: tuple[Candidate, ...]) -> Served[Answer]:
        """Fetch what `tag` names, in one process at a time: what another fetched meanwhile is served as it is."""
        began = self._now()
        lock: Lock | None = await self._locks.hold(f"tag:{candidates[0].repository}:{tag}", ELSEWHERE)
        try:
            _, known = await self._look(route, tag)
            if known is not None and known.stored and known.record.checked_at > began:
                answer = await self._manifests.read(known.repository, known.record.descriptor.digest)
                if answer is not None:
                    return Served(answer, known.repository, Cached.HIT, known.record.upstream)
            return await self._ask_for(route, tag, candidates)
        finally:
            if lock is not None:
                lock.release()

    async def _ask_for(self, route: Route, tag: Tag, candidates: tuple[Candidate, ...]) -> Served[Answer]:
        found, stored = await self._manifests.fetch(candidates, tag)
        await self._remember(route, tag, found, found.value.descriptor)
        candidate = found.candidate
        answer = Answer(found.value.descriptor, found.value.body)
        cached = Cached.MISS if stored else Cached.BYPASS
        return Served(answer, candidate.repository, cached, candidate.upstream.name)

    async def describe(self, route: Route, tag: Tag) -> Served[Descriptor]:
        """Tell what `tag` names now; raises as `get` does."""
        candidates, known = await self._look(route, tag)
        if known is not None and (known.stored or self._is_told(known.repository, tag, known.record)):
            served = await self._current(route, tag, known)
            if served is not None:
                return served
        if not candidates:
            raise ManifestUnknown("not stored, and no upstream to ask")
        found = await self._manifests.describe(candidates, tag)
        await self._remember(route, tag, found, found.value)
        return Served(found.value, found.candidate.repository, Cached.MISS, found.candidate.upstream.name)

    async def refresh(self, route: Route, tag: Tag) -> tuple[TagRecord, Served[Descriptor]]:
        """Ask now what a cached tag names, however fresh it is; tells what was known of it before, too.

        Raises `ManifestUnknown` for a tag that is not cached, `Forgotten`, and what the upstreams' outcomes come to.
        """
        _, known = await self._look(route, tag)
        if known is None:
            raise ManifestUnknown(f"no such tag of {route.name} is cached", {"reference": tag.name})
        checking = self._checking.run((known.repository, tag.name), lambda: self._check(route, tag, known))
        return known.record, await checking

    async def _look(self, route: Route, tag: Tag) -> tuple[tuple[Candidate, ...], _Known | None]:
        candidates, repository = await self._owners.order_of_tag(route, tag.name)
        if repository is None:
            return candidates, None
        record = await self._repositories.tag(repository, tag.name)
        if record is None:
            return candidates, None
        stored = await self._manifests.has(repository, record.descriptor.digest) is not None
        last = max((i for i, each in enumerate(candidates) if each.repository == repository), default=-1)
        return candidates, _Known(repository, record, stored, candidates[: last + 1])

    async def _current(self, route: Route, tag: Tag, known: _Known) -> Served[Descriptor] | None:
        """Tell what a known tag names now.

        None when its copy is too old to be served unconfirmed, and the disk takes no newer one. Raises `Forgotten`, and
        when the copy is too old what the upstreams' outcomes come to.
        """
        repository, record = known.repository, known.record
        if self._is_fresh(repository, tag, record):
            witness.expires(self._freshness.until(repository, tag.name, record))
            return Served(record.descriptor, repository, Cached.HIT, record.upstream)
        # Whatever comes of it holds for this answer alone.
        witness.expires(0)
        checking = self._checking.run((repository, tag.name), lambda: self._check(route, tag, known))
        bearable = self._is_bearable(known, tag)
        if bearable:  # else there is nothing to turn to when the time is up
            checking.addTimeout(self._freshness.revalidate_timeout, self._clock)
        try:
            return await checking
        except Forgotten:
            raise
        except (NoraError, TimeoutError) as error:
            reason = error.message if isinstance(error, NoraError) else "no answer in time"
            if not bearable:
                self._log.warn("{repository}:{tag} is too old to be served stale: {reason}", repository=str(repository),
                               tag=tag.name, reason=reason)  # fmt: skip
                if isinstance(error, NoSpace):
                    return None
                raise
            self._log.info("{repository}:{tag} is served stale: {reason}", repository=str(repository),
                           tag=tag.name, reason=reason)  # fmt: skip
            return Served(record.descriptor, repository, Cached.STALE, record.upstream)

    async def _check(self, route: Route, tag: Tag, known: _Known) -> Served[Descriptor]:
        """Ask whether the tag moved, and fetch what it moved to. One process at a time does so for a tag."""
        lock: Lock | None = await self._locks.hold(
            f"tag:{known.repository}:{tag}", self._freshness.revalidate_timeout
        )
        try:
            record = await self._repositories.tag(known.repository, tag.name)
            if (
                record is not None
                and record != known.record
                and self._is_fresh(known.repository, tag, record)
            ):
                return Served(record.descriptor, known.repository, Cached.HIT, record.upstream)
            return await self._ask(route, tag, known)
        finally:
            if lock is not None:
                lock.release()

    async def _ask(self, route: Route, tag: Tag, known: _Known) -> Served[Descriptor]:
        try:
            found = await self._manifests.describe(known.check, tag, cached=True)
        except ManifestUnknown as error:
            if not self._freshness.is_forgotten(error):
                raise
            await self._forget(route, tag, known)
            raise Forgotten("no upstream has it any more", error.detail) from error
        descriptor, candidate = found.value, found.candidate
        same = (
            candidate.repository == known.repository and descriptor.digest == known.record.descriptor.digest
        )
        if same or await self._manifests.has(candidate.repository, descriptor.digest):
            await self._remember(route, tag, found, descriptor, durable=not same)
            return Served(descriptor, candidate.repository, Cached.HIT, candidate.upstream.name)
        if self._spares(known, tag, candidate):
            return Served(known.record.descriptor, known.repository, Cached.QUOTA, known.record.upstream)
        fetched, stored = await self._manifests.fetch((candidate,), descriptor.digest)
        if not stored:
            raise NoSpace("the tag moved, and its new manifest could not be stored")
        await self._remember(route, tag, found, fetched.value.descriptor)
        return Served(fetched.value.descriptor, candidate.repository, Cached.MISS, candidate.upstream.name)

    def _spares(self, known: _Known, tag: Tag, candidate: Candidate) -> bool:
        """Tell whether the copy, though the tag moved, is better served than renewed at the cost of a scarce pull.

        The record stays as it is, so that the next question is a HEAD again.
        """
        upstream = candidate.upstream
        left = upstream.pulls_left()
        if not self._freshness.is_spent(left) or not self._is_bearable(known, tag):
            return False
        self._log.warn("{repository}:{tag} moved and is not fetched: {upstream} leaves {left} pulls",
                       repository=str(known.repository), tag=tag.name, upstream=upstream.name, left=left)  # fmt: skip
        return True

    async def _remember(
        self, route: Route, tag: Tag, found: Found[Any], descriptor: Descriptor, *, durable: bool = True
    ) -> None:
        record = TagRecord(descriptor, found.candidate.upstream.name, self._now())
        try:
            await self._repositories.put_tag(found.candidate.repository, tag.name, record, durable=durable)
            await self._owners.resolved(route, tag.name, found)
        except (OSError, NoSpace) as error:
            self._log.error("{tag} is not remembered: {error}", tag=f"{route.name}:{tag}", error=error)

    async def _forget(self, route: Route, tag: Tag, known: _Known) -> None:
        """Remove the tag; the manifest and its right stay, for its digest and for other tags."""
        self._log.info("{repository}:{tag} is forgotten: no upstream has it any more",
                       repository=str(known.repository), tag=tag.name)  # fmt: skip
        try:
            await self._repositories.remove_tag(known.repository, tag.name)
            await self._owners.forget(route, tag.name)
        except (OSError, NoSpace) as error:
            self._log.error("{tag} could not be forgotten: {error}", tag=f"{route.name}:{tag}", error=error)

    def _is_fresh(self, repository: Repository, tag: Tag, record: TagRecord) -> bool:
        return self._freshness.is_fresh(repository, tag.name, record, self._now())

    def _is_told(self, repository: Repository, tag: Tag, record: TagRecord) -> bool:
        """Tell whether a HEAD may be answered from the record alone, though its manifest is not stored."""
        return not self._freshness.offline and self._is_fresh(repository, tag, record)

    def _is_bearable(self, known: _Known, tag: Tag) -> bool:
        return self._freshness.is_bearable(known.repository, tag.name, known.record, self._now())
