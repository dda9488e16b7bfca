"""The parent of several workers, driven by hand: when it is ready, and what it starts again."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from nora.process import CannotStart
from nora.process.member import SILENCE, SOUND, STARTING
from tests.support.fake_workers import SupervisorCase


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
