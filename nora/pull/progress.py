"""Progress: how far each fill is and how fast it goes, for the page that shows it.

One blob may grow in the eyes of several processes: one leads its fill, others trail it. `together` makes one of what
each of them tells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import reduce

import attrs

from nora.oci import Repository

_WINDOW = 5.0
"""Over how many seconds a rate is measured."""
_STEP = 0.25
"""Seconds between two marks, at least; within the first of them there is no rate."""


@attrs.frozen
class Place:
    """For whom a blob is fetched, and the name of the upstream that has it."""

    repository: Repository
    upstream: str


@attrs.frozen
class Progress:
    """How far one fill is."""

    digest: str
    places: tuple[Place, ...]
    """Repositories whose upstream confirmed the blob; while none has, those that are, or will be, asked."""
    confirmed: bool
    written: int
    """Bytes that are stored."""
    size: int | None
    """Bytes of the whole; None while that is not known."""
    rate: float | None
    """Bytes a second, over the last seconds; None while that cannot be told."""
    followers: int
    """Clients that are being sent it as it comes."""

    @property
    def seconds_left(self) -> float | None:
        """Estimate the seconds until it is whole; None where there is no saying."""
        if self.size is None or not self.rate:
            return None
        return max(0, self.size - self.written) / self.rate


def together(told: Iterable[Progress]) -> list[Progress]:
    """Make one of what several processes tell of the same blob, in the order of the first that tells of it."""
    found: dict[str, list[Progress]] = {}
    for each in told:
        found.setdefault(each.digest, []).append(each)
    return [reduce(_join, same) for same in found.values()]


def _join(one: Progress, other: Progress) -> Progress:
    if one.confirmed == other.confirmed:
        places = tuple(dict.fromkeys((*one.places, *other.places)))
    else:
        places = one.places if one.confirmed else other.places
    ahead = max(one, other, key=lambda each: (each.written, each.rate or 0.0))
    return attrs.evolve(
        ahead,
        places=places,
        confirmed=one.confirmed or other.confirmed,
        size=other.size if one.size is None else one.size,
        followers=one.followers + other.followers,
    )


class Pace:
    """How fast something grows. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque()

    def note(self, written: int) -> None:
        """Take note of its size now. What is smaller than before begins anew."""
        now, marks = self._clock(), self._marks
        if marks:
            at, before = marks[-1]
            if written < before:
                marks.clear()
            elif now - at < _STEP:
                return
        marks.append((now, written))
        self._forget(now)

    def rate(self, written: int) -> float | None:
        """Tell the bytes a second of the last seconds, at the end of which it has `written`; None at the beginning."""
        now = self._clock()
        self._forget(now)
        if not self._marks:
            return None
        at, before = self._marks[0]
        elapsed = now - at
        return None if elapsed < _STEP else max(0, written - before) / elapsed

    def _forget(self, now: float) -> None:
        """Keep one mark that is as old as the window, and what is younger."""
        marks = self._marks
        while len(marks) > 1 and marks[1][0] <= now - _WINDOW:
            marks.popleft()
