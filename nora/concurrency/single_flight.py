"""Single-flight: work that several ask for at once is done once.

The work belongs to nobody who waits for it: a waiter that is cancelled only leaves, the work goes on and
serves the others, and its result is there for whoever asks next in the caller's own cache.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred

from nora.concurrency.background import Background
from nora.concurrency.waiters import Waiters

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """At most one running piece of work a key."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._flights: dict[K, Waiters[V]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._flights

    def run(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> Deferred[V]:
        """Join the work under `key`, starting it with `work()` when none runs.

        The Deferred is the caller's own; it fires with the result or fails with what the work raised.
        """
        waiters = self._flights.get(key)
        if waiters is not None:
            return waiters.wait()
        waiters = self._flights[key] = Waiters()
        mine = waiters.wait()
        self._background.start(self._fly(key, waiters, work))
        return mine

    async def _fly(self, key: K, waiters: Waiters[V], work: Callable[[], Coroutine[Any, Any, V]]) -> None:
        try:
            result = await work()
        except Exception as error:
            del self._flights[key]
            waiters.fail(error)
        else:
            del self._flights[key]
            waiters.succeed(result)
