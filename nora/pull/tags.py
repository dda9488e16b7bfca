"""Tags and their freshness.

A tag's record is believed for its time to live; then one HEAD asks whether it moved (which costs no pull), and
only when it did is the new manifest fetched, by digest. The record changes after its manifest is stored, so a
tag never points at less than before. Who asks meanwhile waits a little, then gets the stored copy, stale: it
comes before any error and before another upstream's image of the same name.

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
from nora.pull.interfaces import Answer, Cached, Served
from nora.pull.manifests import Manifests
from nora.pull.owners import Owners
from nora.storage.interfaces import Lock, Locks, Repositories, TagRecord
from nora.upstream.chain import Found
from nora.upstream.interfaces import Candidate, Route

_SKEW = 60.0
"""A record from further in the future than this, in seconds, is not fresh: the clock was wrong."""


@attrs.frozen
class Freshness:
    """For how long a tag is believed without asking, in seconds (infinite: for ever), and how long asking may take."""

    metadata_ttl: float
    revalidate_timeout: float


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

    async def get(self, route: Route, tag: Tag) -> Served[Answer]:
        """Give the manifest that `tag` names now; raises what the upstreams' outcomes come to."""
        candidates, known = await self._look(route, tag)
        if known is not None and known.stored:
            served = await self._current(route, tag, known)
            answer = await self._manifests.read(served.repository, served.content.digest)
            if answer is not None:
                return attrs.evolve(served, content=answer)  # type: ignore[arg-type, return-value]
        if not candidates:
            raise ManifestUnknown("not stored, and no upstream to ask")
        found, stored = await self._manifests.fetch(candidates, tag)
        await self._remember(route, tag, found, found.value.descriptor)
        candidate = found.candidate
        answer = Answer(found.value.descriptor, found.value.body)
        cached = Cached.MISS if stored else Cached.BYPASS
        return Served(answer, candidate.repository, cached, candidate.upstream.name)

    async def describe(self, route: Route, tag: Tag) -> Served[Descriptor]:
        """Tell what `tag` names now; raises as `get` does."""
        candidates, known = await self._look(route, tag)
        if known is not None and (known.stored or self._is_fresh(known.record)):
            return await self._current(route, tag, known)
        if not candidates:
            raise ManifestUnknown("not stored, and no upstream to ask")
        found = await self._manifests.describe(candidates, tag)
        await self._remember(route, tag, found, found.value)
        return Served(found.value, found.candidate.repository, Cached.MISS, found.candidate.upstream.name)

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

    async def _current(self, route: Route, tag: Tag, known: _Known) -> Served[Descriptor]:
        record = known.record
        if self._is_fresh(record):
            return Served(record.descriptor, known.repository, Cached.HIT, record.upstream)
        key = (known.repository, tag.name)
        checking = self._checking.run(key, lambda: self._check(route, tag, known))
        checking.addTimeout(self._freshness.revalidate_timeout, self._clock)
        try:
            return await checking
        except (NoraError, TimeoutError) as error:
            reason = error.message if isinstance(error, NoraError) else "no answer in time"
            self._log.info("{repository}:{tag} is served stale: {reason}", repository=str(known.repository),
                           tag=tag.name, reason=reason)  # fmt: skip
            return Served(record.descriptor, known.repository, Cached.STALE, record.upstream)

    async def _check(self, route: Route, tag: Tag, known: _Known) -> Served[Descriptor]:
        """Ask whether the tag moved, and fetch what it moved to. One process at a time does so for a tag."""
        lock: Lock | None = await self._locks.hold(
            f"tag:{known.repository}:{tag}", self._freshness.revalidate_timeout
        )
        try:
            record = await self._repositories.tag(known.repository, tag.name)
            if record is not None and record != known.record and self._is_fresh(record):
                return Served(record.descriptor, known.repository, Cached.HIT, record.upstream)
            return await self._ask(route, tag, known)
        finally:
            if lock is not None:
                lock.release()

    async def _ask(self, route: Route, tag: Tag, known: _Known) -> Served[Descriptor]:
        found = await self._manifests.describe(known.check, tag, cached=True)
        descriptor, candidate = found.value, found.candidate
        same = (
            candidate.repository == known.repository and descriptor.digest == known.record.descriptor.digest
        )
        if same or await self._manifests.has(candidate.repository, descriptor.digest):
            await self._remember(route, tag, found, descriptor, durable=not same)
            return Served(descriptor, candidate.repository, Cached.HIT, candidate.upstream.name)
        fetched, stored = await self._manifests.fetch((candidate,), descriptor.digest)
        if not stored:
            raise NoSpace("the tag moved, and its new manifest could not be stored")
        await self._remember(route, tag, found, fetched.value.descriptor)
        return Served(fetched.value.descriptor, candidate.repository, Cached.MISS, candidate.upstream.name)

    async def _remember(
        self, route: Route, tag: Tag, found: Found[Any], descriptor: Descriptor, *, durable: bool = True
    ) -> None:
        record = TagRecord(descriptor, found.candidate.upstream.name, self._now())
        try:
            await self._repositories.put_tag(found.candidate.repository, tag.name, record, durable=durable)
            await self._owners.resolved(route, tag.name, found)
        except (OSError, NoSpace) as error:
            self._log.error("{tag} is not remembered: {error}", tag=f"{route.name}:{tag}", error=error)

    def _is_fresh(self, record: TagRecord) -> bool:
        age = self._now() - record.checked_at
        return -_SKEW <= age < self._freshness.metadata_ttl
