"""How much one body may send before the reactor looks at the others.

A large turn costs less a byte, and delays everybody else for as long as it takes. So a round of turns has a size, and
the streams that are under way share it, whether their clients are fast or slow.
"""

from __future__ import annotations

ROUND = 2 * 1024 * 1024
"""The most bytes of one round, as long as there are no more than eight who share it: about a millisecond's work."""
TURN = 256 * 1024
"""Bytes of a turn when there are: smaller ones cost more than they give."""


class Turns:
    """The turns of all the streams on one reactor."""

    def __init__(self) -> None:
        self._streams = 0
        self.size = ROUND
        """The most bytes of a turn now: from `TURN` to `ROUND`."""

    def begin(self) -> None:
        """Count a stream in."""
        self._change(1)

    def end(self) -> None:
        """Count a stream out."""
        self._change(-1)

    def _change(self, by: int) -> None:
        self._streams += by
        self.size = max(TURN, ROUND // max(1, self._streams))
