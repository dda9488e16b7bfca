"""Who pulled lately: for the page that tells a person whether their machine pulls through this server.

By address, in memory, of this process: what another worker served is not known here.
"""

from __future__ import annotations

from collections import OrderedDict

MOST = 4096
"""The number of addresses that are remembered; the one that pulled longest ago is forgotten first."""


class LastPulls:
    """When each client last asked for an image and got it."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._at: OrderedDict[str, float] = OrderedDict()

    def pulled(self, address: str, at: float) -> None:
        """Take note of a pull by `address` at a moment in seconds since the epoch."""
        self._at[address] = at
        self._at.move_to_end(address)
        if len(self._at) > self._most:
            self._at.popitem(last=False)

    def last(self, address: str) -> float | None:
        """Tell when `address` last pulled; None when that is not known."""
        return self._at.get(address)
