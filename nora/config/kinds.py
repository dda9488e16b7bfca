"""Kinds of values: what a key allows, how it is read from TOML or from a variable, and how it is written.

A kind says what it allows in one phrase (`allows`), and every refusal gives a reason that fits into one line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import attrs

Toml: TypeAlias = "str | int | float | bool | list[Any] | dict[str, Any]"
"""What is written to a TOML file."""

MAX_TEXT = 4096
MAX_ITEMS = 256
YEARS = 10 * 365 * 86400
"""The longest time that can be asked for, in seconds."""

_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,9})?\Z")
_SIZE = re.compile(r"([0-9]{1,18}) ?(KiB|MiB|GiB|TiB)\Z")
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


class Refused(ValueError):
    """The value is not allowed: the message says what is.

    `item` counts from 1 to the culprit in a list; `value` is what to show of it, where that is not the whole value.
    """

    def __init__(self, reason: str, item: int | None = None, value: object = attrs.NOTHING) -> None:
        super().__init__(reason)
        self.item = item
        self.value = value


class Kind(Protocol):
    """What every kind of value can do."""

    @property
    def allows(self) -> str:
        """What is allowed, as the words after "must be"."""

    def read(self, value: object) -> Any:
        """Check what a TOML document holds and give the value that configuration keeps; raises `Refused`."""

    def parse(self, text: str) -> Any:
        """Read what an environment variable holds; raises `Refused`."""

    def write(self, value: Any) -> Toml:
        """Give what a TOML document must hold so that `read` gives `value` again."""


@attrs.frozen
class Number:
    """A number from `low` to `high`, a whole one when `whole`; `unit` continues the phrase, as `of seconds`."""

    low: float
    high: float
    whole: bool = False
    unit: str = ""

    @property
    def allows(self) -> str:
        """What is allowed."""
        words = ["a", "whole" if self.whole else "", "number", self.unit, f"from {self.low} to {self.high}"]
        return " ".join(word for word in words if word)

    def read(self, value: object) -> int | float:
        """Take a number, never a boolean or one that is not finite."""
        number = isinstance(value, int if self.whole else (int, float)) and not isinstance(value, bool)
        # The comparison is false for NaN too.
        if not number or not self.low <= value <= self.high:  # type: ignore[operator]
            raise Refused(f"must be {self.allows}")
        return value  # type: ignore[return-value]

    def parse(self, text: str) -> int | float:
        """Take decimal digits, with a fraction or without."""
        if not _NUMBER.match(text):
            raise Refused(f"must be {self.allows}")
        return self.read(float(text) if "." in text else int(text))

    def write(self, value: float) -> Toml:
        """Write the number."""
        return value


def seconds(low: float, high: float) -> Number:
    """Allow a time in seconds."""
    return Number(low, high, unit="of seconds")


def count(low: int, high: int) -> Number:
    """Allow a whole number."""
    return Number(low, high, whole=True)


@attrs.frozen
class Lifetime:
    """A time in seconds, or `"never"` for what never expires, kept as `math.inf`."""

    allows: str = f'a number of seconds from 0 to {YEARS}, or "never"'

    def read(self, value: object) -> int | float:
        """Take seconds or the word."""
        if value == "never":
            return math.inf
        try:
            return seconds(0, YEARS).read(value)
        except Refused:
            raise Refused(f"must be {self.allows}") from None

    def parse(self, text: str) -> int | float:
        """Take seconds or the word."""
        if text == "never":
            return math.inf
        try:
            return seconds(0, YEARS).parse(text)
        except Refused:
            raise Refused(f"must be {self.allows}") from None

    def write(self, value: float) -> Toml:
        """Write seconds or the word."""
        return "never" if value == math.inf else value


@attrs.frozen
class Size:
    """A number of bytes from 1 to `high`, kept as an integer; a text may use binary units."""

    high: int = 1 << 50

    @property
    def allows(self) -> str:
        """What is allowed."""
        return f'a number of bytes from 1 to {self.high}, or a text such as "512MiB" (KiB, MiB, GiB, TiB)'

    def read(self, value: object) -> int:
        """Take bytes, or a text with a unit."""
        if isinstance(value, str):
            return self.parse(value)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= self.high:
            raise Refused(f"must be {self.allows}")
        return value

    def parse(self, text: str) -> int:
        """Take digits, with a unit or without."""
        match = _SIZE.match(text)
        if match is not None:
            return self.read(int(match[1]) * _UNITS[match[2]])
        if not _NUMBER.match(text) or "." in text:
            raise Refused(f"must be {self.allows}")
        return self.read(int(text))

    def write(self, value: int) -> Toml:
        """Write the size in the largest unit that divides it."""
        for unit, factor in reversed(_UNITS.items()):
            if value % factor == 0:
                return f"{value // factor}{unit}"
        return value


@attrs.frozen
class Flag:
    """True or false."""

    allows: str = "true or false"

    def read(self, value: object) -> bool:
        """Take a boolean."""
        if not isinstance(value, bool):
            raise Refused(f"must be {self.allows}")
        return value

    def parse(self, text: str) -> bool:
        """Take the word, as TOML spells it."""
        if text not in ("true", "false"):
            raise Refused(f"must be {self.allows}")
        return text == "true"

    def write(self, value: bool) -> Toml:
        """Write the boolean."""
        return value


class Text:
    """A bounded, printable text of one line. The kinds that inherit from it check further in `check`."""

    @property
    def allows(self) -> str:
        """What is allowed."""
        return f"a printable text of 1 to {MAX_TEXT} characters"

    def read(self, value: object) -> Any:
        """Take a text."""
        if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT or not value.isprintable():
            raise Refused(f"must be {self.allows}")
        return self.check(value)

    def parse(self, text: str) -> Any:
        """Take the text as it is."""
        return self.read(text)

    def write(self, value: Any) -> Toml:
        """Write the text."""
        return str(value)

    def check(self, text: str) -> Any:
        """Give the value that is kept; raises `Refused`."""
        return text


@attrs.frozen
class Choice(Text):
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def allows(self) -> str:
        """What is allowed."""
        return " or ".join(f'"{word}"' for word in self.words)

    def check(self, text: str) -> str:
        """Take one of the words."""
        if text not in self.words:
            raise Refused(f"must be {self.allows}")
        return text


@attrs.frozen
class Maybe:
    """A value that may be missing: the empty text stands for None."""

    kind: Kind

    @property
    def allows(self) -> str:
        """What is allowed."""
        return f"{self.kind.allows}, or empty"

    def read(self, value: object) -> Any:
        """Take the value, or the empty text."""
        return None if value == "" else self.kind.read(value)

    def parse(self, text: str) -> Any:
        """Take the value, or the empty text."""
        return None if text == "" else self.kind.parse(text)

    def write(self, value: Any) -> Toml:
        """Write the value, or the empty text."""
        return "" if value is None else self.kind.write(value)


@attrs.frozen
class Several:
    """A list of up to `MAX_ITEMS` values of one kind, each at most once; a variable separates them by commas."""

    kind: Kind

    @property
    def allows(self) -> str:
        """What is allowed."""
        return f"a list of up to {MAX_ITEMS}, each {self.kind.allows}"

    def read(self, value: object) -> tuple[Any, ...]:
        """Take a list."""
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            raise Refused(f"must be {self.allows}")
        return self._each(value, self.kind.read)

    def parse(self, text: str) -> tuple[Any, ...]:
        """Take what stands between commas; the empty text is the empty list."""
        items = [item.strip() for item in text.split(",")] if text.strip() else []
        if len(items) > MAX_ITEMS:
            raise Refused(f"must be {self.allows}")
        return self._each(items, self.kind.parse)

    def write(self, value: Sequence[Any]) -> Toml:
        """Write the list."""
        return [self.kind.write(item) for item in value]

    def _each(self, items: Sequence[Any], take: Any) -> tuple[Any, ...]:
        taken: list[Any] = []
        for position, item in enumerate(items, 1):
            try:
                kept = take(item)
            except Refused as error:
                shown = item if error.value is attrs.NOTHING else error.value
                raise Refused(str(error), position, shown) from None
            if kept in taken:
                raise Refused("must not be listed twice", position, item)
            taken.append(kept)
        return tuple(taken)
