"""The root service, driven by hand: what it calls and tells, in which order, and what it does when things fail."""

from __future__ import annotations

import atexit
import io
import os
import signal
from typing import Any, cast

from twisted.application.service import Application, IServiceCollection
from twisted.internet.defer import Deferred, succeed
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from nora.process import CannotReload, CannotStart, Logs, NoraService
from nora.process.service import exit_with
from tests.support.application import FakeApplication, HandReactor, RecordingNotifier

_SIGNALS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)


class ServiceCase(SynchronousTestCase):
    """A service with a fake daemon; the process's own signals are as they were after each test."""

    watchdog_interval: float | None = None

    def setUp(self) -> None:
        """Build it, not started."""
        self.application = FakeApplication()
        self.reactor = HandReactor()
        self.notifier = RecordingNotifier(self.watchdog_interval)
        self.statuses: list[int] = []
        self.service = NoraService(
            self.application,
            self.reactor,
            self.notifier,
            drain_timeout=7,
            exit_with=self.statuses.append,
        )
        for number in _SIGNALS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.events: list[dict[str, Any]] = []
        remember = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(remember)
        self.addCleanup(globalLogPublisher.removeObserver, remember)

    def start(self) -> None:
        """Start the service and the reactor, and let the daemon's start succeed."""
        self.service.startService()
        self.reactor.run()
        self.application.starting.succeed(None)

    def send(self, number: signal.Signals) -> None:
        """Send this process a signal, and let the reactor turn."""
        os.kill(os.getpid(), number)
        self.assertEqual(self.reactor.turn(), 1)

    def logged(self, level: Any) -> list[str]:
        """Give the texts that were logged at `level`."""
        return [
            event["log_format"].format(**event)
            for event in self.events
            if event["log_level"] is level and event["log_namespace"].startswith("nora")
        ]


class StartTests(ServiceCase):
    """From the start of the service to READY, or to the exit status."""

    def test_ready_only_when_started(self) -> None:
        """READY waits until the daemon says that it listens."""
        self.service.startService()
        self.reactor.run()
        self.assertEqual(self.application.calls, ["start"])
        self.assertEqual(self.notifier.told, [])
        self.application.starting.succeed(None)
        self.assertEqual(self.notifier.told, ["ready"])
        self.assertEqual(self.statuses, [])

    def test_what_an_administrator_can_mend_is_one_line(self) -> None:
        """A start that cannot be logs its reason without a traceback and ends with status 1."""
        for error in (CannotStart("port 4000 is in use"), PermissionError(13, "Permission denied", "/data")):
            with self.subTest(error=error):
                self.setUp()
                self.service.startService()
                self.reactor.run()
                self.application.starting.fail(error)
                self.assertEqual(self.logged(LogLevel.critical), [f"NORA cannot start: {error}"])
                self.assertFalse([event for event in self.events if "log_failure" in event])
                self.assertEqual(self.statuses, [1])
                self.assertTrue(self.reactor.stopped)
                self.assertNotIn("ready", self.notifier.told)

    def test_defect_at_start_has_its_traceback(self) -> None:
        """Any other failure is logged whole, and ends the process all the same."""
        self.service.startService()
        self.reactor.run()
        self.application.starting.fail(ZeroDivisionError("a defect"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.statuses, [1])
        self.assertTrue(self.reactor.stopped)

    def test_failure_before_the_reactor_runs(self) -> None:
        """A start that fails at once stops the reactor as soon as it runs, not earlier."""
        self.application.start = self._refuse  # type: ignore[method-assign]
        self.service.startService()
        self.assertFalse(self.reactor.stopped)
        self.reactor.run()
        self.assertTrue(self.reactor.stopped)
        self.assertEqual(self.statuses, [1])

    def test_stop_while_starting(self) -> None:
        """A stop in the middle of a start cancels the start, stops what there is, and is no failure."""
        self.service.startService()
        self.reactor.run()
        stopped = self.service.stopService()
        self.assertEqual(len(self.application.starting), 0)
        self.assertEqual(self.application.calls, ["start", "stop"])
        self.application.stopping.succeed(None)
        self.successResultOf(stopped)
        self.assertEqual(self.statuses, [])
        self.assertEqual(self.logged(LogLevel.critical), [])

    def test_observer_is_on_the_application_in_time(self) -> None:
        """Joining the application hands it the log observer; without logs twistd keeps its own."""
        application = Application("test")
        logs = Logs("text", "info", io.StringIO())
        NoraService(
            self.application, self.reactor, self.notifier, drain_timeout=1, logs=logs
        ).setServiceParent(application)
        self.assertIs(application.getComponent(ILogObserver), logs.observer)
        plain = Application("test")
        self.service.setServiceParent(plain)
        self.assertIsNone(plain.getComponent(ILogObserver))
        self.assertEqual(list(IServiceCollection(plain)), [self.service])

    def _refuse(self) -> Any:
        raise CannotStart("at once")


class StopTests(ServiceCase):
    """The ordered stop."""

    def test_stop_waits_for_the_daemon(self) -> None:
        """STOPPING is told first; the Deferred fires when the daemon has stopped, within the drain's seconds."""
        self.start()
        stopped = self.service.stopService()
        self.assertEqual(self.notifier.told, ["ready", "stopping"])
        self.assertEqual(self.application.deadline, 7)
        self.assertNoResult(stopped)
        self.application.stopping.succeed(None)
        self.assertIsNone(self.successResultOf(stopped))

    def test_failing_stop_is_logged_and_ends(self) -> None:
        """A defect in the daemon's stop does not keep the process."""
        self.start()
        stopped = self.service.stopService()
        self.application.stopping.fail(ZeroDivisionError("a defect"))
        self.successResultOf(stopped)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_hanging_stop_is_given_up(self) -> None:
        """A daemon that does not stop is left behind ten seconds after the drain."""
        self.start()
        stopped = self.service.stopService()
        self.reactor.advance(16.9)
        self.assertNoResult(stopped)
        self.reactor.advance(0.2)
        self.successResultOf(stopped)
        self.assertEqual(len(self.flushLoggedErrors()), 1)


class SignalTests(ServiceCase):
    """Real signals to this very process."""

    def test_hangup_reloads(self) -> None:
        """SIGHUP reloads, between RELOADING and READY."""
        self.start()
        self.send(signal.SIGHUP)
        self.assertEqual(self.application.calls, ["start", "reload"])
        self.assertEqual(self.notifier.told, ["ready", "reloading", "ready"])

    def test_refused_configuration_is_logged_line_by_line(self) -> None:
        """A refused configuration is told and the daemon goes on."""
        self.start()
        self.application.reload_error = CannotReload("docker.a: wrong", "docker.b: wrong too")
        self.send(signal.SIGHUP)
        errors = self.logged(LogLevel.error)
        self.assertEqual(len(errors), 2)
        self.assertIn("docker.a: wrong", errors[0])
        self.assertIn("docker.b: wrong too", errors[1])
        self.assertEqual(self.notifier.told[-1], "ready")

    def test_defect_in_reload_does_not_kill(self) -> None:
        """Any exception of a reload ends in the log."""
        self.start()
        self.application.reload_error = ZeroDivisionError("a defect")
        self.send(signal.SIGHUP)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.notifier.told[-1], "ready")

    def test_hangup_before_ready_is_harmless(self) -> None:
        """SIGHUP while starting neither kills nor reloads, nor tells READY too early."""
        self.service.startService()
        self.send(signal.SIGHUP)
        self.assertEqual(self.application.calls, ["start"])
        self.assertEqual(self.notifier.told, [])

    def test_user_signal_reopens_every_log(self) -> None:
        """SIGUSR1 reopens the daemon's logs, and one that fails does not kill."""
        self.start()
        self.send(signal.SIGUSR1)
        self.application.reopen_error = OSError("no such directory")
        self.send(signal.SIGUSR1)
        self.assertEqual(self.application.calls, ["start", "reopen", "reopen"])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_nothing_happens_inside_the_signal(self) -> None:
        """The signal only leaves a call for the reactor."""
        self.start()
        os.kill(os.getpid(), signal.SIGHUP)
        self.assertEqual(self.application.calls, ["start"])
        self.reactor.turn()
        self.assertEqual(self.application.calls, ["start", "reload"])

    def test_terminate_stops_the_reactor_once(self) -> None:
        """SIGTERM stops the reactor; as it comes before the shutdown, again, it is no error."""
        self.start()
        self.send(signal.SIGTERM)
        self.assertTrue(self.reactor.stopped)
        self.send(signal.SIGINT)
        self.assertEqual(self.reactor.stops, 2)
        self.assertNotIn("hurry", self.application.calls)

    def test_second_signal_cuts_the_drain_short(self) -> None:
        """A signal while draining hurries the daemon, and one more would kill the process."""
        self.start()
        self.send(signal.SIGTERM)
        stopped = self.service.stopService()
        self.assertNoResult(stopped)
        self.send(signal.SIGTERM)
        self.assertEqual(self.application.calls, ["start", "stop", "hurry"])
        self.successResultOf(stopped)
        self.assertIs(signal.getsignal(signal.SIGTERM), signal.SIG_DFL)
        self.assertIs(signal.getsignal(signal.SIGINT), signal.SIG_DFL)

    def test_requests_are_given_back(self) -> None:
        """After the stop SIGHUP and SIGUSR1 are what they were before the start."""
        before = [signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGUSR1)]
        self.start()
        self.application.stop = lambda deadline: succeed(None)  # type: ignore[method-assign]
        self.successResultOf(self.service.stopService())
        self.assertEqual([signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGUSR1)], before)


class WatchdogTests(ServiceCase):
    """The watchdog is told as long as the daemon is well."""

    watchdog_interval = 15.0

    def test_told_at_its_interval(self) -> None:
        """It is told at READY and each interval after it."""
        self.start()
        self.reactor.advance(15)
        self.reactor.advance(15)
        self.assertEqual(self.notifier.told, ["ready", "watchdog", "watchdog", "watchdog"])

    def test_silent_while_unhealthy(self) -> None:
        """An unhealthy daemon is not told to live, one whose health cannot be told neither, until it recovers."""
        self.start()
        del self.notifier.told[:]
        self.application.health = False
        self.reactor.advance(15)
        self.application.health = ZeroDivisionError("a defect")
        self.reactor.advance(15)
        self.assertEqual(self.notifier.told, [])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.application.health = True
        self.reactor.advance(15)
        self.assertEqual(self.notifier.told, ["watchdog"])

    def test_told_while_draining_and_not_after(self) -> None:
        """A drain longer than the watchdog's time is no hang; nothing is left running after it."""
        self.start()
        stopped = self.service.stopService()
        del self.notifier.told[:]
        self.application.health = False
        self.reactor.advance(15)
        self.assertEqual(self.notifier.told, ["watchdog"])
        self.application.stopping.succeed(None)
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class ExitTests(SynchronousTestCase):
    """The exit status."""

    def test_left_to_the_end_of_the_process(self) -> None:
        """`exit_with` registers what sets the status, and does not exit itself."""
        registered: list[tuple[Any, ...]] = []
        self.patch(atexit, "register", lambda *call: registered.append(call))
        exit_with(1)
        ((function, status),) = registered
        exits: list[int] = []
        self.patch(os, "_exit", exits.append)
        function(status)
        self.assertEqual(exits, [1])


class LongReloadTests(ServiceCase):
    """A reload that takes its time, because workers have to be asked."""

    def setUp(self) -> None:
        """Start, with a daemon whose reloads end when the test says so."""
        super().setUp()
        self.reloads: list[Deferred[None]] = []
        self.application.reload = self.reload  # type: ignore[assignment, method-assign]
        self.start()

    def reload(self) -> Deferred[None]:
        """Begin one."""
        self.reloads.append(Deferred())
        return self.reloads[-1]

    def test_ready_when_it_has_ended(self) -> None:
        """systemd hears READY when every worker has taken it over."""
        self.send(signal.SIGHUP)
        self.assertEqual(self.notifier.told, ["ready", "reloading"])
        self.reloads[0].callback(None)
        self.assertEqual(self.notifier.told, ["ready", "reloading", "ready"])

    def test_one_at_a_time(self) -> None:
        """A signal that comes meanwhile is one more reload afterwards, however many came."""
        for _ in range(3):
            self.send(signal.SIGHUP)
        self.assertEqual(len(self.reloads), 1)
        self.reloads[0].errback(CannotReload("no"))
        self.assertEqual(len(self.reloads), 2)
        self.reloads[1].callback(None)
        self.assertEqual(len(self.reloads), 2)
        self.assertEqual(self.logged(LogLevel.error), ["the new configuration is refused: no"])

    def test_stop_meanwhile(self) -> None:
        """A stop in the middle is told to systemd, and what the reload comes to is not."""
        self.send(signal.SIGHUP)
        self.service.stopService()
        self.reloads[0].callback(None)
        self.assertEqual(self.notifier.told, ["ready", "reloading", "stopping"])


class LedTests(SynchronousTestCase):
    """A worker's service, which has a parent."""

    def test_signals(self) -> None:
        """Of signals SIGTERM alone is its own: the others are the parent's, who says what is to be done."""
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        for number, function in before.items():
            self.addCleanup(signal.signal, number, function)
        reactor = HandReactor()
        service = NoraService(
            FakeApplication(),
            reactor,
            RecordingNotifier(None),
            drain_timeout=7,
            exit_with=lambda _: None,
            led=True,
        )
        service.startService()
        reactor.run()
        changed = {number for number in _SIGNALS if signal.getsignal(number) != before[number]}
        self.assertEqual(changed, {signal.SIGTERM})

    def test_status_of_a_failure(self) -> None:
        """A failure that brings a status of its own ends the process with it."""
        application, reactor, statuses = FakeApplication(), HandReactor(), list[int]()
        for number in _SIGNALS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        service = NoraService(
            application, reactor, RecordingNotifier(None), drain_timeout=7, exit_with=statuses.append
        )
        service.startService()
        reactor.run()
        error = CannotStart("a worker says so")
        error.status = 78
        application.starting.fail(error)
        self.assertEqual(statuses, [78])
