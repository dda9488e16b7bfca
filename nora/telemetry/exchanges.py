"""Exchanges: how asking each upstream went lately, for the page that shows it. What one process saw since its start."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence

import attrs

RECENT = 256
"""The number of exchanges whose times are remembered, for each upstream."""


@attrs.frozen
class Told:
    """What is known of one upstream; seconds are those of the recent exchanges, None where there was none."""

    outcomes: Mapping[str, int]
    p50: float | None = None
    p95: float | None = None


class Exchanges:
    """The exchanges with all upstreams. Their names come from the configuration, which bounds what is kept."""

    def __init__(self) -> None:
        self._outcomes: dict[str, Counter[str]] = {}
        self._seconds: dict[str, deque[float]] = {}

    def answered(self, upstream: str, outcome: str, seconds: float) -> None:
        """Take note of one; one that we gave up by ourselves says nothing about the upstream's speed."""
        outcomes = self._outcomes.get(upstream)
        if outcomes is None:
            outcomes = self._outcomes[upstream] = Counter()
            self._seconds[upstream] = deque(maxlen=RECENT)
        outcomes[outcome] += 1
        if outcome != "cancelled":
            self._seconds[upstream].append(seconds)

    def told(self, upstream: str) -> Told:
        """Tell how asking `upstream` went."""
        seconds = sorted(self._seconds.get(upstream, ()))
        return Told(
            dict(sorted(self._outcomes.get(upstream, Counter[str]()).items())),
            percentile(seconds, 0.5),
            percentile(seconds, 0.95),
        )


def percentile(ascending: Sequence[float], part: float) -> float | None:
    """Give the least of the numbers that `part` of them, from 0 to 1, do not exceed; None where there are none."""
    if not ascending:
        return None
    return ascending[max(0, math.ceil(part * len(ascending)) - 1)]
