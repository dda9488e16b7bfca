"""Waiters: one event, awaited by many who may lose interest.

A Deferred awaited twice gives its second waiter None, and cancelling it cancels it for all. So each waiter
gets a Deferred of its own, whose cancellation only removes that waiter.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Waiters(Generic[T]):
    """Those who wait for the next event. Each call of `succeed` or `fail` answers all who wait by then."""

    def __init__(self) -> None:
        self._waiting: dict[int, Deferred[T]] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self) -> Deferred[T]:
        """Give a Deferred of the caller's own for the next event."""
        key = self._next
        self._next += 1

        def leave(_: Deferred[T]) -> None:
            self._waiting.pop(key, None)

        waiter: Deferred[T] = Deferred(leave)
        self._waiting[key] = waiter
        return waiter

    def succeed(self, value: T) -> None:
        """Hand `value` to all who wait. The caller's own state must be consistent: they run at once."""
        for waiter in self._take():
            if not waiter.called:
                waiter.callback(value)

    def fail(self, error: BaseException) -> None:
        """Hand `error` to all who wait."""
        for waiter in self._take():
            if not waiter.called:
                waiter.errback(Failure(error))

    def _take(self) -> list[Deferred[T]]:
        waiting, self._waiting = list(self._waiting.values()), {}
        return waiting
