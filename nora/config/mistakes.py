"""Mistakes in a configuration: each one a line that names the place, the value, and what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

import attrs

MAX_LINES = 100
_MAX_SHOWN = 80
_MAX_LINE = 1000
_BIG = 10**30
_USER = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*://)?.*@", re.DOTALL)
_QUERY = re.compile(r"([?#]).*", re.DOTALL)


@attrs.frozen
class Mistake:
    """One mistake: `place` is a file, a key in a file, or a variable; `shown` what `show` gave for the value there."""

    place: str
    reason: str
    shown: str | None = None

    def __str__(self) -> str:
        """Give one line of printable characters."""
        parts = [self.place, *([] if self.shown is None else [self.shown]), self.reason]
        return _printable(": ".join(parts))[:_MAX_LINE]


class ConfigError(Exception):
    """The configuration cannot be used. `mistakes` holds every one that was found."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.lines))

    @property
    def lines(self) -> list[str]:
        """One line a mistake; past `MAX_LINES` only their number."""
        lines = [str(mistake) for mistake in self.mistakes[:MAX_LINES]]
        more = len(self.mistakes) - MAX_LINES
        return [*lines, f"and {more} more"] if more > 0 else lines


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Give the known word that `word` most probably stands for, if any is near."""
    found = difflib.get_close_matches(word[:_MAX_SHOWN], list(known), n=1)
    return found[0] if found else None


def show(value: object) -> str:
    """Give a short text for `value`, without the user name, password and query that a URL in it may have."""
    if isinstance(value, str):
        # A URL is cut where its secrets can be, before it is cut to length.
        text = _QUERY.sub(r"\1***", _USER.sub(r"\1***@", value))
        return f'"{text[:_MAX_SHOWN]}..."' if len(text) > _MAX_SHOWN else f'"{text}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) >= _BIG:
        return "a number of more than 30 digits"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a table"
    return str(value)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
