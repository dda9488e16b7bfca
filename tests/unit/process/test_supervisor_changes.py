"""The supervisor while its workers run: a reload of all of them, and the end of all of them."""

from __future__ import annotations

from twisted.logger import LogLevel, capturedLogs

from nora.process import CannotReload
from nora.process.member import ANSWER
from tests.support.fake_workers import SupervisorCase


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
