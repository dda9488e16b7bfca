"""Starting worker processes: this interpreter again, with exactly the descriptors that a worker may have."""

from __future__ import annotations

import os
import site
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import Signals
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

import nora
from nora.process.wire import CONTROL, FIRST_SOCKET, LOCK, Setup, Wire, connect

_NOT_THEIRS = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}
)
"""Variables by which systemd speaks to the parent alone."""


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Give a worker's environment: the parent's, with the parent's own code on the path."""
    mine = {name: value for name, value in environ.items() if name not in _NOT_THEIRS}
    root = str(Path(nora.__file__).resolve().parents[1])
    if root not in site.getsitepackages():
        mine["PYTHONPATH"] = os.pathsep.join(part for part in (root, mine.get("PYTHONPATH")) if part)
    return mine


class Launched:
    """A worker process that runs. `ended` is called once, when it is gone and everything it said was heard."""

    def __init__(
        self,
        reactor: Any,
        environ: Mapping[str, str],
        setup: Setup,
        descriptors: Sequence[int],
        lock: int,
        heard: Callable[[str, Any], None],
        ended: Callable[[str, int | None], None],
    ) -> None:
        self._ended = ended
        self._reason: tuple[str, int | None] | None = None
        self._silent = False
        self._wire = Wire(heard, self._lost)
        ours, theirs = socket.socketpair()
        with theirs, open(os.devnull, "rb") as nothing:
            numbers = {0: nothing.fileno(), 1: 1, 2: 2, CONTROL: theirs.fileno(), LOCK: lock}
            numbers.update(enumerate(descriptors, FIRST_SOCKET))
            command = [sys.executable, "-m", "nora.worker", str(setup.place.number)]
            try:
                self._process: Any = reactor.spawnProcess(
                    _Watching(self._exited),
                    sys.executable,
                    command,
                    worker_environment(environ),
                    childFDs=numbers,
                )
            except BaseException:
                ours.close()
                raise
        self.pid: int = self._process.pid
        connect(reactor, ours, self._wire)
        self._wire.say("setup", setup)

    def say(self, word: str, value: object = None) -> None:
        """Send it a message."""
        self._wire.say(word, value)

    def kill(self) -> None:
        """End it by SIGKILL."""
        try:
            self._process.signalProcess("KILL")
        except ProcessExitedAlready:
            return

    def _lost(self) -> None:
        self._silent = True
        self._tell()

    def _exited(self, reason: tuple[str, int | None]) -> None:
        self._reason = reason
        self._tell()

    def _tell(self) -> None:
        # Its last words may still be on the wire when it is gone.
        if self._silent and self._reason is not None:
            self._ended(*self._reason)


class _Watching(ProcessProtocol):
    def __init__(self, exited: Callable[[tuple[str, int | None]], None]) -> None:
        self._exited = exited

    def processEnded(self, reason: Failure) -> None:
        """Tell how it ended, in words, and its exit status."""
        if reason.check(ProcessDone) is not None:
            self._exited(("ended with status 0", 0))
            return
        status, number = getattr(reason.value, "exitCode", None), getattr(reason.value, "signal", None)
        if number is not None:
            self._exited((f"was ended by {Signals(number).name}", None))
        else:
            self._exited((f"ended with status {status}", status))
