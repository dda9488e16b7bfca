"""The daemon: the composition root. A configuration goes in, everything that runs comes out.

Only this module knows every room. What a configuration can change in a running daemon (upstreams, routing, freshness)
is built by `_Policy` and swapped as a whole; the store, the fills and the listener stay.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import attrs
from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from nora import __version__
from nora.accounts import credential_of, shared_namespaces, strangers
from nora.concurrency import Background, Waiters
from nora.config import Config, UpstreamConfig, needs_restart
from nora.process import CannotReload, CannotStart, Crew, Place, Sockets, take_store
from nora.process.crew import INTERVAL as TELL_INTERVAL
from nora.proxies import proxies_of
from nora.pull.absences import Absences
from nora.pull.blobs import BlobPull
from nora.pull.discovery import DiscoveryThrough
from nora.pull.fills import Fills
from nora.pull.freshness import Freshness, Rule
from nora.pull.leading import Limits as FillLimits
from nora.pull.manifests import Manifests
from nora.pull.owners import Owners
from nora.pull.privacy import Privacy, PrivateDiscovery, PrivatePull
from nora.pull.tags import Tags
from nora.pull.through import PullThrough
from nora.storage.store import Store
from nora.telemetry import AuditLog, Metrics
from nora.upstream.building import build_registry
from nora.upstream.offline import Offline
from nora.upstream.registry import Registry
from nora.upstream.routing import RoutedUpstream, Routing
from nora.upstream.via import make_pseudonym
from nora.web import health
from nora.web.registry import Backend
from nora.web.site import Limits as SiteLimits
from nora.web.site import build_site
from nora.web.together import together

_PART_AGE = 86400.0
_SWEEP_INTERVAL = 3600.0
_TOTALS_INTERVAL = 10.0


def build(
    config: Config,
    reactor: Any,
    sockets: Sockets,
    reread: Callable[[], Config],
    environ: Mapping[str, str] | None = None,
    crew: Crew | None = None,
) -> Daemon:
    """Build the daemon of `config`; nothing is opened before its `start`.

    `reread` reads the configuration again, raising `CannotReload`; `environ` names proxies; `crew` is the workers that
    this process is one of, none when it is alone. Raises `CannotStart` when a file or a proxy that an upstream needs
    cannot be used.
    """
    return Daemon(config, reactor, sockets, reread, environ or {}, crew or Crew(Place()))


@attrs.frozen
class _Asked:
    """What makes an upstream the same one after a reload, so that its connections and tokens are kept."""

    upstream: UpstreamConfig
    connect_timeout: float
    proxy_timeout: float
    read_timeout: float


class Daemon:
    """See `nora.process.Application`."""

    _log = Logger()

    def __init__(
        self,
        config: Config,
        reactor: Any,
        sockets: Sockets,
        reread: Callable[[], Config],
        environ: Mapping[str, str],
        crew: Crew,
    ) -> None:
        self._config = config
        self._reactor = reactor
        self._sockets = sockets
        self._reread = reread
        self._environ = environ
        self._crew = crew
        place = crew.place
        self._born_at = time.time()
        self._started_at = place.started_at or self._born_at
        self._pseudonym = place.pseudonym or make_pseudonym()
        self._ready = False
        self._ports: list[IListeningPort] = []
        self._opened: list[Callable[[], Awaitable[None]]] = []
        """How to close what was opened, the last first."""
        self._hurry: Waiters[None] = Waiters()
        self._hurried = False
        self._background = Background()
        self._metrics = Metrics(CollectorRegistry(), __version__, place.directory)
        if place.again:
            self._metrics.restarted()
        self._store = store = Store(config.storage.path, reactor)
        docker, server = config.docker, config.server
        limits = FillLimits(
            docker.max_blob_size, place.share(docker.max_fills), place.share(docker.max_fills_per_upstream)
        )
        self._fills = Fills(
            store.parts, store.blobs, store.repositories, store.disk, reactor, limits, self._metrics
        )
        self._registries: dict[_Asked, Registry] = {}
        self._audit = (
            AuditLog(config.audit.path, reactor, store.disk, self._metrics.audit_dropped)
            if config.audit.enabled
            else None
        )
        self._backend = self._compose(config)
        self._metrics.watch_store(lambda: store.totals.blobs, lambda: store.totals.bytes, store.parts.free)
        self._site = build_site(
            clock=reactor,
            backend=self._backend,
            metrics=self._metrics,
            audit=self._audit,
            health=self._health,
            ready=lambda: self._ready and crew.complete,
            instance=self._pseudonym,
            limits=SiteLimits(
                answer_timeout=docker.answer_timeout,
                stall_timeout=server.stall_timeout,
                header_timeout=server.header_timeout,
                max_connections=place.share(server.max_connections),
            ),
        )
        self._chores = [(LoopingCall(self._chore, store.count), _TOTALS_INTERVAL)]
        if place.number == 1:  # what one does for all
            self._chores.append((LoopingCall(self._chore, self._sweep), _SWEEP_INTERVAL))
        if place.shared:
            self._chores.append((LoopingCall(self._chore, self._tell_crew), TELL_INTERVAL))

    def start(self) -> Deferred[None]:
        """Take the store, open everything, listen."""
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        _raise_descriptor_limit()
        if self._crew.place.shared:
            self._store.lock.inherit(self._crew.place.lock)
        else:
            self._store.layout.prepare()
            await take_store(self._store.lock, self._reactor, self._config.server.drain_timeout)
        self._opened.append(self._store.leave)
        self._opened.append(self._store.stop)
        await self._store.start(shared=self._crew.place.shared)
        if self._audit is not None:
            try:
                self._audit.start()
            except OSError as error:
                raise CannotStart(f"audit.path: {self._config.audit.path}: {error.strerror}") from error
            self._opened.append(self._audit.stop)
        for chore, interval in self._chores:
            chore.clock = self._reactor
            chore.start(interval)
        server = self._config.server
        self._ports = self._sockets.listen(self._site, server.host, server.port)
        for port in self._ports:
            self._log.info("listening on {address}", address=_address(port.getHost()))
        for upstream in self._config.docker.upstreams:
            self._log.info("upstream {url} for {namespace}", url=upstream.url, namespace=upstream.namespace)
        self._ready = True

    def stop(self, deadline: float) -> Deferred[None]:
        """Stop listening, let what is in flight end for `deadline` seconds, abort the rest, close everything."""
        return Deferred.fromCoroutine(self._stop(deadline))

    async def _stop(self, deadline: float) -> None:
        self._ready = False
        ports, self._ports = self._ports, []
        for port in ports:
            await _maybe(port.stopListening())
        self._site.drain()
        self._site.close_idle()
        await self._drained(deadline)
        self._site.abort_all()
        for chore, _ in self._chores:
            if chore.running:
                chore.stop()
        await self._fills.stop()
        self._background.cancel()
        for registry in self._registries.values():
            await registry.close()
        while self._opened:
            await self._opened.pop()()

    async def _drained(self, deadline: float) -> None:
        """Wait until no request is in flight, or `deadline` has passed, or there is a hurry."""
        if self._hurried:
            return
        waits = (self._site.idle(), self._hurry.wait())
        first: Waiters[None] = Waiters()
        ended = first.wait().addTimeout(max(deadline, 0.001), self._reactor)
        for wait in waits:
            wait.addCallbacks(first.succeed, lambda _: None)
        try:
            await ended
        except TimeoutError:
            self._log.warn(
                "{count} requests did not end in time; they are cut off", count=self._site.in_flight
            )
        for wait in waits:
            wait.cancel()

    def hurry(self) -> None:
        """End the waiting of a running `stop` now."""
        self._hurried = True
        self._hurry.succeed(None)

    def reload(self) -> None:
        """Take over the keys of the configuration that can change in a running daemon; raises `CannotReload`."""
        config = self._reread()
        try:
            backend = self._compose(config)
        except CannotStart as error:
            raise CannotReload(str(error)) from error
        self._backend.routing, self._backend.pull = backend.routing, backend.pull
        self._backend.discovery = backend.discovery
        for key in needs_restart(self._config, config):
            self._log.warn("{key} changed; it is taken over at the next start", key=key)
        self._config = config

    def reopen_logs(self) -> None:
        """Open the audit log again under its name."""
        if self._audit is not None:
            self._background.start(self._reopen_audit(self._audit))

    async def _reopen_audit(self, audit: AuditLog) -> None:
        try:
            await audit.reopen()
        except OSError as error:
            self._log.error("the audit log could not be opened again: {error}", error=error)

    def healthy(self) -> bool:
        """Tell whether it listens, or is on its way to."""
        return not self._ready or all(getattr(port, "connected", True) for port in self._ports)

    def _compose(self, config: Config) -> Backend:
        """Build what a reload exchanges: upstreams, routing, and pulling by the rules of `config`."""
        docker, server, store = config.docker, config.server, self._store
        registries: dict[_Asked, Registry] = {}
        routed = []
        for upstream in docker.upstreams:
            asked = _Asked(upstream, docker.connect_timeout, docker.proxy_timeout, docker.read_timeout)
            try:
                registries[asked] = self._registries.get(asked) or self._registry(asked)
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                raise CannotStart(
                    f"docker.upstreams: {upstream.name}: {upstream.ca_file}: {reason}"
                ) from error
            place = Offline(upstream.name, upstream.namespace) if docker.offline else registries[asked]
            routed.append(RoutedUpstream(place, upstream.prefix, upstream.include, upstream.exclude))
        routing = Routing(
            routed,
            own_hosts=server.own_names,
            default_action=docker.default_action,
            hosted=docker.hosted,
        )
        owners = Owners(store.repositories, time.time, docker.fallback, self._metrics)
        absences = Absences(self._reactor, docker.negative_ttl, self._metrics)
        manifests = Manifests(
            store.blobs, store.repositories, store.index, store.locks, self._background, absences
        )
        tags = Tags(
            store.repositories,
            manifests,
            owners,
            store.locks,
            self._background,
            self._reactor,
            time.time,
            Freshness(
                docker.metadata_ttl,
                docker.revalidate_timeout,
                rules=tuple(Rule(rule.match, rule.ttl) for rule in docker.freshness),
                max_stale=docker.max_stale,
                forgets=docker.forgets,
                quota_reserve=docker.quota_reserve,
                offline=docker.offline,
            ),
        )
        blobs = BlobPull(
            store.blobs,
            store.repositories,
            store.index,
            store.disk,
            self._fills,
            owners,
            self._background,
            absences,
        )
        discovery = DiscoveryThrough(
            store.lists,
            store.disk,
            manifests,
            owners,
            self._background,
            self._reactor,
            time.time,
            self._metrics,
            list_ttl=docker.list_ttl,
            revalidate_timeout=docker.revalidate_timeout,
        )
        dropped = [old for asked, old in self._registries.items() if asked not in registries]
        self._registries = registries
        for old in dropped:
            self._background.start(old.close())
        anonymous = strangers(registries.values(), offline=docker.offline)
        everyone = shared_namespaces(docker.upstreams, anonymous)
        privacy = Privacy(store.records, owners, anonymous, everyone, self._background, time.time)
        pull = PullThrough(manifests, tags, blobs, owners, self._metrics)
        return Backend(routing, PrivatePull(pull, privacy), PrivateDiscovery(discovery, privacy))

    def _registry(self, asked: _Asked) -> Registry:
        return build_registry(
            self._reactor,
            name=asked.upstream.name,
            namespace=asked.upstream.namespace,
            url=asked.upstream.url,
            connect_timeout=asked.connect_timeout,
            proxy_timeout=asked.proxy_timeout,
            read_timeout=asked.read_timeout,
            ca_file=asked.upstream.ca_file,
            observer=self._metrics,
            pseudonym=self._pseudonym,
            source=credential_of(self._reactor, asked.upstream),
            realms=asked.upstream.realms,
            proxies=proxies_of(asked.upstream, self._environ),
        )

    async def _sweep(self) -> None:
        swept = await self._store.parts.sweep(_PART_AGE)
        if swept:
            self._log.info("{count} partial fills that nobody asked for in a day are gone", count=swept)

    def _chore(self, work: Callable[[], Coroutine[Any, Any, None]]) -> Deferred[None]:
        """Do one of the regular chores; one that fails is logged, and done again next time."""
        doing = Deferred.fromCoroutine(work())
        doing.addErrback(lambda failure: self._log.failure("a chore failed", failure))
        return doing

    async def _health(self) -> dict[str, object]:
        await self._store.count()
        place = self._crew.place
        if not place.shared:
            return self._state()
        own = {**self._state(), **self._worker()}
        return together(own, self._crew.others(), place.number, place.workers)

    async def _tell_crew(self) -> None:
        self._crew.tell({**self._state(), **self._worker()})

    def _worker(self) -> dict[str, object]:
        now = time.time()
        return {
            "worker": self._crew.place.number,
            "pid": os.getpid(),
            "served": round(now - self._born_at, 3),
        }

    def _state(self) -> dict[str, object]:
        """Tell how this process is, as `/health` does."""
        return health.tell(
            time.time() - self._started_at,
            self._store.totals,
            self._store.parts.free(),
            len(self._fills),
            list(self._registries.values()),
        )


def _address(host: Any) -> str:
    return f"{host.host}:{host.port}" if hasattr(host, "port") else str(host)


def _raise_descriptor_limit() -> None:
    """Let the process open as many files as it may: a follower holds a socket and a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _maybe(result: Awaitable[Any] | None) -> None:
    if result is not None:
        await result
