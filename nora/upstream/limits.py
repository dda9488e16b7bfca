"""Limits: what an upstream says of how often it may be asked, and the memory of it."""

from __future__ import annotations

import math
import re
from email.utils import parsedate_to_datetime

from twisted.internet.interfaces import IReactorTime

from nora.oci.errors import Limited

MAX_RETRY_AFTER = 3600
"""The longest that a 429 is obeyed, in seconds."""

_SECONDS = re.compile(r"[0-9]{1,9}\Z")
_REMAINING = re.compile(r"[ \t]*([0-9]{1,9})[ \t]*(?:;|,|\Z)")


def parse_retry_after(value: str | None, date: str | None, now: float) -> int | None:
    """Read `Retry-After` (RFC 9110 section 10.2.3) as seconds from now, 0 to 3600; None when it says nothing.

    A date in it is compared with the answer's own `Date` where that is given, else with `now` (seconds since the
    epoch): the two clocks need not agree.
    """
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.match(text):
        return min(int(text), MAX_RETRY_AFTER)
    until = _parse_date(text)
    if until is None:
        return None
    since = _parse_date(date) if date is not None else None
    return max(0, min(math.ceil(until - (now if since is None else since)), MAX_RETRY_AFTER))


def parse_remaining(value: str | None) -> int | None:
    """Read Docker Hub's `ratelimit-remaining: 20;w=21600`: the pulls left; None when it is not told."""
    found = _REMAINING.match(value) if value is not None else None
    return int(found[1]) if found else None


def _parse_date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text[:64]).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


class Limits:
    """Which kinds of request (`manifest`, `head`, `blob`, `list`) one upstream refuses at present."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def remember(self, kind: str, seconds: int | None) -> None:
        """Hold back requests of `kind` for `seconds`; None and 0 hold back nothing."""
        if seconds:
            self._until[kind] = self._clock.seconds() + seconds

    def check(self, kind: str) -> None:
        """Raise `Limited` with the seconds left when requests of `kind` are held back."""
        until = self._until.get(kind)
        if until is None:
            return
        left = until - self._clock.seconds()
        if left > 0:
            raise Limited("asked to wait, and the time is not up", math.ceil(left))
        del self._until[kind]
