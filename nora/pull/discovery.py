"""Discovery through the cache: the tags of a repository, and what refers to a manifest.

A list is fetched whole, stored whole and believed for its time to live; then it is fetched again, once for all who ask.
Who asks meanwhile waits a little, then gets the stored list, stale. Without a stored list a failure is an error: the
tags that happen to be stored here are no list, and an empty index would say that an image has no signatures. One
process at a time fetches a list; the others read what it stored.

A list obeys the owner of an unqualified name and never makes one: that another upstream lists tags says nothing of
whose the image is that somebody then pulls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Generic, Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nora.access import Action, Rights
from nora.concurrency import Background, SingleFlight
from nora.oci import Digest, Repository
from nora.oci.errors import NameUnknown, NoraError, NoSpace, TimedOut, Unavailable
from nora.oci.listing import NO_REFERRERS, TagList, TagPage, filter_referrers
from nora.oci.reference import LOCAL
from nora.pull.absences import Absences
from nora.pull.interfaces import Cached, Served
from nora.pull.manifests import Manifests
from nora.pull.owners import Owners
from nora.storage.interfaces import Disk, Lists, ListSource, Locks
from nora.upstream.chain import first
from nora.upstream.interfaces import Candidate, Route, repositories_of
from nora.upstream.outcomes import Absent

T = TypeVar("T")
Key = tuple[Digest | None, tuple[Candidate, ...]]

_PATIENCE = 10.0
"""How many seconds to wait for another process that fetches the same list, when none is stored."""
_SKEW = 60.0
"""A list from further in the future than this, in seconds, is not fresh: the clock was wrong."""


class StaleObserver(Protocol):
    """Hears of stale answers."""

    def stale(self) -> None:
        """A stored list was served though it could not be renewed."""


@attrs.frozen
class _Fetched(Generic[T]):
    """A list that was just fetched, from where, and whether it could be stored."""

    content: T
    candidate: Candidate
    stored: bool


@attrs.frozen
class _Stored(Generic[T]):
    """What the store has of a list, and of which repository."""

    content: T
    source: ListSource
    repository: Repository

    def served(self, cached: Cached) -> Served[T]:
        """Serve it."""
        return Served(self.content, self.repository, cached, self.source.upstream)


Read = Callable[[Repository], Awaitable[tuple[T, ListSource] | None]]
"""Reads the part that is wanted of the list that the store has of a repository."""
Fetch = Callable[[tuple[Candidate, ...]], Coroutine[Any, Any, _Fetched[Any]]]
"""Gets a list from the first candidate that has it, and stores it."""


class DiscoveryThrough:
    """The lists that clients can ask for; see `nora.pull.interfaces.Discovery`.

    `list_ttl` is for how many seconds a list is believed, `revalidate_timeout` how many a client with a stored list
    waits for a new one; `now` gives seconds since the epoch.
    """

    _log = Logger()

    def __init__(
        self,
        lists: Lists,
        disk: Disk,
        manifests: Manifests,
        owners: Owners,
        locks: Locks,
        absences: Absences,
        background: Background,
        clock: IReactorTime,
        now: Callable[[], float],
        observer: StaleObserver,
        *,
        list_ttl: float,
        revalidate_timeout: float,
    ) -> None:
        self._lists = lists
        self._disk = disk
        self._manifests = manifests
        self._owners = owners
        self._locks = locks
        self._absences = absences
        self._clock = clock
        self._now = now
        self._observer = observer
        self._ttl = list_ttl
        self._timeout = revalidate_timeout
        self._fetching: SingleFlight[Key, _Fetched[Any] | None] = SingleFlight(background)

    async def tags(self, route: Route, last: bytes, limit: int, rights: Rights) -> Served[TagPage]:
        """Give up to `limit` of the repository's tags after `last`."""
        rights.require(Action.PULL, route.name)

        async def read(repository: Repository) -> tuple[TagPage, ListSource] | None:
            listed = await self._lists.tags(repository, last, limit)
            return None if listed is None else (listed.page, listed.source)

        def cut(tags: TagList) -> TagPage:
            return tags.page(last, limit)

        return await self._serve(None, await self._owners.order_of_list(route), read, self._fetch_tags, cut)

    async def referrers(
        self, route: Route, digest: Digest, artifact_type: str | None, rights: Rights, last: str = ""
    ) -> Served[bytes]:
        """Give the index of what refers to `digest`: all of it, or what is of one type."""
        rights.require(Action.PULL, route.name)

        async def read(repository: Repository) -> tuple[bytes, ListSource] | None:
            listed = await self._lists.referrers(repository, digest)
            return None if listed is None else (listed.body, listed.source)

        async def fetch(candidates: tuple[Candidate, ...]) -> _Fetched[bytes]:
            return await self._fetch_referrers(candidates, digest)

        if not route.candidates:
            # "MUST NOT return a 404" (distribution-spec, "Listing Referrers"), and nobody could know of any.
            return Served(NO_REFERRERS, Repository(LOCAL, route.name), Cached.MISS, None)
        candidates = await self._holding_first(await self._owners.order_of_list(route), digest)
        served = await self._serve(digest, candidates, read, fetch, lambda body: body)
        if artifact_type is None:
            return served
        body = await self._disk.run(filter_referrers, served.content, artifact_type)
        return attrs.evolve(served, content=body)

    async def _serve(
        self,
        subject: Digest | None,
        candidates: tuple[Candidate, ...],
        read: Read[T],
        fetch: Fetch,
        cut: Callable[[Any], T],
    ) -> Served[T]:
        """Serve what `read` finds while it is fresh, else what `cut` makes of what `fetch` gets, else that again."""
        if not candidates:
            raise NameUnknown("not stored, and no upstream to ask")
        known = await self._stored(candidates, read)
        if known is None:
            repositories = [candidate.repository for candidate in candidates]
            fetched = await self._absences.ask(
                repositories,
                subject,
                NameUnknown,
                lambda: self._run(subject, candidates, read, fetch, stored=False),
            )
            return await self._answer(fetched, candidates, read, cut)
        if self._is_fresh(known):
            return known.served(Cached.HIT)
        # A stored list comes before another upstream's list of the same name.
        last = max(i for i, each in enumerate(candidates) if each.repository == known.repository)
        candidates = candidates[: last + 1]
        fetching = self._run(subject, candidates, read, fetch, stored=True)
        try:
            fetched = await fetching.addTimeout(self._timeout, self._clock)
            return await self._answer(fetched, candidates, read, cut)
        except (NoraError, TimeoutError) as error:
            reason = error.message if isinstance(error, NoraError) else "no answer in time"
            self._log.info(
                "a list of {name} is served stale: {reason}", name=str(known.repository), reason=reason
            )
            self._observer.stale()
            return known.served(Cached.STALE)

    async def _stored(self, candidates: tuple[Candidate, ...], read: Read[T]) -> _Stored[T] | None:
        for repository, _ in repositories_of(candidates):
            found = await read(repository)
            if found is not None:
                return _Stored(*found, repository)
        return None

    def _is_fresh(self, stored: _Stored[Any]) -> bool:
        return -_SKEW <= self._now() - stored.source.checked_at < self._ttl

    def _run(
        self,
        subject: Digest | None,
        candidates: tuple[Candidate, ...],
        read: Read[Any],
        fetch: Fetch,
        *,
        stored: bool,
    ) -> Deferred[_Fetched[Any] | None]:
        def work() -> Coroutine[Any, Any, _Fetched[Any] | None]:
            return self._locked(subject, candidates, read, fetch, stored)

        return self._fetching.run((subject, candidates), work)

    async def _locked(
        self,
        subject: Digest | None,
        candidates: tuple[Candidate, ...],
        read: Read[Any],
        fetch: Fetch,
        stored: bool,
    ) -> _Fetched[Any] | None:
        """Fetch, one process at a time for a list; None when another process has stored it meanwhile.

        Who waits for another's in vain leaves it at the stored list; without one it fetches the list itself.
        """
        began = self._now()
        what = "tags" if subject is None else subject
        wait = self._timeout if stored else _PATIENCE
        lock = await self._locks.hold(f"list:{candidates[0].repository}:{what}", wait)
        try:
            found = await self._stored(candidates, read)
            if found is not None and (
                self._is_fresh(found) or began < found.source.checked_at <= self._now()
            ):
                return None
            if lock is None and stored:
                raise TimedOut("another process has been asking for it")
            return await fetch(candidates)
        finally:
            if lock is not None:
                lock.release()

    async def _answer(
        self,
        fetched: _Fetched[Any] | None,
        candidates: tuple[Candidate, ...],
        read: Read[T],
        cut: Callable[[Any], T],
    ) -> Served[T]:
        if fetched is not None:
            return self._fetched(fetched, cut)
        found = await self._stored(candidates, read)
        if found is None:
            raise Unavailable("its list was stored, and is gone again")
        return found.served(Cached.HIT)

    def _fetched(self, fetched: _Fetched[Any], cut: Callable[[Any], T]) -> Served[T]:
        candidate = fetched.candidate
        cached = Cached.MISS if fetched.stored else Cached.BYPASS
        return Served(cut(fetched.content), candidate.repository, cached, candidate.upstream.name)

    async def _fetch_tags(self, candidates: tuple[Candidate, ...]) -> _Fetched[TagList]:
        async def ask(candidate: Candidate) -> TagList:
            return await candidate.upstream.tags(candidate.repository.name)

        found = await first(candidates, ask, NameUnknown)
        self._absences.forget(found.candidate.repository)
        repository, tags = found.candidate.repository, found.value
        stored = await self._store(
            found.candidate, lambda source: self._lists.put_tags(repository, tags, source)
        )
        return _Fetched(tags, found.candidate, stored)

    async def _fetch_referrers(self, candidates: tuple[Candidate, ...], subject: Digest) -> _Fetched[bytes]:
        """Get the first list with something in it. When nobody has one, and all could say so, it is the empty one."""
        lacking: set[Candidate] = set()
        told = False

        async def ask(candidate: Candidate) -> bytes:
            nonlocal told
            try:
                body = await candidate.upstream.referrers(candidate.repository.name, subject)
            except Absent as absent:
                if not absent.denied:
                    lacking.add(candidate)
                raise
            if body == NO_REFERRERS:
                told = True
                lacking.add(candidate)
                raise Absent("it lists nothing for this digest")
            return body

        try:
            found = await first(candidates, ask, NameUnknown)
            body, candidate = found.value, found.candidate
        except NameUnknown:
            body, candidate = NO_REFERRERS, candidates[0]
            if len(lacking) < len(set(candidates)):
                raise
            if not told and await self._lists_some(candidates, subject):
                raise
        repository = candidate.repository
        if body == NO_REFERRERS and await self._manifests.has(repository, subject) is None:
            # Else whoever makes up digests could fill the disk with empty lists.
            return _Fetched(body, candidate, stored=False)
        stored = await self._store(
            candidate, lambda source: self._lists.put_referrers(repository, subject, body, source)
        )
        return _Fetched(body, candidate, stored)

    async def _lists_some(self, candidates: Sequence[Candidate], subject: Digest) -> bool:
        """Tell whether a stored list has something in it: a repository that is gone upstream does not empty it."""
        for repository, _ in repositories_of(candidates):
            listed = await self._lists.referrers(repository, subject)
            if listed is not None and listed.body != NO_REFERRERS:
                return True
        return False

    async def _store(self, candidate: Candidate, put: Callable[[ListSource], Awaitable[None]]) -> bool:
        """A disk that does not take a list costs the cache, not the answer."""
        try:
            await put(ListSource(candidate.upstream.name, self._now()))
        except (OSError, NoSpace) as error:
            self._log.error("a list of {name} is not stored: {error}",
                            name=str(candidate.repository), error=error)  # fmt: skip
            return False
        return True

    async def _holding_first(
        self, candidates: tuple[Candidate, ...], digest: Digest
    ) -> tuple[Candidate, ...]:
        """Put those first in whose repository the manifest is stored."""
        holding = {
            repository
            for repository, _ in repositories_of(candidates)
            if await self._manifests.has(repository, digest) is not None
        }
        return tuple(sorted(candidates, key=lambda candidate: candidate.repository not in holding))
