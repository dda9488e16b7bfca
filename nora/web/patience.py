"""Patience: a client is answered in time, whatever the work that it waits for does.

Only the client's own wait ends; the work is shared, or is left to go on behind, by the rooms that do it.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TimeIsUp
from twisted.internet.interfaces import IReactorTime

from nora.oci.errors import TimedOut
from nora.web.requests import RegistryRequest

T = TypeVar("T")


class Patience:
    """The time from a request's arrival to the headers of its answer, in seconds."""

    def __init__(self, clock: IReactorTime, answer_timeout: float) -> None:
        self._clock = clock
        self._answer_timeout = answer_timeout

    async def wait(self, request: RegistryRequest, work: Coroutine[Any, Any, T] | Deferred[T]) -> T:
        """Wait for `work` as long as `request` may still wait; raises `TimedOut`."""
        waiting = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
        if not waiting.called:
            left = request.began + self._answer_timeout - self._clock.seconds()
            waiting.addTimeout(max(0.0, left), self._clock)
        try:
            return await waiting
        except TimeIsUp:
            raise TimedOut(
                "no answer within the time that a client waits; the work goes on, so ask again",
                {"seconds": self._answer_timeout},
            ) from None
