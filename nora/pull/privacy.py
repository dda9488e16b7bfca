"""Private images stay private: what only our credential opened is not for everybody.

Where an upstream is asked with a credential, each repository that it gives is asked for once without it, by HEAD. Where
that fails the repository is private, and a record says so: it is read before anything of the repository is served,
stored or growing, and it outlives the credential. Only an anonymous HEAD that succeeds makes it public; both are asked
again each day, behind the answers.

A namespace where a credential was ever used bears a mark, so that upstreams that never had one cost next to nothing
here: one look for the mark, and no request. A mark stays for ever, so it is remembered; that there is none is not,
because another process may have been told of a credential first.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, TypeVar

import attrs
from twisted.logger import Logger

from nora.access import Action, Rights
from nora.concurrency import Background, SingleFlight
from nora.oci import Digest, Reference, Repository
from nora.oci.errors import Denied, Limited, NoraError, NoSpace, Unavailable, Unknown, Unverified
from nora.oci.listing import TagPage
from nora.pull.interfaces import Answer, Content, Discovery, Pull, Served
from nora.pull.owners import Owners
from nora.storage.interfaces import Records
from nora.storage.repositories import credential_key, private_key
from nora.upstream.interfaces import Candidate, Route, Upstream
from nora.upstream.outcomes import Absent

T = TypeVar("T")
Probe = Callable[[Upstream, str], Awaitable[object]]
"""Asks an upstream by HEAD for something of the repository called so there."""

DAY = 86400.0
_RETRY = 60.0
"""Seconds between two attempts to confirm an old record."""
_MAX_ATTEMPTS = 10_000
_NO_EXPIRY = math.inf


class Privacy:
    """Knows which repositories are private, and finds it out."""

    _log = Logger()

    def __init__(
        self,
        records: Records,
        owners: Owners,
        anonymous: Mapping[str, Upstream],
        shared: Collection[str],
        background: Background,
        now: Callable[[], float],
    ) -> None:
        """`anonymous` has, by name, each upstream that is asked with a credential, as it is without one.

        `shared` are the namespaces all of whose upstreams with a credential are shared with everyone. `now` gives
        seconds since the epoch.
        """
        self._records = records
        self._owners = owners
        self._anonymous = anonymous
        self._shared = frozenset(shared)
        self._background = background
        self._now = now
        self._marked: set[str] = set()
        self._attempts: dict[Repository, float] = {}
        self._judging: SingleFlight[Repository, bool] = SingleFlight(background)

    async def serve(
        self, route: Route, rights: Rights, probe: Probe, pull: Callable[[Route], Awaitable[Served[T]]]
    ) -> Served[T]:
        """Do `pull` with what is left of `route`, and let its result pass or raise `Denied`.

        Whatever serves something of a proxied repository goes through here. `probe` asks for the same by HEAD.
        """
        rights.require(Action.PULL, route.name)
        left, barred = await self.readable(route, rights)
        try:
            served = await pull(left)
        except Unknown:
            if barred:
                raise self.denied(route) from None
            raise
        try:
            await self.settle(left, served.repository, rights, probe)
        except BaseException:
            _close(served.content)
            raise
        return served

    async def readable(self, route: Route, rights: Rights) -> tuple[Route, bool]:
        """Leave of `route` what the client may read, and tell whether something private was left out.

        Candidates behind a private one are left out too: the name is that one's, not another upstream's.
        Raises `Denied` when nothing is left.
        """
        if not await self._concerns(route):
            return route, False
        kept: list[Candidate] = []
        for candidate in await self._owners.order(route):
            if await self._is_barred(candidate.repository, rights):
                if not kept:
                    raise self.denied(route)
                left = tuple(each for each in route.candidates if each in kept)
                return attrs.evolve(route, candidates=left), True
            kept.append(candidate)
        return route, False

    async def settle(self, route: Route, repository: Repository, rights: Rights, probe: Probe) -> None:
        """Let pass what comes of `repository`, or raise `Denied`; a repository that is new is asked for with `probe`.

        Raises `Limited` or `Unavailable` when that cannot be found out now.
        """
        if not await self._is_guarded(repository.namespace, route) or self._opens(repository, rights):
            return
        known = await self._recorded(repository)
        if known is None:
            private = await self._judging.run(
                repository, lambda: self._judge(route, repository, probe, previous=None)
            )
        else:
            private, checked_at = known
            self._confirm(route, repository, probe, private, checked_at)
        if private:
            raise self.denied(route)

    async def shows(self, repository: Repository, rights: Rights) -> bool:
        """Tell whether the client may know of a stored `repository`, from what is recorded alone."""
        if (
            self._opens(repository, rights)
            or self._records.stamp(credential_key(repository.namespace)) is None
        ):
            return True
        known = await self._recorded(repository)
        return known is not None and not known[0]

    def denied(self, route: Route) -> Denied:
        """Make the error for a client that may not read what it asked for."""
        return Denied(
            f"{route.name} is private at its upstream, and this server may not share it: "
            'share = "everyone" on the upstream would'
        )

    def _opens(self, repository: Repository, rights: Rights) -> bool:
        return repository.namespace in self._shared or rights.private

    async def _concerns(self, route: Route) -> bool:
        namespaces = {candidate.repository.namespace for candidate in route.candidates}
        return any([await self._is_guarded(namespace, route) for namespace in namespaces])

    async def _is_guarded(self, namespace: str, route: Route) -> bool:
        """Tell whether a credential is, or ever was, used in `namespace`; in the former case see to its mark."""
        used = any(
            candidate.upstream.name in self._anonymous
            for candidate in route.candidates
            if candidate.repository.namespace == namespace
        )
        marked = namespace in self._marked or self._records.stamp(credential_key(namespace)) is not None
        if used and not marked:
            try:
                await self._records.put(credential_key(namespace), {"since": self._now()})
                marked = True
            except (OSError, NoSpace) as error:
                self._log.error(
                    "the mark of {namespace} is not stored: {error}", namespace=namespace, error=error
                )
        if marked:
            self._marked.add(namespace)
        return used or marked

    async def _is_barred(self, repository: Repository, rights: Rights) -> bool:
        """Tell whether a record says that the client may not read `repository`; one that is old may be wrong."""
        if self._opens(repository, rights) or repository.namespace not in self._marked:
            return False
        known = await self._recorded(repository)
        return known is not None and known[0] and not self._is_due(repository, known[1])

    async def _recorded(self, repository: Repository) -> tuple[bool, float] | None:
        record = await self._records.get(private_key(repository))
        if record is None:
            return None
        private, checked_at = record.value.get("private"), record.value.get("checked_at")
        if (
            not isinstance(private, bool)
            or isinstance(checked_at, bool)
            or not isinstance(checked_at, int | float)
        ):
            return True, -_NO_EXPIRY
        return private, float(checked_at)

    def _is_due(self, repository: Repository, checked_at: float) -> bool:
        """Tell whether a record is old enough to be confirmed, and nobody tried just now."""
        now = self._now()
        return not 0 <= now - checked_at < DAY and now - self._attempts.get(repository, -_NO_EXPIRY) >= _RETRY

    def _confirm(
        self, route: Route, repository: Repository, probe: Probe, private: bool, checked_at: float
    ) -> None:
        """Have an old record confirmed, behind the answer."""
        if not self._is_due(repository, checked_at):
            return
        if len(self._attempts) >= _MAX_ATTEMPTS:
            self._attempts.clear()
        self._attempts[repository] = self._now()
        self._background.start(self._confirmed(route, repository, probe, private))

    async def _confirmed(self, route: Route, repository: Repository, probe: Probe, private: bool) -> None:
        try:
            await self._judging.run(repository, lambda: self._judge(route, repository, probe, private))
        except NoraError as error:
            self._log.info(
                "whether {repository} is private could not be asked: {reason}",
                repository=str(repository),
                reason=error.message,
            )

    async def _judge(self, route: Route, repository: Repository, probe: Probe, previous: bool | None) -> bool:
        """Ask without a credential, and record what that says: public, or private.

        An upstream that denies it to everybody has not got it: what was known before stands then. Raises why when
        nobody could be asked.
        """
        failed: NoraError | None = None
        for candidate in route.candidates:
            if candidate.repository != repository:
                continue
            try:
                private = await self._ask(candidate, probe)
            except (Limited, Unavailable, Unknown) as error:
                failed = error
                continue
            if private is not None:
                await self._record(repository, private)
                return private
        if failed is not None:
            raise failed
        return previous is not False

    async def _record(self, repository: Repository, private: bool) -> None:
        try:
            await self._records.put(private_key(repository), {"private": private, "checked_at": self._now()})
        except (OSError, NoSpace) as error:
            self._log.error("{repository} is not recorded: {error}", repository=str(repository), error=error)

    async def _ask(self, candidate: Candidate, probe: Probe) -> bool | None:
        """Tell whether the repository is private at this upstream; None when it has not got it at all."""
        name, upstream = candidate.repository.name, candidate.upstream
        stranger = self._anonymous.get(upstream.name)
        try:
            await probe(upstream if stranger is None else stranger, name)
            return False
        except Absent as absent:
            if stranger is None:
                return True if absent.denied else None
        try:
            await probe(upstream, name)
            return True
        except Absent:
            return None


class PrivatePull:
    """A `Pull` that gives nothing private to who may not read it: the one way to what is stored."""

    def __init__(self, pull: Pull, privacy: Privacy) -> None:
        self._pull = pull
        self._privacy = privacy

    async def manifest(self, route: Route, reference: Reference, rights: Rights) -> Served[Answer]:
        """GET of a manifest."""
        probe = _of_manifest(reference)
        return await self._privacy.serve(
            route, rights, probe, lambda left: self._pull.manifest(left, reference, rights)
        )

    async def describe(self, route: Route, reference: Reference, rights: Rights) -> Served[Answer]:
        """HEAD of a manifest."""
        probe = _of_manifest(reference)
        return await self._privacy.serve(
            route, rights, probe, lambda left: self._pull.describe(left, reference, rights)
        )

    async def blob(self, route: Route, digest: Digest, rights: Rights) -> Served[Content]:
        """GET of a blob."""
        probe = _OfBlob(digest)

        async def pull(left: Route) -> Served[Content]:
            served = await self._pull.blob(left, digest, rights)
            probe.size = served.content.size
            return served

        return await self._privacy.serve(route, rights, probe, pull)

    async def describe_blob(self, route: Route, digest: Digest, rights: Rights) -> Served[int]:
        """HEAD of a blob."""
        probe = _OfBlob(digest)

        async def pull(left: Route) -> Served[int]:
            served = await self._pull.describe_blob(left, digest, rights)
            probe.size = served.content
            return served

        return await self._privacy.serve(route, rights, probe, pull)


class PrivateDiscovery:
    """A `Discovery` that tells who may not read a repository nothing of it."""

    def __init__(self, discovery: Discovery, privacy: Privacy) -> None:
        self._discovery = discovery
        self._privacy = privacy

    async def tags(self, route: Route, last: bytes, limit: int, rights: Rights) -> Served[TagPage]:
        """List tags."""
        return await self._privacy.serve(
            route,
            rights,
            lambda upstream, name: upstream.tags(name),
            lambda left: self._discovery.tags(left, last, limit, rights),
        )

    async def referrers(
        self, route: Route, digest: Digest, artifact_type: str | None, rights: Rights, last: str = ""
    ) -> Served[bytes]:
        """List what refers to a manifest."""
        return await self._privacy.serve(
            route,
            rights,
            _of_manifest(digest),
            lambda left: self._discovery.referrers(left, digest, artifact_type, rights, last),
        )


def _of_manifest(reference: Reference) -> Probe:
    return lambda upstream, name: upstream.describe(name, reference)


class _OfBlob:
    """Asks for a blob of `size` bytes, None while that is not known.

    An answer that tells another size, or none, is not about the blob: some gateways say 200 to whoever is not logged
    in, and that must not make a repository public.
    """

    def __init__(self, digest: Digest) -> None:
        self._digest = digest
        self.size: int | None = None

    async def __call__(self, upstream: Upstream, name: str) -> None:
        size = await upstream.describe_blob(name, self._digest)
        if self.size is not None and size != self.size:
            raise Unverified("it answered about something else than the blob")


def _close(content: Any) -> None:
    """Let go of a blob's content; nothing else is held."""
    close = getattr(content, "close", None)
    if close is not None:
        close()
