"""Taking the store: one daemon has it at a time, and the next one waits for as long as a drain lasts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from nora.process.interfaces import CannotStart
from nora.storage import StoreBusy, StoreLock

_INTERVAL = 0.2
_log = Logger()


async def take_store(lock: StoreLock, clock: IReactorTime, wait: float) -> None:
    """Take `lock`, waiting up to `wait` seconds for another daemon to stop. Raises `CannotStart` and `StoreError`."""
    sleep: Callable[..., Deferred[Any]] = deferLater
    told = False
    until = clock.seconds() + wait
    while True:
        try:
            lock.acquire(0)
            return
        except StoreBusy as error:
            if clock.seconds() >= until:
                raise CannotStart(str(StoreBusy(lock.path, error.pid, wait))) from None
            if not told:
                told = True
                _log.warn(
                    "process {pid} has the store {path}; waiting up to {wait} s for it to stop",
                    pid=error.pid,
                    path=error.path,
                    wait=wait,
                )
        await sleep(clock, _INTERVAL)
