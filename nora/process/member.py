"""One worker as its parent sees it: started, heard, and started again when it ends without having been told to.

The first time at once, for its clients wait; one that ends again and again waits longer each time. A worker that is
silent is taken for hung, and killed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from nora.concurrency import Waiters
from nora.process.neighbours import WORDS

SILENCE = 30.0
"""After how many seconds without a sign of life a worker that serves is killed."""
STARTING = 120.0
"""How many seconds a worker may take until it serves."""
ANSWER = 30.0
"""How many seconds a worker may take to say whether it takes a configuration over."""
SOUND = 10.0
"""A worker that served for so many seconds is started again at once when it ends."""

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 30.0


class Running(Protocol):
    """A process that runs; `nora.process.launch` has the real one."""

    pid: int

    def say(self, word: str, value: object = None) -> None:
        """Send it a message."""

    def kill(self) -> None:
        """End it by SIGKILL."""


Launch = Callable[[int, bool, Callable[[str, Any], None], Callable[[str, "int | None"], None]], Running]
"""Starts worker `number`, `again` or not; calls `heard` with what it says and `ended` once. Raises `OSError`."""


class WorkerFailed(Exception):
    """A worker ended, or did not answer. The message says so; `status` is its exit status, if it had one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Refused(Exception):
    """The worker refuses what it was asked to take over; `lines` tells why."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


class Member:
    """Worker `number`.

    `changed` is called with None when it begins to serve, or no longer does though it lives, and with how when it ends;
    `pass_on` with what it says to other workers.
    """

    _log = Logger()

    def __init__(
        self,
        number: int,
        launch: Launch,
        clock: IReactorTime,
        changed: Callable[[Member, WorkerFailed | None], None],
        pass_on: Callable[[Member, str, Any], None] = lambda member, word, value: None,
    ) -> None:
        self.number = number
        self.serving = False
        """It has said that it listens, and lives."""
        self.kept = False
        """It is started again when it ends."""
        self.waits = 0.0
        """How many seconds it waits, after its end, until it is started again."""
        self._launch = launch
        self._clock = clock
        self._changed = changed
        self._pass_on = pass_on
        self._running: Running | None = None
        self._again = False
        self._began = 0.0
        self._heard_at = 0.0
        self._said = ""
        self._delay = 0.0
        self._restart: IDelayedCall | None = None
        self._stopping = False
        self._leaving = False
        self._answer: Deferred[None] | None = None
        self._gone: Waiters[None] = Waiters()

    def start(self) -> None:
        """Start it."""
        self._restart = None
        self._began = self._heard_at = self._clock.seconds()
        self._said = ""
        try:
            self._running = self._launch(self.number, self._again, self._hear, self._end)
        except OSError as error:
            self._end(f"could not be started: {error.strerror or error}", None)

    def say(self, word: str, value: object = None) -> None:
        """Send it a message, if it runs."""
        if self._running is not None:
            self._running.say(word, value)

    async def take(self, config: object) -> None:
        """Have it take `config` over. Raises `Refused`, and `WorkerFailed`: then it is ended, and started again."""
        if self._running is None:
            raise WorkerFailed(f"worker {self.number} does not run")
        answer: Deferred[None] = Deferred()
        self._answer = answer
        self.say("reload", config)
        timer = self._clock.callLater(ANSWER, self._no_answer)
        try:
            await answer
        finally:
            self._answer = None
            if timer.active():
                timer.cancel()

    def stop(self) -> None:
        """Tell it to drain and end, and do not start it again."""
        self._stopping, self.kept = True, False
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        self.say("stop")

    def kill(self) -> None:
        """End it at once."""
        if self._running is not None:
            self._running.kill()

    def gone(self) -> Deferred[None]:
        """Tell when no process of it runs; at once when none does."""
        waiter = self._gone.wait()
        if self._running is None:
            self._gone.succeed(None)
        return waiter

    def look(self) -> None:
        """Kill it when it has been silent for too long."""
        if self._running is None or self._stopping or self._leaving:
            return
        silent = self._clock.seconds() - self._heard_at
        if silent > (SILENCE if self.serving else STARTING):
            self._log.error(
                "worker {number} (process {pid}) says nothing since {seconds} s; it is killed",
                number=self.number,
                pid=self._running.pid,
                seconds=round(silent),
            )
            self._running.kill()

    def excuse(self) -> None:
        """Count its silence anew: the parent itself did not run."""
        self._heard_at = self._clock.seconds()

    def _hear(self, word: str, value: Any) -> None:
        self._heard_at = self._clock.seconds()
        if word == "ready":
            self.serving = True
            self._began = self._heard_at
            self._changed(self, None)
        elif word == "stopping" and not self._stopping:
            # Somebody ended this one worker: what it has in flight goes on, for longer than connections should wait.
            self._leaving = True
            self.serving = False
            self._changed(self, None)
        elif word == "status":
            self._said = str(value)
        elif word in WORDS:
            self._pass_on(self, word, value)
        elif word in {"taken", "refused"} and self._answer is not None:
            answer, self._answer = self._answer, None
            if word == "taken":
                answer.callback(None)
            else:
                answer.errback(Refused(tuple(value)))

    def _no_answer(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            self.kill()
            answer.errback(WorkerFailed(f"worker {self.number} does not answer"))

    def _end(self, how: str, status: int | None) -> None:
        served, self.serving, self._leaving = self.serving or self._leaving, False, False
        running, self._running = self._running, None
        told = f"; {self._said}" if self._said.startswith("cannot start") else ""
        failed = WorkerFailed(f"worker {self.number} {how}{told}", status)
        answer, self._answer = self._answer, None
        if self.kept:
            sound = served and self._clock.seconds() - self._began >= SOUND
            delay, self._delay = (0.0 if sound else self._delay), self._delay_after(sound)
            self.waits = delay
            self._log.warn(
                "worker {number} (process {pid}) {how}; it is started again in {delay} s",
                number=self.number,
                pid=running.pid if running is not None else "none",
                how=how,
                delay=delay,
            )
            self._again = True
            self._restart = self._clock.callLater(delay, self.start)
        self._changed(self, failed)
        if answer is not None:
            answer.errback(failed)
        self._gone.succeed(None)

    def _delay_after(self, sound: bool) -> float:
        if sound:
            return _FIRST_DELAY
        return min(max(self._delay * 2, _FIRST_DELAY), _LONGEST_DELAY)
