"""Names that a test makes up, and reactors that know them."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IHostnameResolver
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

REACTOR: Any = _reactor


@implementer(IHostnameResolver)
class Names:
    """A resolver with a table; a name that it lacks has no addresses."""

    def __init__(self, table: dict[str, list[Any]]) -> None:
        self.table = table

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """Answer from the table, at once."""
        resolutionReceiver.resolutionBegan(self)
        for address in self.table.get(hostName, []):
            if isinstance(address, str):
                family = IPv6Address if ":" in address else IPv4Address
                address = family("TCP", address, portNumber)  # noqa: PLW2901
            resolutionReceiver.addressResolved(address)
        resolutionReceiver.resolutionComplete()
        return self


class NamedReactor:
    """The reactor with names of the test's, and every connection led to this machine."""

    def __init__(self, table: dict[str, list[Any]]) -> None:
        self.nameResolver = Names(table)
        self.dialled: list[str] = []
        directlyProvides(self, providedBy(REACTOR))

    def __getattr__(self, name: str) -> Any:
        return getattr(REACTOR, name)

    def connectTCP(self, host: str, *arguments: Any) -> Any:
        """Connect to this machine's port."""
        self.dialled.append(host)
        return REACTOR.connectTCP("127.0.0.1", *arguments)


class DeafReactor(NamedReactor):
    """Connections fail with `error`; with None they never come about."""

    error: type[Exception] | None = ConnectTimeout

    def connectTCP(self, host: str, port: int, factory: Any, *arguments: Any) -> Any:
        """Begin to connect."""
        factory.startedConnecting(self)
        if self.error is not None:
            REACTOR.callLater(0, factory.clientConnectionFailed, self, Failure(self.error()))
        return self

    def getDestination(self) -> IPv4Address:
        """Give where to, as a connector does."""
        return IPv4Address("TCP", "8.8.8.8", 80)

    def stopConnecting(self) -> None:
        """There is nothing to stop."""
