"""The daemon: the composition root. A configuration goes in, everything that runs comes out.

Only this module knows every room. What a configuration can change in a running daemon (upstreams, routing, freshness)
is built by `nora.policy` and swapped as a whole; the store, the fills and the listener stay.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from nora import __version__
from nora.certificate import Certificate
from nora.concurrency import Background, Waiters
from nora.config import Config, needs_restart
from nora.entrance import Entrance
from nora.policy import Policy
from nora.process import CannotReload, CannotStart, Crew, Place, Sockets, take_store
from nora.process.crew import INTERVAL as TELL_INTERVAL
from nora.pull.fills import Fills
from nora.pull.leading import Limits as FillLimits
from nora.push.turns import Turns
from nora.storage.store import Store
from nora.telemetry import AuditLog, Metrics, Sums
from nora.upstream.via import make_pseudonym
from nora.upstreams import Configured, Upstreams
from nora.web import Limits as SiteLimits
from nora.web import Trusted, build_site, health
from nora.web.together import together
from nora.web.ui import Sources

_PART_AGE = 86400.0
_UPLOAD_AGE = 86400.0
_SWEEP_INTERVAL = 3600.0
_CLOSING_LOOKS = 20
_TOTALS_INTERVAL = 10.0
_SUMS_INTERVAL = 5.0


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
    this process is one of, none when it is alone. Raises `CannotStart` when a file or a proxy that an upstream needs,
    or the certificate, cannot be used.
    """
    return Daemon(config, reactor, sockets, reread, environ or {}, crew or Crew(Place()))


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
        self._store = store = Store(config.storage.path, reactor, config.docker.max_uploads)
        docker, server = config.docker, config.server
        limits = FillLimits(
            docker.max_blob_size, place.share(docker.max_fills), place.share(docker.max_fills_per_upstream)
        )
        self._fills = Fills(
            store.parts, store.blobs, store.repositories, store.disk, reactor, limits, self._metrics
        )
        self._pushing = Background()
        """What pushes began: it ends by itself, and the store waits for it."""
        self._turns = Turns(store.locks)
        self._audit = (
            AuditLog(config.audit.path, reactor, store.disk, self._metrics.audit_dropped)
            if config.audit.enabled
            else None
        )
        self._entrance = Entrance(reactor, store.layout, self._metrics)
        self._upstreams = Upstreams(reactor, self._metrics, self._pseudonym, environ, self._background)
        configured = self._upstreams.configured(docker)
        self._rules = self._policy(config, configured)
        self._backend = self._rules.backend
        self._upstreams.take_over(configured)
        self._metrics.watch_store(lambda: store.totals.blobs, lambda: store.totals.bytes, store.parts.free)
        self._metrics.watch_uploads(lambda: store.uploads.count)
        self._site = build_site(
            clock=reactor,
            backend=self._backend,
            metrics=self._metrics,
            audit=self._audit,
            health=self._health,
            ready=lambda: self._ready,
            instance=self._pseudonym,
            trusted=Trusted.parse(server.trusted_proxies),
            background=self._pushing,
            limits=SiteLimits(
                answer_timeout=docker.answer_timeout,
                stall_timeout=server.stall_timeout,
                header_timeout=server.header_timeout,
                max_connections=place.share(server.max_connections),
            ),
            stamp=store.records.stamp,
            soon=reactor.callFromThread,
            ui=self._ui() if config.ui.enabled else None,
        )
        self._certificate = Certificate(server, self._site, reactor)
        self._chores = [
            (LoopingCall(self._chore, store.count), _TOTALS_INTERVAL),
            (LoopingCall(self._chore, self._sum_up), _SUMS_INTERVAL),
        ]
        if place.number == 1:  # what one does for all
            self._chores.append((LoopingCall(self._chore, self._sweep), _SWEEP_INTERVAL))
        if place.shared:
            self._chores.append((LoopingCall(self._chore, self._tell_crew), TELL_INTERVAL))
        self._chores_end: list[Deferred[Any]] = []

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
        self._entrance.prepare(self._config)
        self._opened.append(self._entrance.stop)
        self._entrance.start()
        if self._audit is not None:
            try:
                self._audit.start()
            except OSError as error:
                raise CannotStart(f"audit.path: {self._config.audit.path}: {error.strerror}") from error
            self._opened.append(self._audit.stop)
        for chore, interval in self._chores:
            chore.clock = self._reactor
            self._chores_end.append(chore.start(interval))
        server = self._config.server
        self._ports = self._sockets.listen(self._site, server.host, server.port, self._certificate.factory)
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
        await self._closed()
        self._site.abort_all()
        for chore, _ in self._chores:
            if chore.running:
                chore.stop()
        while self._chores_end:  # one that is at work needs the store to its end
            await self._chores_end.pop()
        await self._fills.stop()
        self._background.cancel()
        await self._upstreams.close()
        await self._pushing.idle()
        await self._turns.idle()
        await self._sum_up()
        while self._opened:
            await self._opened.pop()()

    async def _closed(self) -> None:
        """Wait a moment for connections whose last answer went out: breaking one off takes what is not read yet."""
        for _ in range(_CLOSING_LOOKS):
            if self._hurried or self._site.in_flight or not self._site.connections:
                return
            await deferLater(self._reactor, 0.01)

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
            exchange = self._certificate.renewed(config.server)
            self._entrance.prepare(config)
            configured = self._upstreams.configured(config.docker)
            rules = self._policy(config, configured)
        except CannotStart as error:
            raise CannotReload(str(error)) from error
        exchange()
        self._upstreams.take_over(configured)
        self._site.trusted = Trusted.parse(config.server.trusted_proxies)
        self._backend.take_over(rules.backend)
        self._rules = rules
        self._site.forget()
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

    def _policy(self, config: Config, configured: Configured) -> Policy:
        return Policy(
            config,
            configured,
            self._entrance.door(config),
            reactor=self._reactor,
            store=self._store,
            fills=self._fills,
            background=self._background,
            pushing=self._pushing,
            turns=self._turns,
            metrics=self._metrics,
        )

    async def _sum_up(self) -> None:
        """Have what was done lately added to the sums that the pages show."""
        self._store.index.counted(self._metrics.tally.take())
        self._store.index.pulled(self._metrics.pulls.take())

    async def _sweep(self) -> None:
        swept = await self._store.parts.sweep(_PART_AGE)
        if swept:
            self._log.info("{count} partial fills that nobody asked for in a day are gone", count=swept)
        ended = await self._store.uploads.sweep(_UPLOAD_AGE, self._config.docker.upload_idle_timeout)
        if ended:
            self._log.info("{count} uploads that nobody went on with are gone", count=ended)

    def _chore(self, work: Callable[[], Coroutine[Any, Any, None]]) -> Deferred[None]:
        """Do one of the regular chores; one that fails is logged, and done again next time."""
        doing = Deferred.fromCoroutine(work())
        doing.addErrback(lambda failure: self._log.failure("a chore failed", failure))
        return doing

    def _ui(self) -> Sources:
        return Sources(
            health=self._health,
            history=self._history,
            exchanges=self._metrics.exchanges,
            public_url=lambda: self._config.server.public_url,
        )

    async def _history(self, span: int, since: int) -> list[tuple[int, Sums]]:
        await self._sum_up()
        return await self._store.index.sums(span, since)

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
            self._store.space(),
            len(self._fills),
            self._upstreams.registries,
            self._rules.owners.provisional,
            self._config.docker.quota_reserve,
            self._certificate.warnings(),
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
