"""A value that must not be seen: in a log, a traceback, an error, or what `nora config show` prints."""

from __future__ import annotations

import attrs

MASK = "***"


@attrs.frozen(repr=False, str=False)
class Secret:
    """A secret text. Its `repr` and `str` are `***`; only `reveal` gives it out."""

    _text: str

    def reveal(self) -> str:
        """Give the secret itself, for the one place that sends it."""
        return self._text

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__
