"""Pulls by manifest: how often each was given out, counted here between two looks and kept in the index.

By manifest and not by tag, because of what clients do: some GET the tag, others ask by HEAD what it points at and GET
that. Either way the manifest that the tag points at is given out once.
"""

from __future__ import annotations

Key = tuple[str, str, str]
"""A repository's namespace and name, and a digest, as plain texts: hashing them costs next to nothing."""
MOST = 50_000
"""Manifests that are counted between two looks; others are not counted."""


class Pulls:
    """Counts what one process gives out, until it is taken. A count costs a tenth of a microsecond or two."""

    def __init__(self) -> None:
        self._counts: dict[Key, int] = {}

    def pulled(self, key: Key) -> None:
        """Count one."""
        counts = self._counts
        if key in counts:
            counts[key] += 1
        elif len(counts) < MOST:
            counts[key] = 1

    def take(self) -> dict[Key, int]:
        """Give what was counted since the last time."""
        taken, self._counts = self._counts, {}
        return taken
