"""Budgets: a bound on the time of a piece of work, whatever the work makes of being cancelled."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from nora.oci.errors import NoraError, TimedOut

T = TypeVar("T")

_log = Logger()


def _forget(_: object) -> None:
    """Leave a late result alone."""


def within(
    clock: IReactorTime,
    seconds: float,
    work: Coroutine[Any, Any, T],
    late: Callable[[T], None] = _forget,
) -> Deferred[T]:
    """Run `work` for at most `seconds`; then it is cancelled, and the Deferred fails with `TimedOut`.

    Cancelling the Deferred cancels the work, and always ends in `CancelledError`: what Twisted's client makes of a
    cancelled request, or the work of that, is not seen. A result that comes nevertheless goes to `late`.
    """
    state = {"over": False}
    inner = Deferred.fromCoroutine(work)

    def give_up(_: object = None) -> None:
        state["over"] = True
        if timer.active():
            timer.cancel()
        inner.cancel()

    def expire() -> None:
        give_up()
        outer.errback(Failure(TimedOut(f"no answer within {seconds:g} s")))

    def ended(result: T | Failure) -> None:
        if timer.active():
            timer.cancel()
        if not state["over"]:
            outer.callback(result)  # a Failure is an errback
        elif not isinstance(result, Failure):
            late(result)
        elif not result.check(CancelledError, NoraError):
            _log.failure("an exchange that was given up failed", result)

    outer: Deferred[T] = Deferred(give_up)
    timer = clock.callLater(seconds, expire)
    inner.addBoth(ended)
    return outer
