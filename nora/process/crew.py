"""All workers of a store, as one of them sees them: how each is, whichever of them is asked.

Each writes what it knows of itself to a small file, each second, in a directory that all of them have and that is in
memory where the system has such a place. So nobody waits for anybody, and one that hangs is seen by its file's age.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from twisted.logger import Logger

from nora.process.neighbours import Neighbours
from nora.process.place import Place

INTERVAL = 1.0
"""Seconds between two tellings."""
_FRESH = 5.0
"""Seconds after which a worker that told nothing does not count as one that answers."""
_LARGEST = 1 << 22


class Crew:
    """The workers that `place` is one of."""

    _log = Logger()

    def __init__(
        self, place: Place, now: Callable[[], float] = time.time, neighbours: Neighbours | None = None
    ) -> None:
        self.place = place
        self.neighbours = neighbours
        """The way to ask the others; None for a process alone."""
        self._now = now
        self._complained = False

    def tell(self, state: Mapping[str, object]) -> None:
        """Let the others know how this one is, by a JSON object. Where that cannot be written, the log says so once."""
        path = state_path(self.place.directory, self.place.number)
        temporary = f"{path}.{os.getpid()}"
        try:
            with open(temporary, "w", encoding="ascii") as file:
                json.dump({**state, "at": self._now()}, file)
            os.replace(temporary, path)
        except OSError as error:
            if not self._complained:
                self._log.error("the other workers cannot be told how this one is: {error}", error=error)
            self._complained = True
        else:
            self._complained = False

    def others(self) -> list[dict[str, Any]]:
        """Give what the other workers told of themselves, in their order; those that tell nothing are left out."""
        found = []
        for number in range(1, self.place.workers + 1):
            state = None if number == self.place.number else _read(state_path(self.place.directory, number))
            if state is not None and self._now() - state.get("at", 0) < _FRESH:
                found.append(state)
        return found


def state_path(directory: str, number: int) -> str:
    """Tell where worker `number` writes how it is."""
    return f"{directory}/worker-{number}.json"


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            state = json.loads(file.read(_LARGEST))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None
