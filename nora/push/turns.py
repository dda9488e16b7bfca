"""Turns: whoever changes what a hosted repository holds does it alone, across processes.

Between the look whether a manifest's blobs are linked and the link of the manifest itself, nobody may take one of the
blobs away. So pushes of manifests and all removals are under one lock of the repository; pushes of blobs need none,
because a link more is no harm. A client that leaves does not end a turn: what it began goes on to its end, under the
lock.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from nora.concurrency import Background, SingleFlight
from nora.oci import Repository
from nora.oci.errors import Overloaded
from nora.storage.interfaces import Locks

R = TypeVar("R")

_WAIT = 15.0
"""Seconds that a request waits for those before it; some milliseconds each are usual."""


class Turns:
    """The locks of hosted repositories, and the work under them."""

    def __init__(self, locks: Locks) -> None:
        self._locks = locks
        self._working = Background()
        self._turns: SingleFlight[object, Any] = SingleFlight(self._working)

    def take(self, repository: Repository, work: Callable[[], Coroutine[Any, Any, R]]) -> Deferred[R]:
        """Do `work` with the repository alone; fails with `Overloaded` when others have it for too long."""
        return self._turns.run(object(), lambda: self._take(repository, work))

    def idle(self) -> Deferred[None]:
        """Tell when no turn is under way; then the store may be closed."""
        return self._working.idle()

    async def _take(self, repository: Repository, work: Callable[[], Coroutine[Any, Any, R]]) -> R:
        lock = await self._locks.hold(f"hosted:{repository}", _WAIT)
        if lock is None:
            raise Overloaded(f"too many changes to {repository.name} at once", 1)
        try:
            return await work()
        finally:
            lock.release()
