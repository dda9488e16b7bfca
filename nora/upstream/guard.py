"""The guard against requests to the inside: an upstream must not be able to make NORA ask its own network.

A redirect or a token realm may name any host, and any name may resolve to 127.0.0.1 or 169.254.169.254. So the check
is made on the addresses, as they are resolved for the very connection that is about to be made: no other resolution
comes between. Addresses that are not public are left out unless the upstream is private itself: its own configured
host is such an address, or last resolved to such addresses alone. One public address among them makes it public:
whoever answers there must not open the inside by adding another to the name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IDelayedCall,
    IHostnameResolver,
    IHostResolution,
    IListeningPort,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IResolutionReceiver,
)
from zope.interface import implementer

_MAX_REFUSED = 1000
_INSIDE = tuple(
    ipaddress.ip_network(network)
    for network in ("192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "3fff::/20", "5f00::/16", "fec0::/10")
)
"""Not public either, which not every `ipaddress` knows: for protocols, for a site, for documents."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Tell whether `address` is one of the open Internet's; what is no address is not.

    Private, loopback, link-local, shared (100.64.0.0/10), multicast and reserved addresses are not, nor are the IPv6
    forms that carry one of them.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if inner is None and parsed in _NAT64:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is None and parsed.teredo is not None:
            inner = parsed.teredo[1]
        if inner is not None:
            return is_public(str(inner))
    if any(parsed in network for network in _INSIDE):
        return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


class Guard:
    """What one upstream may connect to. `own_host` is the host of its configured URL."""

    def __init__(self, own_host: str) -> None:
        self._own = own_host.lower()
        self._private = _is_literal(self._own) and not is_public(self._own)
        self._refused: set[str] = set()

    @property
    def private(self) -> bool:
        """The upstream's own host is an address that is not public, or last resolved to none that is."""
        return self._private

    def is_own(self, host: str) -> bool:
        """Tell whether `host` is the configured one, which may be wherever the administrator says."""
        return host.lower() == self._own

    def resolved(self, addresses: Sequence[str]) -> None:
        """Take note of what the own host resolved to."""
        if addresses:
            self._private = not any(is_public(address) for address in addresses)

    def allows(self, host: str, address: str) -> bool:
        """Tell whether a connection to `address`, to which `host` resolved, may be made."""
        return self.is_own(host) or self._private or is_public(address)

    def judged(self, host: str, *, refused: bool) -> None:
        """Take note of whether every address of `host` was refused."""
        if not refused:
            self._refused.discard(host)
            return
        if len(self._refused) >= _MAX_REFUSED:
            self._refused.clear()
        self._refused.add(host)

    def refuses(self, host: str) -> bool:
        """Tell whether `host` lately had addresses, and none that may be connected to."""
        return host in self._refused


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@implementer(IResolutionReceiver)
class _Screen:
    """Passes on the addresses that the guard allows."""

    def __init__(self, guard: Guard, host: str, receiver: IResolutionReceiver) -> None:
        self._guard = guard
        self._host = host
        self._receiver = receiver
        self._seen: list[IAddress] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Pass it on."""
        self._receiver.resolutionBegan(resolutionInProgress)

    def addressResolved(self, address: IAddress) -> None:
        """Keep it until all are known: the own host's decide together whether the upstream is private."""
        self._seen.append(address)

    def resolutionComplete(self) -> None:
        """Judge, and pass on what may be connected to."""
        if self._guard.is_own(self._host):
            self._guard.resolved([host for host in map(_host_of, self._seen) if host is not None])
        allowed = [address for address in self._seen if self._allows(address)]
        self._guard.judged(self._host, refused=bool(self._seen) and not allowed)
        for address in allowed:
            self._receiver.addressResolved(address)
        self._receiver.resolutionComplete()

    def _allows(self, address: IAddress) -> bool:
        host = _host_of(address)
        return host is not None and self._guard.allows(self._host, host)


def _host_of(address: IAddress) -> str | None:
    return address.host if isinstance(address, IPv4Address | IPv6Address) else None


@implementer(IHostnameResolver)
class GuardedResolver:
    """A resolver that leaves out what the guard does not allow."""

    def __init__(self, resolver: IHostnameResolver, guard: Guard) -> None:
        self._resolver = resolver
        self._guard = guard

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Resolve as the inner resolver does."""
        screen = _Screen(self._guard, hostName, resolutionReceiver)
        return self._resolver.resolveHostName(screen, hostName, portNumber, addressTypes, transportSemantics)


@implementer(IReactorTime, IReactorTCP, IReactorPluggableNameResolver)
class GuardedReactor:
    """The reactor as an upstream's agent sees it: the same, but for its resolver."""

    def __init__(self, reactor: Any, guard: Guard) -> None:
        self._reactor = reactor
        self.nameResolver: IHostnameResolver = GuardedResolver(reactor.nameResolver, guard)

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """Refuse: the resolver is the point."""
        raise NotImplementedError("the guarded resolver stays")

    def seconds(self) -> float:
        """Tell the reactor's time."""
        return float(self._reactor.seconds())

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kw: object
    ) -> IDelayedCall:
        """Schedule as the reactor does."""
        call: IDelayedCall = self._reactor.callLater(delay, callable, *args, **kw)
        return call

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """Give the reactor's."""
        calls: Sequence[IDelayedCall] = self._reactor.getDelayedCalls()
        return calls

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: IProtocolFactory,
        timeout: float = 30,
        bindAddress: tuple[str, int] | None = None,
    ) -> IConnector:
        """Connect as the reactor does."""
        connector: IConnector = self._reactor.connectTCP(host, port, factory, timeout, bindAddress)
        return connector

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """Refuse: nothing listens for an upstream."""
        raise NotImplementedError("an upstream's reactor only connects")
