"""How much one body may send before the reactor looks at the others.

A large turn costs less a byte, and delays everybody else for as long as it takes. So a round of turns has a size, and
the streams that are under way share it, whether their clients are fast or slow. A stream that is alone may go on for
longer: while the client takes what the kernel has, the kernel goes on sending, and between two turns it would sleep.
"""

from __future__ import annotations

ROUND = 2 * 1024 * 1024
"""The most bytes of one round that two to eight streams share: about a millisecond's work."""
LONE = 16 * 1024 * 1024
"""The most bytes of a turn of a stream that is alone: two or three milliseconds, if its client takes them that fast."""
TURN = 256 * 1024
"""Bytes of a turn where eight or more share the round: smaller ones cost more than they give."""


class Turns:
    """The turns of all the streams on one reactor."""

    def __init__(self) -> None:
        self._streams = 0
        self.size = LONE
        """The most bytes of a turn now."""

    @property
    def alone(self) -> bool:
        """Whether there is no more than one stream."""
        return self._streams < 2

    def begin(self) -> None:
        """Count a stream in."""
        self._change(1)

    def end(self) -> None:
        """Count a stream out."""
        self._change(-1)

    def _change(self, by: int) -> None:
        self._streams += by
        self.size = LONE if self.alone else max(TURN, ROUND // self._streams)
