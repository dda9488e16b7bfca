"""Connections to one upstream: Twisted's agent, with the bounds and the manners it lacks.

What is added to `twisted.web.client`, each for a reason that was seen:

- Response headers are bounded as a whole (the parser bounds a line only), and a line may be longer than its 16 KiB,
  because some registries sign very long redirects.
- Giving a body up closes the connection for real. `loseConnection` waits for a TLS peer that may never answer.
- `Accept-Encoding` is `identity` whatever treq adds, and an encoded answer is refused: its length and digest would not
  be the content's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITransport
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from twisted.web._newclient import HTTP11ClientProtocol, Request
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HostnameCachingHTTPSPolicy,
    HTTPConnectionPool,
    _HTTP11ClientFactory,
    _StandardEndpointFactory,
)
from twisted.web.http import _IdentityTransferDecoder
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import directlyProvides, implementer, providedBy

from nora import __version__
from nora.upstream import via
from nora.upstream.bodies import abort_body
from nora.upstream.guard import Guard, GuardedReactor
from nora.upstream.proxy import ProxiedEndpoints, Proxies
from nora.upstream.tap import WORTH, SocketTap

MAX_HEADER_LINE = 64 * 1024
"""The longest status or header line taken, in bytes."""
MAX_HEADERS = 256 * 1024
"""The longest response head taken, in bytes, interim responses included; one read of the socket may exceed it."""
_READ = 512 * 1024
"""Bytes that one read of the socket may bring. With Twisted's 64 KiB a cold pull costs half as much processor again."""
_READ_HEAD = 16 * 1024
"""The same while a head is awaited: Twisted copies all that is behind a line of it, once for each line."""
USER_AGENT = f"nora/{__version__}"


class Oversized(Exception):
    """The head of a response is past its bounds."""


class Encoded(Exception):
    """A response came in a content coding that was not asked for."""


class AbortingTransport:
    """A transport whose every way of ending is `abortConnection`.

    A client that gives up has nothing left to say: its request went out whole, and what the peer still sends is
    unwanted.
    """

    def __init__(self, transport: Any) -> None:
        self.bare = self._transport = transport
        directlyProvides(self, providedBy(transport))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def stopProducing(self) -> None:
        """Close the connection now."""
        self._transport.abortConnection()

    def loseConnection(self) -> None:
        """Close the connection now."""
        self._transport.abortConnection()


class BoundedProtocol(HTTP11ClientProtocol):
    """Twisted's client protocol with bounds on the head of a response."""

    _head = -1
    _receiving = False
    _below: object = None

    def makeConnection(self, transport: ITransport) -> None:
        """Begin on `transport`, which will end by abortion only."""
        # Below TLS is the connection that reads from the socket.
        self._below = getattr(transport, "transport", transport)
        super().makeConnection(AbortingTransport(transport))  # type: ignore[no-untyped-call]

    def request(self, request: Request) -> Deferred[IResponse]:
        """Send `request`; the Deferred fails with `Oversized` among its reasons when the head is past its bounds."""
        self._head = 0
        self._read_up_to(_READ_HEAD)
        answered = super().request(request)
        if self._parser is not None:
            self._parser.MAX_LENGTH = MAX_HEADER_LINE
        return answered.addBoth(self._head_ended)

    def dataReceived(self, bytes: bytes) -> None:
        """Count what comes before the headers' end."""
        if self._head >= 0:
            self._head += len(bytes)
        self._receiving = True
        super().dataReceived(bytes)  # type: ignore[no-untyped-call]
        self._receiving = False
        if self._head > MAX_HEADERS:
            self._head = -1
            oversized = Oversized("the response's headers are too large")
            self._giveUp(Failure(oversized))  # type: ignore[no-untyped-call]

    def _head_ended(self, result: Any) -> Any:
        self._head = -1
        self._read_up_to(_READ)
        if not isinstance(result, Failure):
            result.connection = self  # for `connection_of`
        return result

    def _read_up_to(self, count: int) -> None:
        if isinstance(self._below, Connection):
            self._below.bufferSize = count

    def tap(self, left: int, drew: Callable[[int], None]) -> SocketTap | None:
        """Let a thread read the `left` bytes of the body that is being delivered; None where it cannot.

        It cannot while a read is being parsed: bytes behind the head are then on their way to the body.
        """
        connection = getattr(self.transport, "bare", None)
        decoder = None if self._parser is None else self._parser.bodyDecoder
        if (
            left < WORTH
            or self._receiving
            or not isinstance(connection, Connection)
            or connection.TLS
            or not connection.connected
            or not isinstance(decoder, _IdentityTransferDecoder)
            or decoder.contentLength != left
        ):
            return None
        return SocketTap(connection, decoder, drew)


def connection_of(response: IResponse) -> BoundedProtocol | None:
    """Give the connection that a response came by; None for one that is none of ours."""
    connection = getattr(getattr(response, "original", response), "connection", None)
    return connection if isinstance(connection, BoundedProtocol) else None


class _BoundedFactory(_HTTP11ClientFactory):
    """Makes the protocols of a `BoundedPool`."""

    noisy = False

    def buildProtocol(self, addr: object) -> BoundedProtocol:
        return BoundedProtocol(self._quiescentCallback)  # type: ignore[no-untyped-call]


class BoundedPool(HTTPConnectionPool):
    """A pool of such connections, up to 20 idle ones a host, for a minute each."""

    _factory = _BoundedFactory
    _closed = False
    maxPersistentPerHost = 20
    cachedConnectionTimeout = 60

    async def close(self) -> None:
        """Close what is idle now, and whatever becomes idle later."""
        self._closed = True
        await self.closeCachedConnections()  # type: ignore[no-untyped-call]

    def _putConnection(self, key: object, connection: BoundedProtocol) -> None:
        if self._closed:
            cast(Any, connection.transport).loseConnection()
        else:
            super()._putConnection(key, connection)  # type: ignore[no-untyped-call]


@implementer(IAgent)
class PlainAgent:
    """An agent that asks for the identity coding alone and says who it is."""

    def __init__(self, agent: IAgent, pseudonym: str) -> None:
        self._agent = agent
        self._pseudonym = pseudonym

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Send the request; the Deferred fails with `Encoded` for a body in another coding."""
        plain = Headers() if headers is None else headers.copy()
        plain.setRawHeaders(b"Accept-Encoding", [b"identity"])
        plain.setRawHeaders(b"User-Agent", [USER_AGENT.encode("ascii")])
        plain.setRawHeaders(b"Via", [via.header(self._pseudonym).encode("ascii")])
        return self._agent.request(method, uri, plain, bodyProducer).addCallback(self._check)

    def _check(self, response: IResponse) -> IResponse:
        codings = response.headers.getRawHeaders(b"Content-Encoding") or []
        if all(coding.strip().lower() in (b"", b"identity") for coding in codings):
            return response
        if response.code >= 300:  # only its status counts; nobody shall unpack its body
            response.headers.removeHeader(b"Content-Encoding")
            return response
        abort_body(response)
        raise Encoded("the answer is compressed, though identity was asked for")


@implementer(IOpenSSLTrustRoot)
class FileTrust:
    """Trusts the certificates of one PEM file, and no others."""

    def __init__(self, ca_file: str) -> None:
        """Raises `OSError` when the file cannot be read and `ValueError` when no certificate is in it."""
        with open(ca_file, "rb"):
            self._file = ca_file
        try:
            self._addCACertsToContext(SSL.Context(SSL.TLS_METHOD))
        except SSL.Error:
            raise ValueError(f"no certificate in {ca_file}") from None

    def _addCACertsToContext(self, context: SSL.Context) -> None:
        context.load_verify_locations(self._file)


def build_agent(
    reactor: Any,
    guard: Guard,
    connect_timeout: float,
    ca_file: str | None,
    pseudonym: str,
    proxies: Proxies,
) -> tuple[PlainAgent, BoundedPool]:
    """Build one upstream's agent and its pool. `connect_timeout` in seconds bounds each attempt to connect."""
    guarded = GuardedReactor(reactor, guard)
    pool = BoundedPool(guarded)  # type: ignore[no-untyped-call]
    policy = HostnameCachingHTTPSPolicy(BrowserLikePolicyForHTTPS(FileTrust(ca_file) if ca_file else None))
    direct = _StandardEndpointFactory(guarded, policy, connect_timeout, None)
    endpoints = ProxiedEndpoints(reactor, proxies, guard, policy, connect_timeout, direct)
    agent = Agent.usingEndpointFactory(guarded, endpoints, pool)
    return PlainAgent(agent, pseudonym), pool
