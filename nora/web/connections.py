"""Connections: how many, for how long, and how they end when the daemon does.

Twisted's idle timeout is reset by every byte, so a client that trickles its headers would stay for ever: a request
has a deadline of its own, from its first byte (the first one on a connection: from the connection) to its last. A body
that streams has other bounds, see `nora.web.incoming`: there the deadline is for the headers alone.
"""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime, ITCPTransport
from twisted.internet.tcp import Connection, Server
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import Site

import nora
from nora.concurrency import Waiters
from nora.oci.errors import InvalidRequest, NoraError
from nora.telemetry import AuditLog, Metrics
from nora.web import errors
from nora.web.forwarded import Trusted
from nora.web.lately import LastPulls
from nora.web.requests import LINGER, RegistryRequest

if TYPE_CHECKING:
    from nora.web.hot import Hot

_TLS_HANDSHAKE = b"\x16"
"""The first byte of a client that speaks TLS (RFC 8446 section 5.1); no method begins with it."""
_MAX_DIGITS = 18
"""Digits of a `Content-Length`: more than any disk has bytes."""
_READ = 64 * 1024
_LARGE_READ = 512 * 1024
"""Bytes that one read of the socket may bring while a body streams: larger pieces cost the less processor a byte."""
_NOT_TLS = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"This port speaks HTTP, not HTTPS.\n"
)
"""Docker, podman and skopeo try TLS first and go over to HTTP at once when they read this; silence costs them 10 s."""


class RegistryChannel(HTTPChannel):
    """One connection of a client; HTTP/1 alone."""

    site: RegistrySite
    _busy = False
    _complete = 0
    _deadline: IDelayedCall | None = None
    _counted = False
    _greeted = False
    _held = False
    _came = b""
    _came_at = 0
    _peer: str | None = None
    _dropping = False
    """What still comes is no request: it is read, so that the client reads its answer, and dropped."""
    _log = Logger()
    _host: Any = None
    transport: Any

    def getHost(self) -> Any:
        """Give the address that the client connected to, asking the kernel once a connection."""
        if self._host is None:
            self._host = super().getHost()
        return self._host

    @property
    def peer(self) -> str:
        """Where the client is, and by which kind of connection; "" when that cannot be told in a word."""
        if self._peer is None:
            host = getattr(self.transport.getPeer(), "host", "")
            self._peer = f"{'https' if self.isSecure() else 'http'} {host}" if host else ""
        return self._peer

    def whole(self) -> bytes:
        """Give the bytes of the request that came in last, if they are just what one read brought; else none."""
        return self._came if self._complete == self._came_at + 1 and not self._buffer else b""

    def send(self, data: bytes) -> None:
        """Write `data`, at once as far as the socket takes it: that spares the reactor a turn."""
        transport = self.transport
        if type(transport) is Server and not transport.dataBuffer and not transport._tempDataBuffer:
            sent = transport.writeSomeData(data)
            if isinstance(sent, int):
                if sent == len(data):
                    return
                data = data[sent:]
        self.write(data)

    @property
    def busy(self) -> bool:
        """Whether a request is being answered: one that came in whole, or whose body streams."""
        return self._busy

    def connectionMade(self) -> None:
        """Begin, or end at once when there are too many connections."""
        super().connectionMade()
        self._counted = self.site.connected(self)
        if not self._counted:
            self.abort()
            return
        self._expect()

    def dataReceived(self, data: bytes) -> None:
        """Take bytes; those that end no request start its deadline."""
        if self._dropping:
            return
        if not self._greeted:
            self._greeted = True
            if data.startswith(_TLS_HANDSHAKE):
                self.transport.write(_NOT_TLS)
                self.loseConnection()
                return
        complete = self._complete
        if self._is_between():
            hot = self.site.hot
            if hot is not None and hot.again(self, data):
                self._stop_expecting()
                self.resetTimeout()
                self._complete += 1
                return
            self._came, self._came_at = data, complete
        super().dataReceived(data)
        self._came = b""
        if self._deadline is None and not self._busy and self._complete == complete:
            self._expect()

    def lineReceived(self, line: bytes) -> None:
        """Take a line of a head; folded ones are refused (RFC 9112 section 5.2)."""
        if line[:1] in (b" ", b"\t") and self.persistent:
            self._respondToBadRequestAndDisconnect()
        else:
            super().lineReceived(line)

    def allContentReceived(self) -> None:
        """Begin to answer a request that came in whole."""
        self._stop_expecting()
        self._complete += 1
        self._busy = True
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """Take the next request; one that is in the buffer already begins before this returns.

        Unless the client does not take its answers: a thousand requests fit into what is read at once, and all
        their answers would wait in memory.
        """
        self._busy = False
        self.paused = bool(self._waitingForTransport)
        self._read_at_most(_READ)
        super().requestDone(request)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """End."""
        self._stop_expecting()
        self._busy = False
        super().connectionLost(reason)
        if self._counted:
            self._counted = False
            self.site.disconnected(self)

    def abort(self) -> None:
        """Break the connection off."""
        if self.transport is not None:
            self.transport.abortConnection()

    def resumeProducing(self) -> None:
        """Go on, told by the transport when it is empty; a body that is held stays unread."""
        super().resumeProducing()
        if self._held:
            self._networkProducer.pauseProducing()
        if self.paused:
            self.paused = False
            if self._buffer:
                self.dataReceived(b"")

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line that is too long for a head."""
        self._refuse(errors.HeadTooLarge(f"a line of a request's head has at most {self.MAX_LENGTH} bytes"))

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        # Twisted takes `identity`, codings in HTTP/1.0, and any number of digits. What servers before this one may read
        # in another way is no request at all (RFC 9112 section 6.1).
        if header == b"Content-Length" and len(data) > _MAX_DIGITS:
            return bool(self._failChooseTransferDecoder())
        if header == b"Transfer-Encoding" and (data.lower() != b"chunked" or self._version != b"HTTP/1.1"):
            return bool(self._failChooseTransferDecoder())
        return bool(super()._maybeChooseTransferDecoder(header, data))

    def _respondToBadRequestAndDisconnect(self) -> None:
        request = self.requests[-1] if self.requests else None
        if request is not None and request.startedWriting:
            # What breaks the form of a body whose request has an answer already cannot get a second one, and must not
            # keep the client from reading the first: the connection is winding up.
            self._drop_the_rest()
            if self._deadline is None:
                self.abort()
        elif request is not None and request.body is not None:
            self._drop_the_rest()
            request.body.malformed()
        elif self._receivedHeaderSize > self.totalHeadersSize or self._receivedHeaderCount > self.maxHeaders:
            self._refuse(
                errors.HeadTooLarge(
                    f"the head of a request has at most {self.totalHeadersSize} bytes "
                    f"and {self.maxHeaders} headers"
                )
            )
        else:
            self._refuse(InvalidRequest("this is not a request of HTTP/1.1"))

    def _refuse(self, error: NoraError) -> None:
        """Answer what is no request, and end the connection a moment later."""
        id = self.site.new_id()
        told = errors.tell(error)
        self._drop_the_rest()
        self.transport.write(errors.bare(told, self.site.server, id))
        self.site.metrics.requested("other", "other", told.status, 0.0, len(told.body))
        self._log.info(
            "what {client} sent was refused as {status} (request {id}): {reason}",
            client=getattr(self.transport.getPeer(), "host", "a client"),
            status=told.status,
            id=id,
            reason=error.message,
        )
        self.wind_up(LINGER, close=True)

    def _drop_the_rest(self) -> None:
        self._dropping = True
        self.clearLineBuffer()

    # For the request whose body is coming in.

    def asked(self) -> tuple[bytes, bytes, bytes]:
        """Tell method, URI and version of the request whose headers just came in."""
        return self._command, self._path, self._version

    def answering(self) -> None:
        """Take note that a request is being answered though its body has yet to come."""
        self._stop_expecting()
        self._busy = True
        # The timeout of a quiet connection; `requestDone` sets it again.
        self._savedTimeOut = self.setTimeout(None)
        self._read_at_most(_LARGE_READ)

    def hold(self) -> None:
        """Stop reading until `release`."""
        self._held = True
        self._networkProducer.pauseProducing()

    def release(self) -> None:
        """Read on, unless there is an answer that the client does not take."""
        if self._held:
            self._held = False
            if not self._waitingForTransport:
                self._networkProducer.resumeProducing()

    def go_ahead(self) -> None:
        """Tell the client to send the body."""
        self._send100Continue()

    def wind_up(self, seconds: float, *, close: bool) -> None:
        """Give the rest of an answered request's body some seconds, then break the connection off.

        With `close` nothing else will be sent: the client is told so at once, where it can be.
        """
        if close and ITCPTransport.providedBy(self.transport) and not self.isSecure():
            self.transport.loseWriteConnection()
        self._stop_expecting()
        self._deadline = self.callLater(seconds, self._late)

    def _is_between(self) -> bool:
        """Tell whether nothing of a request has come, and nothing of an answer waits."""
        if self._buffer or self.requests or self._receivedHeaderSize or self._waitingForTransport:
            return False
        return bool(self.persistent)

    def _read_at_most(self, size: int) -> None:
        # Below TLS is the connection that reads from the socket.
        connection = getattr(self.transport, "transport", self.transport)
        if isinstance(connection, Connection):
            connection.bufferSize = size

    def _expect(self) -> None:
        self._deadline = self.callLater(self.site.header_timeout, self._late)

    def _stop_expecting(self) -> None:
        call, self._deadline = self._deadline, None
        if call is not None:
            call.cancel()

    def _late(self) -> None:
        self._deadline = None
        self.abort()


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
    _log = Logger()

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
            request.last()

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
