"""Names that a test makes up."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver
from zope.interface import implementer


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
