"""How much one body may send before the reactor looks at the others.

A large turn costs less a byte, and delays everybody else for as long as it takes. So a round of turns has a size, and
those who take part in it share it: how many they are shows in the turns that were taken between two of one's own. A
body whose client is slow takes few turns, and so does not make the turns of the others smaller.
"""

from __future__ import annotations

ROUND = 2 * 1024 * 1024
"""The most bytes of one round, as long as there are no more than eight who share it: about a millisecond's work."""
TURN = 256 * 1024
"""Bytes of a turn when there are: smaller ones cost more than they give."""


class Turns:
    """The turns of all the bodies of one reactor."""

    def __init__(self) -> None:
        self.taken = 0
        """Turns so far."""

    def take(self, last: int) -> int:
        """Begin a turn, and tell how many bytes it may have: from `TURN` to `ROUND`.

        `last` is what `taken` was at the end of one's last turn, or at the beginning.
        """
        self.taken += 1
        return max(TURN, ROUND // (self.taken - last))
