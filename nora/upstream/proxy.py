"""A proxy between us and an upstream: which requests go by it, and the tunnel through it.

Every request through a proxy, to http:// as well, goes by CONNECT, so that the proxy's credential stays between us and
the proxy, and TLS ends where the upstream is. `localhost` and loopback addresses are never asked through one.

A proxy resolves names itself, so the guard cannot see where they lead. What it can, it still refuses: an address that
is not public, in any spelling, where the upstream is not private itself.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import socket
from typing import Any, cast

import attrs
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from nora.upstream.guard import Guard, is_public

MAX_HEAD = 16 * 1024
"""The longest head of a proxy's answer, in bytes."""

_HOST = re.compile(rb"[A-Za-z0-9._:-]{1,255}\Z")
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r?\n")
_END = re.compile(rb"\r?\n\r?\n")


class ProxyFailed(Exception):
    """The proxy made no tunnel; the message says why, and nothing of its credential."""


class NotPublic(Exception):
    """An address that is not public would have been asked for through the proxy."""


@attrs.frozen
class Proxy:
    """An HTTP proxy: `host` without brackets, and `user`, its `user:password`."""

    host: str
    port: int
    user: str | None = attrs.field(default=None, repr=False)

    def authorization(self) -> bytes | None:
        """Give the value of `Proxy-Authorization`."""
        return None if self.user is None else b"Basic " + base64.b64encode(self.user.encode())


class Exempt:
    """What `NO_PROXY` lists: hosts with all below them, with a port or without, addresses, networks, `*`."""

    def __init__(self, text: str = "") -> None:
        self._all = False
        self._names: list[tuple[str, int | None]] = []
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for item in text.replace(",", " ").split():
            self._add(item.lower())

    def _add(self, item: str) -> None:
        if item == "*":
            self._all = True
            return
        try:
            self._networks.append(ipaddress.ip_network(item, strict=False))
        except ValueError:
            name, colon, digits = item.rpartition(":")
            port = int(digits) if colon and digits.isascii() and digits.isdigit() else None
            host = item if port is None else name
            host = host.strip("[]").removeprefix("*").strip(".")
            if host:
                self._names.append((host, port))

    def covers(self, host: str, port: int) -> bool:
        """Tell whether `host`, lower-case and without brackets, is asked directly."""
        if self._all:
            return True
        for name, only in self._names:
            below = _address(name) is None and host.endswith(f".{name}")
            if (host == name or below) and only in (None, port):
                return True
        address = _address(host)
        return address is not None and any(address in network for network in self._networks)


@attrs.frozen
class Proxies:
    """What goes by which proxy, by scheme; None is none."""

    http: Proxy | None = None
    https: Proxy | None = None
    exempt: Exempt = attrs.field(factory=Exempt)

    def choose(self, scheme: str, host: str, port: int) -> Proxy | None:
        """Give the proxy for requests to `host` (no brackets), None for none."""
        host = host.lower().rstrip(".")
        if _is_loopback(host) or self.exempt.covers(host, port):
            return None
        return self.https if scheme == "https" else self.http


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    if address is None:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback


def _names_inside(host: str) -> bool:
    """Tell whether `host` is an address that is not public, also as `127.1`, `0x7f000001` or `2130706433`."""
    host = host.rstrip(".")
    if _address(host) is not None:
        return not is_public(host)
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return True  # an address that is not written as one has no honest reason


class _Tunnel(Protocol):
    """Asks the proxy for a tunnel, and becomes the tunnel."""

    def __init__(self, reactor: Any, request: bytes, timeout: float) -> None:
        self._reactor = reactor
        self._request = request
        self._timeout = timeout
        self._timer: IDelayedCall | None = None
        self._head = b""
        self._inner: IProtocol | None = None
        self.opened: Deferred[None] = Deferred(self._cancelled)

    def connectionMade(self) -> None:
        """Ask."""
        self._timer = self._reactor.callLater(self._timeout, self._late)
        cast(Any, self.transport).write(self._request)

    def become(self, inner: IProtocol) -> None:
        """Give the tunnel to `inner`."""
        self._inner = inner
        inner.makeConnection(cast(Any, self.transport))

    def dataReceived(self, data: bytes) -> None:
        """Read the answer, or pass on what comes through."""
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        if self.opened.called:
            return
        self._head += data
        end = _END.search(self._head)
        if (len(self._head) if end is None else end.end()) > MAX_HEAD:
            self._fail(ProxyFailed("the proxy's answer is too long"))
        elif end is not None:
            self._answered(end.end())

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Tell whom it is for."""
        gone = reason or Failure(error.ConnectionDone())
        if self._inner is not None:
            self._inner.connectionLost(gone)
        elif not self.opened.called:
            self._fail(ProxyFailed("the proxy closed the connection"))

    def _answered(self, length: int) -> None:
        status = _STATUS.match(self._head)
        if status is None:
            self._fail(ProxyFailed("the proxy's answer is not HTTP"))
        elif status[1] != b"200":
            self._fail(ProxyFailed(f"the proxy refused: {status[1].decode()}"))
        elif len(self._head) > length:  # the other end speaks when it is spoken to
            self._fail(ProxyFailed("the proxy said more than its answer"))
        else:
            self._head = b""
            self._stop_timer()
            self.opened.callback(None)

    def _late(self) -> None:
        self._timer = None
        self._fail(error.TimeoutError())

    def _cancelled(self, _: Deferred[None]) -> None:
        self._fail(CancelledError())

    def _fail(self, why: Exception) -> None:
        self._stop_timer()
        self._head = b""
        transport: Any = self.transport
        self.opened.errback(why)
        transport.abortConnection()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


class _Tunnels(Factory):
    """Makes one tunnel."""

    noisy = False

    def __init__(self, reactor: Any, request: bytes, timeout: float) -> None:
        self._made = (reactor, request, timeout)

    def buildProtocol(self, addr: IAddress | None) -> _Tunnel:
        """Make it."""
        return _Tunnel(*self._made)


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """Connects to `host` and `port` through a proxy."""

    def __init__(self, reactor: Any, proxy: Proxy, host: bytes, port: int, timeout: float) -> None:
        self._reactor = reactor
        self._proxy = proxy
        self._timeout = timeout
        target = b"[%b]:%d" % (host, port) if b":" in host else b"%b:%d" % (host, port)
        lines = [b"CONNECT %b HTTP/1.1" % target, b"Host: %b" % target]
        authorization = proxy.authorization()
        if authorization is not None:
            lines.append(b"Proxy-Authorization: " + authorization)
        self._request = b"\r\n".join([*lines, b"", b""])

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; fails with `ProxyFailed` when the proxy is no help."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        proxy = HostnameEndpoint(self._reactor, self._proxy.host, self._proxy.port, self._timeout)
        try:
            tunnel: Any = await proxy.connect(_Tunnels(self._reactor, self._request, self._timeout))
        except (CancelledError, error.ConnectingCancelledError, error.TimeoutError, error.TCPTimedOutError):
            raise
        except Exception:
            raise ProxyFailed("no connection to the proxy") from None
        await tunnel.opened
        inner = factory.buildProtocol(tunnel.transport.getPeer())
        if inner is None:
            tunnel.transport.abortConnection()
            raise error.NoProtocol()
        tunnel.become(inner)
        return inner


@implementer(IStreamClientEndpoint)
class _RefusedEndpoint:
    """Connects to nothing."""

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Fail."""
        failed: Deferred[IProtocol] = Deferred()
        failed.errback(NotPublic())
        return failed


@implementer(IAgentEndpointFactory)
class ProxiedEndpoints:
    """The endpoints of one upstream's agent; `direct` makes those that need no proxy."""

    def __init__(
        self,
        reactor: Any,
        proxies: Proxies,
        guard: Guard,
        policy: IPolicyForHTTPS,
        timeout: float,
        direct: IAgentEndpointFactory,
    ) -> None:
        self._reactor = reactor
        self._proxies = proxies
        self._guard = guard
        self._policy = policy
        self._timeout = timeout
        self._direct = direct

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Give the endpoint for a URI; raises `ValueError` for what is no host."""
        host = uri.host.strip(b"[]")
        if not _HOST.match(host):
            raise ValueError("the host of the URL is none")
        name = host.decode("ascii")
        proxy = self._proxies.choose(uri.scheme.decode("ascii"), name, uri.port)
        if proxy is None:
            direct: IStreamClientEndpoint = self._direct.endpointForURI(uri)
            return direct
        if _names_inside(name) and not self._guard.is_own(name) and not self._guard.private:
            return _RefusedEndpoint()
        tunnel = TunnelEndpoint(self._reactor, proxy, host, uri.port, self._timeout)
        if uri.scheme == b"http":
            return tunnel
        return wrapClientTLS(self._policy.creatorForNetloc(uri.host, uri.port), tunnel)
