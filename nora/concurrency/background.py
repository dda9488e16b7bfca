"""Background work: coroutines that no request owns, known by name to the one who stops the daemon."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from nora.concurrency.waiters import Waiters


class Background:
    """The running coroutines of one owner.

    An exception that leaves one of them is a defect: it is logged with its traceback, and never lost.
    """

    _log = Logger()

    def __init__(self) -> None:
        self._running: set[Deferred[Any]] = set()
        self._idle: Waiters[None] = Waiters()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run `work` to its end; its result is dropped."""
        running: Deferred[Any] = Deferred.fromCoroutine(work)
        self._running.add(running)
        running.addErrback(self._report)
        running.addBoth(self._ended, running)

    def idle(self) -> Deferred[None]:
        """Tell when nothing runs any more; at once when nothing does."""
        waiter = self._idle.wait()
        if not self._running:
            self._idle.succeed(None)
        return waiter

    def cancel(self) -> None:
        """Cancel everything that runs."""
        for running in list(self._running):
            running.cancel()

    def _report(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("background work failed", failure)

    def _ended(self, _: object, running: Deferred[Any]) -> None:
        self._running.discard(running)
        if not self._running:
            self._idle.succeed(None)
