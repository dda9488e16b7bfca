"""Failed logins, limited per address: who guesses passwords is stopped before another one is checked.

An attempt counts from its beginning, so that many at once are no way around the limit. Addresses of IPv6 count by
their /64, which is what one customer has.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict, deque
from collections.abc import Callable

import attrs

from nora.oci.errors import Overloaded

MAX_ADDRESSES = 10_000
"""How many addresses are remembered; past that, those that were quiet the longest are forgotten."""


class TooManyLogins(Overloaded):
    """Too many logins failed from this client's address."""


@attrs.define
class _Known:
    failures: deque[float] = attrs.field(factory=deque)
    running: int = 0


class Attempts:
    """At most `most` failed logins in `window` seconds from one address. `seconds` is a clock that never goes back."""

    def __init__(self, seconds: Callable[[], float], most: int = 10, window: float = 60.0) -> None:
        self._seconds = seconds
        self._most = most
        self._window = window
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def begin(self, address: str) -> None:
        """Let an attempt begin, to be followed by `end`; raises `TooManyLogins`."""
        key = network_of(address)
        known = self._known.get(key) or _Known()
        now = self._seconds()
        while known.failures and now - known.failures[0] >= self._window:
            known.failures.popleft()
        if len(known.failures) + known.running >= self._most:
            left = self._window - (now - known.failures[0]) if known.failures else 1.0
            raise TooManyLogins("too many logins failed from this address", max(1, math.ceil(left)))
        known.running += 1
        self._known[key] = known
        self._known.move_to_end(key)
        self._forget()

    def end(self, address: str, succeeded: bool | None) -> None:
        """End an attempt. A success forgets the failures of its address; None is an attempt that came to no end."""
        key = network_of(address)
        known = self._known.get(key)
        if known is None:
            return
        known.running = max(0, known.running - 1)
        if succeeded:
            known.failures.clear()
        elif succeeded is False:
            known.failures.append(self._seconds())
        if not known.failures and not known.running:
            del self._known[key]

    def _forget(self) -> None:
        while len(self._known) > MAX_ADDRESSES:
            self._known.popitem(last=False)


def network_of(address: str) -> str:
    """Give what an address counts as: its /64 for IPv6, itself for IPv4 and for what is no address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
