"""Memory, as disks that are played see it: all of a file is there, or nothing that was not brought."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute, succeed

R = TypeVar("R")


class Warm:
    """Has every file in memory."""

    def edge(self, descriptor: int, start: int, stop: int) -> int:
        """Tell that all of it is there."""
        return stop

    def bring(self, descriptor: int, start: int, stop: int) -> Deferred[None]:
        """Have brought it already."""
        return succeed(None)


class ColdDisk:
    """Has nothing in memory but what was brought; brings it when `step` is called."""

    def __init__(self) -> None:
        self.bringing: deque[tuple[Deferred[None], int, int]] = deque()
        self.brought: list[tuple[int, int]] = []
        self.looks = 0

    def run(self, work: Callable[..., R], *arguments: Any) -> Deferred[R]:
        """Do the work at once."""
        return execute(work, *arguments)

    def edge(self, descriptor: int, start: int, stop: int) -> int:
        """Tell how far what was brought goes, from `start`."""
        self.looks += 1
        edges = [end for begin, end in self.brought if begin <= start < end]
        return min(stop, max(edges, default=start))

    def bring(self, descriptor: int, start: int, stop: int) -> Deferred[None]:
        """Begin to bring."""
        result: Deferred[None] = Deferred()
        self.bringing.append((result, start, stop))
        return result

    def step(self, error: Exception | None = None) -> None:
        """End the oldest of it, or fail it."""
        result, start, stop = self.bringing.popleft()
        if error is None:
            self.brought.append((start, stop))
        if not result.called:
            result.callback(None) if error is None else result.errback(error)
