"""Running a program that makes credentials: no shell, bounded in time and output, the reactor never waits for it."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from nora.upstream.credentials import Unreadable

TIMEOUT = 10.0
"""How many seconds a program may take."""
MAX_OUTPUT = 64 * 1024
"""The most that a program may say, in bytes."""


async def run(reactor: Any, program: str, argument: str, words: str) -> bytes:
    """Run `program argument` with `words` as its input, and give what it says.

    The program is looked for on the `PATH`, and inherits the environment but for our own variables, which may hold
    the secrets of other upstreams. Raises `Unreadable`: what it said is not in
    the text, because that may hold the secret.
    """
    path = shutil.which(program)
    if path is None:
        raise Unreadable(f"the program {program} is not on the PATH, or may not be run")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NORA_")}
    running = _Running(reactor, program, words)
    try:
        reactor.spawnProcess(running, path, [program, argument], env=environment)
    except OSError as error:
        running.forget()
        raise Unreadable(f"{program} could not be started: {error.strerror}") from None
    return await running.ended


class _Running(ProcessProtocol):
    """One run; `ended` fires once, with the output or with `Unreadable`."""

    def __init__(self, reactor: Any, program: str, words: str) -> None:
        self.ended: Deferred[bytes] = Deferred(lambda _: self._stop("was given up"))
        self._program = program
        self._words = words
        self._said = bytearray()
        self._timer: IDelayedCall | None = reactor.callLater(
            TIMEOUT, self._stop, f"took more than {TIMEOUT:g} s"
        )

    def connectionMade(self) -> None:
        """Hand it its input."""
        transport = cast(Any, self.transport)
        transport.write(self._words.encode())
        transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """Collect what it says."""
        self._said += data
        if len(self._said) > MAX_OUTPUT:
            self._stop(f"said more than {MAX_OUTPUT // 1024} KiB")

    def processEnded(self, reason: Failure) -> None:
        """Give what it said."""
        if self._timer is None:
            return
        self.forget()
        if reason.check(ProcessDone) is not None:
            self.ended.callback(bytes(self._said))
        else:
            status = getattr(reason.value, "status", None)
            code = getattr(reason.value, "exitCode", None)
            how = f"ended with status {code}" if code is not None else f"was ended by a signal ({status})"
            self.ended.errback(Unreadable(f"{self._program} {how}"))

    def forget(self) -> None:
        """Wait no more."""
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _stop(self, why: str) -> None:
        if self._timer is None:
            return
        self.forget()
        transport = cast(Any, self.transport)
        if transport is not None:
            with contextlib.suppress(ProcessExitedAlready):
                transport.signalProcess("KILL")
            transport.loseConnection()
        self._said.clear()
        if not self.ended.called:
            self.ended.errback(Unreadable(f"{self._program} {why}"))
