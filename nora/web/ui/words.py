"""Numbers, times and texts, as a person reads them; the API tells the same in bytes, seconds and ISO 8601."""

from __future__ import annotations

import calendar
import time
from urllib.parse import quote

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_MOST = 400
_NONE = "\N{EN DASH}"
_SPACE = "\N{NO-BREAK SPACE}"


def size(count: float) -> str:
    """Write a number of bytes in the unit that leaves it three digits or fewer."""
    value, unit = float(max(0, count)), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value /= 1024
        unit += 1
    digits = 0 if unit == 0 or value >= 99.95 else 1
    return f"{value:.{digits}f}{_SPACE}{_UNITS[unit]}"


def number(count: int) -> str:
    """Write a count, its thousands apart."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def percent(part: float | None) -> str:
    """Write a part of 1; never 100 % while anything is missing."""
    if part is None:
        return _NONE
    shown = f"{part * 100:.1f}"
    if shown == "100.0" and part < 1:
        shown = "99.9"
    return f"{shown.removesuffix('.0')}{_SPACE}%"


def duration(seconds: float) -> str:
    """Write a time in its two largest units."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for name, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if left >= length or (name == "s" and not parts):
            parts.append(f"{left // length}{_SPACE}{name}")
            left %= length
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts)


def latency(seconds: float | None) -> str:
    """Write the time of an exchange, in milliseconds below a second."""
    if seconds is None:
        return _NONE
    return f"{seconds:.2f}{_SPACE}s" if seconds >= 0.9995 else f"{seconds * 1000:.0f}{_SPACE}ms"


def iso(seconds: float | None) -> str | None:
    """Write a moment, in seconds since the epoch, by ISO 8601 in UTC."""
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def clock(text: str) -> str:
    """Write a moment of ISO 8601 for a person."""
    return f"{text[:10]} {text[11:16]}{_SPACE}UTC"


def exact(text: str) -> str:
    """Write a moment of ISO 8601 for a person, to the second."""
    return f"{text[:10]} {text[11:19]}{_SPACE}UTC"


def time_of_day(text: str) -> str:
    """Write the time of the day of a moment of ISO 8601."""
    return text[11:19]


def brief(reference: str) -> str:
    """Cut a digest where a person stops comparing it; a tag stays."""
    algorithm, colon, encoded = reference.partition(":")
    return (
        f"{algorithm}:{encoded[:12]}\N{HORIZONTAL ELLIPSIS}"
        if colon and len(encoded) > 16
        else clip(reference)
    )


def seconds(value: float) -> str:
    """Write how long something took."""
    return latency(value) if value < 60 else duration(value)


def clip(text: str) -> str:
    """Cut a text that somebody else wrote where it stops being read."""
    return text if len(text) <= _MOST else f"{text[:_MOST]}\N{HORIZONTAL ELLIPSIS}"


def place(repository: str, reference: str = "") -> str:
    """Give the path of the page of a repository, by its full name, or of its tag or digest `reference`."""
    sign = "@" if ":" in reference else ":"
    return f"/ui/contents/{quote(repository + (sign + reference if reference else ''), safe='/:@')}"


def short(digest: str) -> str:
    """Cut a digest to as much as tells it from others."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm}:{encoded[:12]}"


def ago(text: str, now: str) -> str:
    """Write how long before `now` a moment was; both are ISO 8601."""
    return f"{duration(_seconds(now) - _seconds(text))} ago"


def since(text: str, now: str) -> str:
    """Write for how long it has been so, from a moment up to `now`."""
    return f"for {duration(_seconds(now) - _seconds(text))}"


def ahead(text: str, now: str) -> str:
    """Write how long after `now` a moment is."""
    return f"in {duration(_seconds(text) - _seconds(now))}"


def _seconds(text: str) -> int:
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
