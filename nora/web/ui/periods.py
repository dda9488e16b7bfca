"""Periods: the last hour, day and 30 days, as the steps that a chart of them has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import attrs

from nora.telemetry.sums import HOUR, MINUTE, NOTHING, Sums


@attrs.frozen
class Period:
    """A stretch of time that ends now: `count` steps of `step` seconds, summed up from spans of `span` seconds."""

    name: str
    title: str
    span: int
    step: int
    count: int

    def begins(self, now: float) -> int:
        """Tell when the first step begins; the last one is the one that `now` is in."""
        return int(now) // self.step * self.step - (self.count - 1) * self.step

    def series(self, sums: Iterable[tuple[int, Sums]], now: float) -> Series:
        """Sort the sums of spans into the steps."""
        begins = self.begins(now)
        steps = [NOTHING] * self.count
        for start, told in sums:
            place = (start - begins) // self.step
            if 0 <= place < self.count:
                steps[place] = steps[place] + told
        return Series(self, begins, tuple(steps))


@attrs.frozen
class Series:
    """The sums of each step of a period, the first of which begins at `begins`, in seconds since the epoch."""

    period: Period
    begins: int
    steps: tuple[Sums, ...]

    @property
    def total(self) -> Sums:
        """The sums of all steps together."""
        return sum(self.steps, NOTHING)


PERIODS: Mapping[str, Period] = MappingProxyType(
    {
        period.name: period
        for period in (
            Period("hour", "Last hour", MINUTE, MINUTE, 60),
            Period("day", "Last 24 hours", MINUTE, 15 * MINUTE, 96),
            Period("month", "Last 30 days", HOUR, 24 * HOUR, 30),
        )
    }
)


def hit_rate(sums: Sums) -> float | None:
    """Tell which part of the pulls, from 0 to 1, moved no body from an upstream; None when there was none."""
    return sums.hits / sums.pulls if sums.pulls else None
