"""The pump: bytes from a socket into a file, no faster than the disk takes them.

The reactor only collects chunks. Whenever the writer is idle it takes what is there, at most 1 MiB a hop: a slow
sender's bytes are on disk, and on their way to who follows the file, at once, and a fast one's go in large pieces.
Past 1 MiB collected the sender is paused, so a transfer's memory is about 2 MiB whatever its size.

Where a flow has a tap, the thread that writes reads the socket itself, into a buffer that it keeps: a turn of up to
4 MiB, then the next one. The sink gets what came before, and the flow's end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from nora.concurrency.waiters import Waiters

HOP = 1024 * 1024
_RESUME_BELOW = HOP // 2
TURN = 4 * 1024 * 1024
"""The most bytes that a thread draws before the reactor hears of it."""
_OVERHEAD = 256
"""What a chunk costs beside its bytes: tiny ones count for more, so that memory stays bounded."""


class Flow(Protocol):
    """One body on its way in: from an upstream, or from a client. Nothing is read before `deliver`."""

    def deliver(self, sink: Callable[[bytes], None]) -> Deferred[None]:
        """Begin, once. `sink` is called with each chunk; the Deferred fires at a clean end and fails otherwise."""

    def pause(self) -> None:
        """Stop reading from the socket until `resume`. What was read already may still reach the sink."""

    def resume(self) -> None:
        """Go on reading."""

    def abort(self) -> None:
        """End the transfer; `deliver`'s Deferred fails."""


class Tap(Protocol):
    """The rest of a flow, for a thread to read."""

    def ready(self) -> Deferred[bool]:
        """Wait until there may be bytes to read: True.

        False when there is nothing left to draw, also when the flow was given up: the sink gets the rest.
        """

    def read(self, into: memoryview) -> int:
        """Read what is there now, in any thread; 0 when there is nothing."""

    def drew(self, count: int) -> None:
        """Tell that the thread is done, and how many bytes it read; after each `ready` that was True."""


@attrs.frozen
class Drawing:
    """How a thread may read the flow: `tap` gives the flow's tap, if it has one.

    `draw(read, most)` reads up to `most` bytes and appends them, in a thread, until there are none; it tells how many.
    """

    tap: Callable[[], Tap | None]
    draw: Callable[[Callable[[memoryview], int], int], Deferred[int]]


class Pump:
    """One transfer into one file."""

    def __init__(
        self,
        incoming: Flow,
        append: Callable[[Sequence[bytes]], Deferred[None]],
        skip: int,
        advanced: Callable[[], None],
        drawing: Drawing | None = None,
    ) -> None:
        """`skip` bytes at the start are dropped: there already. `advanced` hears of each hop."""
        self._drawing = drawing
        self._tap: Tap | None = None
        self._incoming = incoming
        self._append = append
        self._skip = skip
        self._advanced = advanced
        self._chunks: deque[bytes] = deque()
        self._collected = 0
        self._paused = False
        self._writing = False
        self._end: BaseException | None = None
        self._delivered = False
        self._done: Waiters[None] = Waiters()

    def run(self) -> Deferred[None]:
        """Pump to the end.

        Fires when the last byte is written. Fails, after what arrived was written, with what broke the transfer
        off; or at once with what the writing raised, and then the transfer is aborted.
        """
        done = self._done.wait()
        self._incoming.deliver(self._take).addCallbacks(self._arrived, self._broke)
        if self._drawing is not None and not (self._delivered or self._skip or self._paused):
            self._tap = self._drawing.tap()
            self._write()
        return done

    def _take(self, chunk: bytes) -> None:
        if self._skip:
            dropped = min(self._skip, len(chunk))
            self._skip -= dropped
            chunk = chunk[dropped:]
        if not chunk or self._end is not None:
            return
        self._chunks.append(chunk)
        self._collected += len(chunk) + _OVERHEAD
        if self._collected >= HOP and not self._paused:
            self._paused = True
            self._incoming.pause()
        self._write()

    def _write(self) -> None:
        if self._writing:
            return
        if not self._chunks:
            if self._tap is not None:
                self._wait(self._tap)
            else:
                self._finish()
            return
        batch: list[bytes] = []
        size = 0
        while self._chunks and size < HOP:
            batch.append(self._chunks.popleft())
            size += len(batch[-1]) + _OVERHEAD
        self._collected -= size
        self._writing = True
        self._append(batch).addCallbacks(self._wrote, self._failed)

    def _wrote(self, _: None) -> None:
        self._writing = False
        self._advanced()
        if self._paused and self._collected < _RESUME_BELOW:
            self._paused = False
            self._incoming.resume()
        self._write()

    def _wait(self, tap: Tap) -> None:
        self._writing = True
        tap.ready().addCallback(self._draw, tap)

    def _draw(self, more: bool, tap: Tap) -> None:
        if not more or self._drawing is None:
            self._tap, self._writing = None, False
            self._write()
            return
        drawn = self._drawing.draw(tap.read, TURN)
        drawn.addCallbacks(self._drew, self._not_drawn, callbackArgs=(tap,), errbackArgs=(tap,))

    def _drew(self, count: int, tap: Tap) -> None:
        tap.drew(count)
        self._wrote(None)

    def _not_drawn(self, failure: Failure, tap: Tap) -> None:
        self._tap = None
        tap.drew(0)
        self._failed(failure)

    def _failed(self, failure: Failure) -> None:
        self._writing = False
        self._chunks.clear()
        self._end = failure.value
        if self._delivered:
            self._finish()
        else:
            self._incoming.abort()

    def _arrived(self, _: None) -> None:
        self._delivered = True
        self._write()

    def _broke(self, failure: Failure) -> None:
        self._delivered = True
        if self._end is None:
            self._end = failure.value
        self._write()

    def _finish(self) -> None:
        if not self._delivered:
            return
        if self._end is not None:
            self._done.fail(self._end)
        else:
            self._done.succeed(None)
