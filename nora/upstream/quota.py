"""Quota: how many pulls an upstream says are left, for as long as that is worth anything."""

from __future__ import annotations

import re

from twisted.internet.interfaces import IReactorTime

from nora.upstream.limits import parse_remaining

WINDOW = 21600
"""How long, in seconds, a number of pulls left counts when the upstream does not say: Docker Hub's window."""
MAX_WINDOW = 86400
"""The longest that it counts, in seconds, whatever the upstream says."""

_WINDOW = re.compile(r";[ \t]*w=([0-9]{1,9})[ \t]*(?:;|,|\Z)")


def parse_window(value: str) -> int:
    """Read the window, in seconds, of Docker Hub's `ratelimit-remaining: 20;w=21600`."""
    found = _WINDOW.search(value)
    return min(int(found[1]), MAX_WINDOW) if found else WINDOW


class Quota:
    """What one upstream said last."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._left: int | None = None
        self._until = 0.0

    def hear(self, value: str | None) -> int | None:
        """Remember an answer's `ratelimit-remaining`; gives the pulls left, None when it does not tell."""
        remaining = parse_remaining(value)
        if remaining is not None and value is not None:
            self._left = remaining
            self._until = self._clock.seconds() + parse_window(value)
        return remaining

    def left(self) -> int | None:
        """Tell how many pulls are left; None when that was never told, or its window is over."""
        return self._left if self._clock.seconds() < self._until else None

    def resets_at(self) -> float | None:
        """Tell when that number counts no more, in seconds since the epoch; None when it does not count."""
        return self._until if self.left() is not None else None
