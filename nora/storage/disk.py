"""The disk: a thread pool of the store's own.

The reactor's pool also resolves names: ten slow writes there would delay every connection to an upstream.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore, fail
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from nora.concurrency import Waiters
from nora.storage.residence import Residence, bring

R = TypeVar("R")


class DiskStopped(RuntimeError):
    """Work came for a disk that has not started, or has stopped."""


class ThreadedDisk:
    """Blocking work in up to `threads` threads; work beyond that waits its turn in order.

    At most half of them bring what is read, so that many cold blobs at once do not hold up what is written.
    """

    def __init__(self, reactor: IReactorFromThreads, threads: int = 8, name: str = "disk") -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=threads, name=name)
        self._accepts = False
        self._outstanding = 0
        self._idle: Waiters[None] = Waiters()
        self._residence = Residence()
        self._bringing = DeferredSemaphore(max(1, threads // 2))

    def start(self) -> None:
        """Take work from now on."""
        self._pool.start()
        self._accepts = True

    async def stop(self) -> None:
        """Take no more work, wait for what was taken to end, then end the threads.

        The threads are joined when all of them are idle, so the reactor waits for none of them.
        """
        if not self._accepts:
            return
        self._accepts = False
        while self._outstanding:
            await self._idle.wait()
        self._pool.stop()

    def run(self, work: Callable[..., R], *arguments: Any) -> Deferred[R]:
        """Call `work(*arguments)` in a thread; the result arrives on the reactor.

        Cancelling the Deferred gives up the result only: the work goes on. Fails with `DiskStopped`.
        """
        if not self._accepts:
            return fail(DiskStopped("the disk takes no work now"))
        self._outstanding += 1
        # The count follows the work, not the caller's Deferred, which may be cancelled before the work ends.
        return deferToThreadPool(self._reactor, self._pool, self._counted, work, arguments)

    def edge(self, descriptor: int, start: int, stop: int) -> int:
        """Tell the offset up to which a file's bytes from `start` are in memory; at most `stop`. Never waits."""
        return self._residence.edge(descriptor, start, stop)

    def bring(self, descriptor: int, start: int, stop: int) -> Deferred[None]:
        """Bring a file's bytes into memory, in a thread; fails with `OSError`, and as `run` does.

        Cancelling gives it up. The descriptor may be closed then: what a thread that is under way reads, even from
        another file that has the number by now, is thrown away.
        """
        turn = self._bringing.acquire()
        return turn.addCallback(lambda _: self._bring(descriptor, start, stop))

    def _bring(self, descriptor: int, start: int, stop: int) -> Deferred[None]:
        if not self._accepts:
            self._bringing.release()
        # The turn follows the work too.
        return self.run(self._in_turn, descriptor, start, stop)

    def _in_turn(self, descriptor: int, start: int, stop: int) -> None:
        try:
            bring(descriptor, start, stop)
        finally:
            self._reactor.callFromThread(self._bringing.release)

    def _counted(self, work: Callable[..., R], arguments: tuple[Any, ...]) -> R:
        try:
            return work(*arguments)
        finally:
            self._reactor.callFromThread(self._ended)

    def _ended(self) -> None:
        self._outstanding -= 1
        if not self._outstanding:
            self._idle.succeed(None)
