"""Connections: how many there are, the requests on them, and how they end when the daemon does."""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource
from twisted.web.server import Site

import nora
from nora.concurrency import Waiters
from nora.telemetry import AuditLog, Metrics
from nora.web.channel import RegistryChannel
from nora.web.forwarded import Trusted
from nora.web.lately import LastPulls
from nora.web.requests import RegistryRequest

if TYPE_CHECKING:
    from nora.web.hot import Hot


class _Ids:
    """Names for requests: 64 random bits each, many at once, because asking the kernel costs more than they do."""

    def __init__(self) -> None:
        self._left = ""

    def next(self) -> str:
        """Give one that no request had."""
        if not self._left:
            self._left = secrets.token_hex(512)
        id, self._left = self._left[-16:], self._left[:-16]
        return id


class RegistrySite(Site):
    """All connections of one listener, and the requests on them."""

    protocol = RegistryChannel  # type: ignore[assignment]
    requestFactory = RegistryRequest
    noisy = False

    def __init__(
        self,
        resource: IResource,
        clock: IReactorTime,
        metrics: Metrics,
        audit: AuditLog | None = None,
        *,
        max_connections: int = 10_000,
        header_timeout: float = 30.0,
        idle_timeout: float = 60.0,
        stall_timeout: float = 60.0,
        trusted: Trusted | None = None,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        super().__init__(resource, timeout=idle_timeout, reactor=clock, parsePOSTFormSubmission=False)
        self.clock = clock
        self.metrics = metrics
        self.audit = audit
        self.max_connections = max_connections
        self.header_timeout = header_timeout
        self.stall_timeout = stall_timeout
        self.new_id = new_id or _Ids().next
        self.trusted = trusted or Trusted()
        """The proxies that are believed; exchanged when the configuration is read anew."""
        self.server = f"nora/{nora.__version__}".encode("ascii")
        self.draining = False
        self.hot: Hot | None = None
        """What answers before anything else is asked."""
        self.last_pulls = LastPulls()
        self._channels: set[RegistryChannel] = set()
        self._requests: set[RegistryRequest] = set()
        self._idle: Waiters[None] = Waiters()

    def startFactory(self) -> None:
        """Do nothing: Twisted would open an access log and tick every second for its date."""

    def stopFactory(self) -> None:
        """Do nothing."""

    def log(self, request: Any) -> None:
        """Do nothing: metrics and the audit log tell more, and an access log costs more than routing does."""

    def acceptableProtocols(self) -> list[bytes]:
        """Offer HTTP/1.1 alone on TLS: bodies are sent past the layer that HTTP/2 would need."""
        return [b"http/1.1"]

    # Told by connections and requests.

    def connected(self, channel: RegistryChannel) -> bool:
        """Count a new connection; False when there are too many."""
        if len(self._channels) >= self.max_connections:
            self.metrics.refused()
            return False
        self._channels.add(channel)
        self.metrics.connected()
        return True

    def disconnected(self, channel: RegistryChannel) -> None:
        """Count a connection as closed."""
        self._channels.discard(channel)
        self.metrics.disconnected()

    def request_began(self, request: RegistryRequest) -> None:
        """Count a request as in flight."""
        self._requests.add(request)

    def request_ended(self, request: RegistryRequest) -> None:
        """Count a request as answered or aborted."""
        self._requests.discard(request)
        if not self._requests:
            self._idle.succeed(None)

    # For the one who runs the daemon.

    def forget(self) -> None:
        """Forget the prepared answers: the rules have changed."""
        if self.hot is not None:
            self.hot.clear()

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._channels)

    @property
    def in_flight(self) -> int:
        """The number of requests that are being answered."""
        return len(self._requests)

    def drain(self) -> None:
        """Make every answer from here on the last one on its connection."""
        self.draining = True
        for request in list(self._requests):
            request.drain()

    def idle(self) -> Deferred[None]:
        """Tell when no request is in flight; a Deferred of the caller's own."""
        waiter = self._idle.wait()
        if not self._requests:
            self._idle.succeed(None)
        return waiter

    def close_idle(self) -> None:
        """Close the connections on which nothing is being answered."""
        for channel in list(self._channels):
            if not channel.busy:
                channel.loseConnection()

    def abort_all(self) -> None:
        """Break off every connection."""
        for channel in list(self._channels):
            channel.abort()
