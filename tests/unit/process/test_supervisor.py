"""The parent of several workers, driven by hand: when it is ready, what it starts again, what a reload reaches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from nora.process import CannotReload, CannotStart
from nora.process.member import ANSWER, SILENCE, SOUND, STARTING
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


class StartTests(SupervisorCase):
    """The first start."""

    def test_ready_when_all_are(self) -> None:
        """It starts both when the ground is ready, and is ready when both are."""
        self.ground.opening = Deferred()
        starting = self.supervisor.start()
        self.assertEqual(self.ground.processes, [])
        self.ground.opening.callback(None)
        first, second = self.ground.processes
        first.say_to_parent("ready", None)
        self.assertNoResult(starting)
        self.assertEqual(first.told, [])
        second.say_to_parent("ready", None)
        self.successResultOf(starting)
        self.assertEqual(self.ground.again, [False, False])

    def test_worker_that_cannot_start(self) -> None:
        """One that ends before all are ready ends the start, with its words and its status; it is not tried again."""
        starting = self.supervisor.start()
        self.ground.processes[1].say_to_parent("status", "cannot start: no such file")
        self.ground.processes[1].end("ended with status 78", 78)
        error = self.failureResultOf(starting, CannotStart).value
        self.assertEqual(str(error), "worker 2 ended with status 78; cannot start: no such file")
        self.assertEqual(error.status, 78)
        self.clock.advance(100)
        self.assertEqual(len(self.ground.processes), 2)

    def test_worker_that_is_killed_at_the_start(self) -> None:
        """One that a signal ends has no status of its own: the parent's is 1."""
        starting = self.supervisor.start()
        self.ground.processes[0].kill()
        self.assertEqual(self.failureResultOf(starting, CannotStart).value.status, 1)

    def test_no_process_can_be_made(self) -> None:
        """A system that makes no process is a start that fails."""
        self.ground.no_fork = True
        error = self.failureResultOf(self.supervisor.start(), CannotStart)
        self.assertIn("Resource temporarily unavailable", str(error.value))

    def test_stop_after_a_failed_start(self) -> None:
        """The stop ends those that did start, and closes the ground when they are gone."""
        self.failureResultOf(self.failing())
        stopping = self.supervisor.stop(5)
        (left,) = self.running()
        self.assertEqual(left.words(), ["stop"])
        self.assertNotIn("close", self.ground.calls)
        left.end()
        self.successResultOf(stopping)
        self.assertEqual(self.ground.calls, ["open", "stop listening", "close"])

    def failing(self) -> Deferred[None]:
        """Begin a start that fails."""
        starting = self.supervisor.start()
        self.ground.processes[0].end("ended with status 1", 1)
        return starting

    def test_hangs_before_it_serves(self) -> None:
        """One that does not come up is killed after two minutes."""
        starting = self.supervisor.start()
        with capturedLogs() as logged:
            self.clock.pump([1.0] * (int(STARTING) + 2))
        self.failureResultOf(starting, CannotStart)
        self.assertIn("says nothing", logged[0]["log_format"])


class RestartTests(SupervisorCase):
    """Workers that end."""

    def setUp(self) -> None:
        """Start."""
        super().setUp()
        self.start()

    def end_second(self) -> None:
        """Kill worker 2."""
        self.running()[1].kill()

    def test_at_once(self) -> None:
        """One that ends is replaced at once, by one that knows that it is not the first."""
        self.end_second()
        self.assertEqual(self.ground.forgotten, [2])
        self.clock.advance(0)
        replaced = self.running()[1]
        self.assertEqual((replaced.number, self.ground.again[-1], replaced.told), (2, True, []))

    def test_later_each_time(self) -> None:
        """One that ends again and again is started later each time, half a minute at most."""
        waited = []
        for _ in range(10):
            self.end_second()
            seconds = 0.0
            while len(self.running()) < 2:
                self.clock.advance(0 if not seconds else 0.5)
                seconds += 0.5 if len(self.running()) < 2 else 0
            waited.append(seconds)
        self.assertEqual(waited, [0, 0.5, 1, 2, 4, 8, 16, 30, 30, 30])

    def test_nobody_waits_for_one_that_stays_away(self) -> None:
        """Connections wait for a worker that comes back at once; those of one that waits longer go to the others."""
        for _ in range(2):
            self.end_second()
            self.clock.pump([0.1] * 6)
        self.assertEqual(self.ground.withdrawn, [])
        self.end_second()
        self.assertEqual(self.ground.withdrawn, [2])

    def test_one_that_was_told_to_end(self) -> None:
        """A worker that somebody ended drains in peace, nobody new waits for it, and it is replaced when it is gone."""
        first, second = self.running()
        for _ in range(int(SOUND)):
            self.beat(first, second)
        second.say_to_parent("stopping", None)
        self.assertEqual(self.ground.withdrawn, [2])
        for _ in range(int(SILENCE) + 5):
            self.beat(first)
        self.assertFalse(second.dead)
        second.end()
        self.clock.advance(0)
        self.assertEqual([one.number for one in self.running()], [1, 2])

    def test_soundness_is_remembered(self) -> None:
        """One that has served for a while begins at once again, however often it ended before."""
        for _ in range(4):
            self.end_second()
            self.clock.pump([1.0] * 10)
        replaced = self.running()[1]
        replaced.say_to_parent("ready", None)
        for _ in range(int(SOUND)):
            self.beat(*self.running())
        replaced.kill()
        self.clock.advance(0)
        self.assertEqual(len(self.running()), 2)

    def test_no_process_can_be_made(self) -> None:
        """A system that makes no process for a while is asked again."""
        self.ground.no_fork = True
        self.end_second()
        self.clock.pump([0.1] * 20)
        self.assertEqual(len(self.running()), 1)
        self.ground.no_fork = False
        self.clock.pump([0.5] * 10)
        self.assertEqual(len(self.running()), 2)

    def test_hung(self) -> None:
        """One that gives no sign of life for half a minute is killed and replaced; the other is left alone."""
        first, second = self.running()
        for _ in range(int(SILENCE)):
            self.beat(first)
        self.assertFalse(second.dead)
        self.beat(first)
        self.assertTrue(second.dead)
        self.beat(first)
        self.assertEqual([one.number for one in self.running()], [1, 2])
        self.assertIs(self.running()[0], first)

    def test_parent_that_slept(self) -> None:
        """When it was the parent that did not run, nobody is killed for silence."""
        self.clock.advance(1000)
        self.clock.advance(1)
        self.assertFalse(any(one.dead for one in self.ground.processes))

    def test_healthy(self) -> None:
        """It is well as long as one worker serves."""
        self.assertTrue(self.supervisor.healthy())
        self.end_second()
        self.assertTrue(self.supervisor.healthy())
        self.running()[0].kill()
        self.clock.advance(0)
        self.assertFalse(self.supervisor.healthy())
        self.running()[0].say_to_parent("ready", None)
        self.assertTrue(self.supervisor.healthy())


class ReloadTests(SupervisorCase):
    """A new configuration: everywhere or nowhere."""

    def setUp(self) -> None:
        """Start."""
        super().setUp()
        self.start()
        self.first, self.second = self.running()

    def test_one_after_the_other(self) -> None:
        """The second worker hears of it when the first has taken it over, and it has ended when both have."""
        reloading = self.supervisor.reload()
        self.assertEqual(self.first.told[-1], ("reload", "new"))
        self.assertNotIn("reload", self.second.words())
        self.first.say_to_parent("taken", None)
        self.assertEqual(self.second.told[-1], ("reload", "new"))
        self.assertNoResult(reloading)
        self.second.say_to_parent("taken", None)
        self.successResultOf(reloading)
        self.assertEqual(self.ground.config, "new")

    def test_refused_by_the_parent(self) -> None:
        """Mistakes that the parent finds reach no worker."""
        self.ground.refusal = CannotReload("a", "b")
        error = self.failureResultOf(self.supervisor.reload(), CannotReload).value
        self.assertEqual(error.lines, ("a", "b"))
        self.assertNotIn("reload", self.first.words() + self.second.words())

    def test_refused_by_a_worker(self) -> None:
        """What the first worker refuses the second never hears of, and later ones neither."""
        reloading = self.supervisor.reload()
        self.first.say_to_parent("refused", ("no such file",))
        error = self.failureResultOf(reloading, CannotReload).value
        self.assertEqual(error.lines, ("no such file",))
        self.assertNotIn("reload", self.second.words())
        self.second.kill()
        self.clock.advance(0)
        self.assertEqual(self.running()[1].config, "old")

    def test_first_one_dies_of_it(self) -> None:
        """A configuration that ends the first worker is refused, and its successor has the old one."""
        reloading = self.supervisor.reload()
        self.first.kill()
        self.failureResultOf(reloading, CannotReload)
        self.clock.advance(0)
        self.assertEqual(self.running()[0].config, "old")
        self.assertNotIn("reload", self.second.words())

    def test_first_one_hangs(self) -> None:
        """One that does not say whether it takes it over is killed: nobody may have what others have not."""
        reloading = self.supervisor.reload()
        for _ in range(int(ANSWER)):
            self.beat(self.first, self.second)
        self.assertIn("does not answer", str(self.failureResultOf(reloading, CannotReload).value))
        self.assertTrue(self.first.dead)

    def test_second_one_refuses(self) -> None:
        """A later worker that refuses what the first took over begins anew with it."""
        reloading = self.supervisor.reload()
        self.first.say_to_parent("taken", None)
        with capturedLogs() as logged:
            self.second.say_to_parent("refused", ("gone",))
        self.successResultOf(reloading)
        self.assertIn(LogLevel.error, [event["log_level"] for event in logged])
        self.clock.advance(0)
        self.assertEqual(self.running()[1].config, "new")

    def test_second_one_dies(self) -> None:
        """A later worker that dies meanwhile is no obstacle."""
        reloading = self.supervisor.reload()
        self.first.say_to_parent("taken", None)
        self.second.kill()
        self.successResultOf(reloading)
        self.clock.advance(0)
        self.assertEqual(self.running()[1].config, "new")

    def test_worker_that_is_starting(self) -> None:
        """One that began with the old configuration, and does not serve yet, takes the new one over too."""
        self.second.kill()
        self.clock.advance(0)
        starting = self.running()[1]
        self.assertEqual(starting.config, "old")
        reloading = self.supervisor.reload()
        self.first.say_to_parent("taken", None)
        self.assertEqual(starting.told, [("reload", "new")])
        starting.say_to_parent("taken", None)
        self.successResultOf(reloading)

    def test_nobody_serves(self) -> None:
        """Without a worker to try it there is no reload."""
        self.first.kill()
        self.second.kill()
        self.failureResultOf(self.supervisor.reload(), CannotReload)


class StopTests(SupervisorCase):
    """The end."""

    def setUp(self) -> None:
        """Start."""
        super().setUp()
        self.start()
        self.first, self.second = self.running()

    def test_in_order(self) -> None:
        """All are told at once, nobody is started again, and the ground goes last."""
        stopping = self.supervisor.stop(30)
        self.assertEqual(self.ground.calls, ["open", "stop listening"])
        self.assertEqual([self.first.words()[-1], self.second.words()[-1]], ["stop", "stop"])
        self.first.end()
        self.clock.advance(5)
        self.assertNoResult(stopping)
        self.second.end()
        self.successResultOf(stopping)
        self.assertEqual(self.ground.calls[-1], "close")
        self.assertEqual(len(self.ground.processes), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_hurry(self) -> None:
        """A hurry reaches those that drain."""
        self.supervisor.stop(30)
        self.supervisor.hurry()
        self.assertEqual([self.first.words()[-1], self.second.words()[-1]], ["hurry", "hurry"])

    def test_hurry_before(self) -> None:
        """One that came before the stop counts too."""
        self.supervisor.hurry()
        self.supervisor.stop(30)
        self.assertEqual(self.first.words()[-2:], ["stop", "hurry"])

    def test_late_ones_are_killed(self) -> None:
        """One that does not end, some seconds past the drain, is killed."""
        stopping = self.supervisor.stop(30)
        self.first.end()
        self.clock.advance(30)
        self.assertNoResult(stopping)
        self.clock.advance(9)
        self.successResultOf(stopping)
        self.assertTrue(self.second.dead)

    def test_between_two_lives(self) -> None:
        """A worker that waits to be started again is not."""
        self.first.kill()
        stopping = self.supervisor.stop(30)
        self.second.end()
        self.successResultOf(stopping)
        self.clock.advance(100)
        self.assertEqual(len(self.ground.processes), 2)

    def test_what_leaves_when_all_do(self) -> None:
        """A worker that stops because it was told to is nothing to react to."""
        self.supervisor.stop(30)
        self.first.say_to_parent("stopping", None)
        self.assertEqual(self.ground.withdrawn, [])

    def test_logs(self) -> None:
        """The logs are opened again by everyone."""
        self.supervisor.reopen_logs()
        self.assertEqual([self.first.words()[-1], self.second.words()[-1]], ["reopen", "reopen"])
