"""Signals that ask the daemon for something.

Inside a signal function nothing happens but `reactor.callFromThread`: it interrupts any line of the program,
also one that holds a lock, and the reactor runs the rest when it comes round.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Protocol


class ThreadsReactor(Protocol):
    """What is used of a reactor here."""

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kw: object) -> None:
        """Call in the reactor's thread; safe in a signal function."""


class Signals:
    """Actions for some signals, between `install` and `restore`; both in the main thread."""

    def __init__(self, reactor: ThreadsReactor, actions: Mapping[signal.Signals, Callable[[], None]]) -> None:
        self._reactor = reactor
        self._actions = dict(actions)
        self._before: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Take the signals over."""
        for number in self._actions:
            # setdefault: a second `install` must not remember our own function as what was there before.
            self._before.setdefault(number, signal.getsignal(number))
            signal.signal(number, self._caught)

    def restore(self) -> None:
        """Give them back to who had them."""
        before, self._before = self._before, {}
        for number, function in before.items():
            signal.signal(number, function)

    def _caught(self, number: int, _: FrameType | None) -> None:
        self._reactor.callFromThread(self._actions[signal.Signals(number)])
