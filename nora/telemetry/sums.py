"""Sums: what was done in a stretch of time, small enough to be kept by the minute and by the hour.

Metrics count since the start, and need somebody who asks them regularly. These sums are for the pages of NORA itself:
each process counts into its `Tally`, and what it took from there is added to what is stored (`nora.storage.index`), so
that several processes and restarts add up.
"""

from __future__ import annotations

from types import MappingProxyType

import attrs

MINUTE = 60
HOUR = 3600
KEPT = MappingProxyType({MINUTE: 86400, HOUR: 31 * 86400})
"""For how many seconds the sums of a span, in seconds, are kept."""

_CONTENT = frozenset({"base", "catalog", "manifest", "blob", "upload", "tags", "referrers", "token"})


@attrs.frozen
class Sums:
    """What was done in one stretch of time."""

    requests: int = 0
    """Requests under `/v2` that ended."""
    pulls: int = 0
    hits: int = 0
    """Those of the pulls for which no body moved from an upstream."""
    served: int = 0
    """Bytes of bodies sent to clients under `/v2`."""
    fetched: int = 0
    """Bytes of bodies received from upstreams."""
    pushed: int = 0
    """Bytes of bodies received from clients under `/v2`."""

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.requests + other.requests,
            self.pulls + other.pulls,
            self.hits + other.hits,
            self.served + other.served,
            self.fetched + other.fetched,
            self.pushed + other.pushed,
        )


NOTHING = Sums()


class Tally:
    """Counts what one process does, until it is taken."""

    def __init__(self) -> None:
        self._requests = self._pulls = self._hits = self._served = self._fetched = self._pushed = 0

    def requested(self, endpoint: str, sent: int, received: int = 0) -> None:
        """Count a request that ended, with the bytes of both bodies; one for a page beside the registry is none."""
        if endpoint in _CONTENT:
            self._requests += 1
            self._served += sent
            self._pushed += received

    def pulled(self, hit: bool) -> None:
        """Count a pull."""
        self._pulls += 1
        self._hits += hit

    def fetched(self, count: int) -> None:
        """Count bytes from an upstream."""
        self._fetched += count

    def take(self) -> Sums:
        """Give what was counted since the last time."""
        taken = Sums(self._requests, self._pulls, self._hits, self._served, self._fetched, self._pushed)
        self._requests = self._pulls = self._hits = self._served = self._fetched = self._pushed = 0
        return taken
