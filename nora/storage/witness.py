"""A witness: which records an answer was made from, so that it can be told later whether it still holds.

While a witness is present, every record that is read is noted with the stamp it had, a missing one too: if a record
that was not there appears, the answer may change as well. A stamp is one `stat` to compare.
"""

from __future__ import annotations

from contextvars import ContextVar

from nora.storage.interfaces import Stamp

MAX_RECORDS = 32
"""What reads more records than this is not worth remembering."""


class Witness:
    """Notes what is read. `until` is when the answer may change by itself, in seconds since the epoch."""

    def __init__(self) -> None:
        self.seen: dict[str, Stamp | None] = {}
        self.until = float("inf")
        self.reliable = True

    def saw(self, key: str, stamp: Stamp | None) -> None:
        """Note that the record of `key` was read with `stamp`, or was not there."""
        if self.seen.setdefault(key, stamp) != stamp or len(self.seen) > MAX_RECORDS:
            self.reliable = False

    def expires(self, time: float) -> None:
        """Note that the answer may be another one from `time` on."""
        self.until = min(self.until, time)


present: ContextVar[Witness | None] = ContextVar("present", default=None)
"""The witness of the running coroutine. Each coroutine that is started inherits it."""


def expires(time: float) -> None:
    """Tell the witness, if there is one, that what is being answered may change at `time`."""
    witness = present.get()
    if witness is not None:
        witness.expires(time)
