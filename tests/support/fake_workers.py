"""Workers without processes, and a supervisor over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.process.supervisor import Supervisor


class FakeProcess:
    """A worker process: the test says for it what it says, and when it ends."""

    def __init__(
        self,
        pid: int,
        number: int,
        config: object,
        heard: Callable[[str, Any], None],
        ended: Callable[[str, int | None], None],
    ) -> None:
        self.pid = pid
        self.number = number
        self.config = config
        self.say_to_parent = heard
        self.told: list[tuple[str, object]] = []
        self._ended = ended
        self.dead = False

    def say(self, word: str, value: object = None) -> None:
        """Remember it."""
        self.told.append((word, value))

    def words(self) -> list[str]:
        """Give the words that it was told."""
        return [word for word, _ in self.told]

    def kill(self) -> None:
        """End by SIGKILL."""
        self.end("was ended by SIGKILL", None)

    def end(self, how: str = "ended with status 0", status: int | None = 0) -> None:
        """End."""
        if not self.dead:
            self.dead = True
            self._ended(how, status)


class FakeGround:
    """What the workers stand on, in memory."""

    def __init__(self) -> None:
        self.opening: Deferred[None] | None = None
        self.processes: list[FakeProcess] = []
        self.again: list[bool] = []
        self.forgotten: list[int] = []
        self.withdrawn: list[int] = []
        self.calls: list[str] = []
        self.config: object = "old"
        self.new: object = "new"
        self.refusal: Exception | None = None
        self.no_fork = False

    async def open(self) -> None:
        """Wait for `opening`, if there is one."""
        self.calls.append("open")
        if self.opening is not None:
            await self.opening

    def launch(self, number: int, again: bool, heard: Any, ended: Any) -> FakeProcess:
        """Start a process, unless there shall be none."""
        if self.no_fork:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        process = FakeProcess(100 + len(self.processes), number, self.config, heard, ended)
        self.processes.append(process)
        self.again.append(again)
        return process

    def forget(self, number: int) -> None:
        """Remember it."""
        self.forgotten.append(number)

    def withdraw(self, number: int) -> None:
        """Remember it."""
        self.withdrawn.append(number)

    def reread(self) -> object:
        """Give the new configuration, or refuse it."""
        if self.refusal is not None:
            raise self.refusal
        return self.new

    def take_over(self, config: object) -> None:
        """Take it."""
        self.config = config

    def stop_listening(self) -> None:
        """Remember it."""
        self.calls.append("stop listening")

    def close(self) -> None:
        """Remember it."""
        self.calls.append("close")


class SupervisorCase(SynchronousTestCase):
    """Two workers."""

    def setUp(self) -> None:
        """Build it, not started."""
        self.clock = Clock()
        self.ground = FakeGround()
        self.supervisor = Supervisor(self.ground, self.clock, 2)

    def running(self) -> list[FakeProcess]:
        """Give the processes that live, by their number."""
        return sorted((one for one in self.ground.processes if not one.dead), key=lambda one: one.number)

    def start(self) -> None:
        """Start, and have both workers say that they serve."""
        starting = self.supervisor.start()
        for process in self.ground.processes:
            self.assertNoResult(starting)
            process.say_to_parent("ready", None)
        self.successResultOf(starting)

    def beat(self, *processes: FakeProcess) -> None:
        """Let a second pass in which these give a sign of life."""
        self.clock.advance(1)
        for process in processes:
            process.say_to_parent("beat", None)
