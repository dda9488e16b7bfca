"""Turns: how many transfers run at once, at one upstream and in all.

An upstream's own turn is taken first, so that one which answers nobody keeps only its own share waiting.
"""

from __future__ import annotations

from twisted.internet.defer import DeferredSemaphore


class Turn:
    """A turn that was taken."""

    def __init__(self, *slots: DeferredSemaphore) -> None:
        self._slots = slots

    def release(self) -> None:
        """Give it back; a second call does nothing."""
        slots, self._slots = self._slots, ()
        for slot in slots:
            slot.release()


class Turns:
    """The turns of this process: `most` in all, `most_per_upstream` at each."""

    def __init__(self, most: int, most_per_upstream: int) -> None:
        self._all = DeferredSemaphore(most)
        self._most_per_upstream = most_per_upstream
        self._upstreams: dict[str, DeferredSemaphore] = {}

    async def take(self, upstream: str) -> Turn:
        """Wait for a turn at `upstream`, first come, first served."""
        if upstream not in self._upstreams:
            self._upstreams[upstream] = DeferredSemaphore(self._most_per_upstream)
        own = self._upstreams[upstream]
        await own.acquire()
        try:
            await self._all.acquire()
        except BaseException:
            own.release()
            raise
        return Turn(own, self._all)
