"""The part of a file that its reader may take without waiting for the disk.

While the file is in memory that costs a look every few MiB, and no thread. Where it is not, a thread of the disk brings
the next window, and it begins while the client still takes the rest of the one before.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from nora.concurrency import Waiters
from nora.oci.errors import Broken
from nora.storage.interfaces import Disk

WINDOW = 4 * 1024 * 1024
_EARLY = WINDOW // 2


class Window:
    """How far one reader's file is known to be in memory."""

    def __init__(self, disk: Disk, start: int) -> None:
        self._disk = disk
        self._edge = start
        self._bringing: Deferred[None] | None = None
        self._brought: Waiters[None] = Waiters()

    def ready(self, descriptor: int, position: int, stop: int, want: int = 0) -> int:
        """Tell how many bytes from `position` on, before `stop`, can be had now; begins to bring what cannot.

        Looks on when less than `want` bytes or half a window are known to be there, whichever is more, but not far:
        what is looked at long before it is taken may have gone by then.
        """
        due = position + max(_EARLY, want) > self._edge or position + WINDOW >= stop
        if due and self._edge < stop and self._bringing is None:
            at = max(position, self._edge)
            self._look(descriptor, at, min(stop, at + max(WINDOW, want)), stop)
        return max(0, min(stop, self._edge) - position)

    def more(self) -> Deferred[None]:
        """Wait for what `ready` began to bring; fails with `Broken` when the disk does not give it."""
        waiter = self._brought.wait()
        if self._bringing is None:
            self._brought.succeed(None)
        return waiter

    def close(self) -> None:
        """Bring nothing more; who still waits is told that the reader is closed."""
        bringing, self._bringing = self._bringing, None
        if bringing is not None:
            bringing.cancel()
            self._brought.fail(Broken("the client left"))

    def _look(self, descriptor: int, at: int, end: int, stop: int) -> None:
        self._edge = self._disk.edge(descriptor, at, end)
        if self._edge == end:
            return
        end = min(stop, self._edge + WINDOW)
        bringing = self._bringing = self._disk.bring(descriptor, self._edge, end)
        bringing.addCallbacks(lambda _: self._came(end), self._broke)

    def _came(self, end: int) -> None:
        # What was brought is not looked at again: where memory is that short, each look would find it gone.
        self._edge = max(self._edge, end)
        self._bringing = None
        self._brought.succeed(None)

    def _broke(self, _: Failure) -> None:
        if self._bringing is not None:
            self._bringing = None
            self._brought.fail(Broken("the store could not be read"))
