"""Stalled clients: noticing that a peer takes nothing although there is something to take.

A write that succeeded only says that the kernel took the bytes; megabytes may lie in a socket's buffer while a
slow client reads on. So the watch looks at what the kernel still holds (`TIOCOUTQ`): as long as that changes,
the peer takes.
"""

from __future__ import annotations

import fcntl
import struct
import termios
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

_LOOKS = 4


class StallWatch:
    """The watch over one response: looks four times in `timeout` seconds, and speaks once."""

    def __init__(self, clock: IReactorTime, timeout: float, transport: Any) -> None:
        self._clock = clock
        self._timeout = timeout
        self._transport = transport
        self._handed = 0
        self._seen: tuple[int, int | None] | None = None
        self._since = 0.0
        self._resting = False
        self._call: IDelayedCall | None = None
        self._stalled: Callable[[], None] = lambda: None

    def start(self, stalled: Callable[[], None]) -> None:
        """Begin; `stalled` is called once when nothing moved for the whole timeout."""
        self._stalled = stalled
        self.go()
        self._call = self._clock.callLater(self._timeout / _LOOKS, self._look)

    def moved(self, count: int) -> None:
        """Tell that `count` bytes were handed to the transport, or, with 0, that it asked for more."""
        self._handed += count or 1

    def rest(self) -> None:
        """Tell that there is nothing to take just now: the client is not to blame."""
        self._resting = True

    def go(self) -> None:
        """Tell that there is something to take again."""
        self._resting = False
        self._since = self._clock.seconds()

    def stop(self) -> None:
        """End the watch; a second call does nothing."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _look(self) -> None:
        now = self._clock.seconds()
        seen = (self._handed, _queued(self._transport))
        if self._resting or seen != self._seen:
            self._seen, self._since = seen, now
        elif now - self._since >= self._timeout:
            self._call = None
            self._stalled()
            return
        self._call = self._clock.callLater(self._timeout / _LOOKS, self._look)


def _queued(transport: Any) -> int | None:
    """Tell how many bytes the kernel holds that the peer has not acknowledged; None where it cannot be told."""
    try:
        answer = fcntl.ioctl(transport.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except (AttributeError, OSError, ValueError):
        return None
    return int(struct.unpack("i", answer)[0])
