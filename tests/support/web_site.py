"""A whole site on a port of this machine, standing on fakes."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from prometheus_client import CollectorRegistry
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import TestCase

from nora.telemetry import AuditEvent, Metrics, Repeated
from nora.web import Backend, Limits, RegistrySite, build_site
from tests.support.http_client import RawClient, Reply, connect
from tests.support.pull_fakes import FakeDiscovery, FakePull, FakeRouting

reactor: Any = _reactor


class Events:
    """An audit log that keeps what it is told."""

    def __init__(self) -> None:
        self.list: list[AuditEvent] = []

    def record(self, event: AuditEvent) -> None:
        """Keep an event."""
        self.list.append(event)

    def repeat(self, repeated: Repeated, time: float, id: str, seconds: float) -> None:
        """Keep an event."""
        self.list.append(attrs.evolve(repeated.event, time=time, id=id, seconds=seconds))


class SiteTestCase(TestCase):
    """A test with a site: `self.pull`, `self.discovery`, `self.routing`, `self.events`, `self.collector`,
    `self.site`.
    """

    timeout = 30
    limits = Limits()

    def make_clock(self) -> Any:
        """Give what the site's timers run on."""
        return reactor

    def setUp(self) -> None:
        self.pull = FakePull()
        self.discovery = FakeDiscovery()
        self.routing = FakeRouting()
        self.backend = Backend(self.routing, self.pull, self.discovery)
        self.events = Events()
        self.collector = CollectorRegistry()
        self.metrics = Metrics(self.collector, "0")
        self.clock = self.make_clock()
        self.is_ready = True
        self.health: Callable[[], Deferred[Mapping[str, object]]] = lambda: succeed({"uptime": 1.5})
        self.site: RegistrySite = self.build()
        self.port = self.listen()
        self.clients: list[RawClient] = []

    def build(self) -> RegistrySite:
        """Build the site."""
        return build_site(
            clock=self.clock,
            backend=self.backend,
            metrics=self.metrics,
            audit=self.events,  # type: ignore[arg-type]
            health=self._ask_health,
            ready=lambda: self.is_ready,
            instance="nora-0123456789abcdef",
            limits=self.limits,
        )

    async def _ask_health(self) -> Mapping[str, object]:
        return await self.health()

    def listen(self) -> Any:
        """Open the port."""
        return reactor.listenTCP(0, self.site, interface="127.0.0.1")

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.port.stopListening()
        for client in self.clients:
            if client.lost is None:
                client.transport.abortConnection()
                await client.closed()
        self.site.abort_all()
        await self.eventually(lambda: not self.site.connections)

    async def client(self) -> RawClient:
        """Open a connection."""
        client = await connect(reactor, self.port.getHost().port)
        self.clients.append(client)
        return client

    async def ask(self, method: str, path: str, *headers: str, version: str = "1.1") -> Reply:
        """Ask on a connection of its own."""
        client = await self.client()
        return await client.ask(method, path, *headers, version=version)

    async def eventually(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition`, turn by turn of the reactor; the test's timeout bounds it."""
        while not condition():
            await self.turn(0.001)

    async def turn(self, seconds: float) -> None:
        """Let the reactor turn for a moment."""
        turn: Deferred[None] = Deferred()
        reactor.callLater(seconds, turn.callback, None)
        await turn

    def count(self, name: str, **labels: str) -> float:
        """Read a metric; 0 when it was never touched."""
        return self.collector.get_sample_value(name, labels) or 0.0
