"""The root service: it starts the daemon, tells systemd, answers signals, and stops the daemon in order.

What it promises: READY is told only when connections are accepted. A start that fails says so in one line
and the process exits with status 1. The first SIGTERM or SIGINT drains and the process then exits with
status 0; a second one cuts the drain short, and a third kills. SIGHUP and SIGUSR1 never kill.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from nora import __version__
from nora.process.interfaces import Application, CannotReload, CannotStart, Notifier
from nora.process.logs import Logs
from nora.process.signals import Signals

GRACE = 10.0
"""Seconds past the drain in which the daemon must have closed everything."""


class ProcessReactor(Protocol):
    """What is used of a reactor here."""

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kw: object
    ) -> IDelayedCall:
        """Call later."""

    def callWhenRunning(self, callable: Callable[..., Any], *args: object, **kw: object) -> object:
        """Call when the reactor runs, at once when it does."""

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kw: object) -> None:
        """Call in the reactor's thread; safe in a signal function."""

    def stop(self) -> None:
        """Begin the shutdown."""


def exit_with(status: int) -> None:
    """Let the process exit with `status` once twistd has cleaned up.

    twistd gives no way to say it: it returns from its main function, and the interpreter exits with 0.
    """
    atexit.register(_leave, status)


def _leave(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class NoraService(Service):
    """One daemon in one process. `drain_timeout` is in seconds.

    One that is `led` hears from its parent what it is to do: of signals, SIGTERM alone counts.
    """

    name = "nora"
    _log = Logger()

    def __init__(
        self,
        application: Application,
        reactor: ProcessReactor,
        notifier: Notifier,
        *,
        drain_timeout: float,
        logs: Logs | None = None,
        exit_with: Callable[[int], None] = exit_with,
        led: bool = False,
    ) -> None:
        self._application = application
        self._reactor = reactor
        self._notifier = notifier
        self._drain_timeout = drain_timeout
        self._logs = logs
        self._exit_with = exit_with
        requests = {signal.SIGHUP: self.reload, signal.SIGUSR1: self.reopen_logs}
        ends = (signal.SIGTERM,) if led else (signal.SIGTERM, signal.SIGINT)
        self._requests = Signals(reactor, {} if led else requests)
        self._ends = Signals(reactor, dict.fromkeys(ends, self._end))
        self._starting: Deferred[None] | None = None
        self._reloading = False
        self._reload_again = False
        self._serving = False
        self._stopping = False
        self._watchdog: LoopingCall | None = None

    def setServiceParent(self, parent: Any) -> None:
        """Join the application, and hand it the log observer before twistd would choose its own."""
        if self._logs is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._logs.observer)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """Start the daemon; how it went is told when it is known."""
        super().startService()  # type: ignore[no-untyped-call]
        self._requests.install()
        # The reactor installs its own when it starts to run. Those would end the process by the signal, not by
        # a status, and would make of a second signal an error in the log.
        self._reactor.callWhenRunning(self._ends.install)
        self._notifier.status("starting")
        starting: Deferred[None] = maybeDeferred(self._application.start)
        self._starting = starting
        starting.addCallback(self._started)
        starting.addErrback(self._failed)

    def stopService(self) -> Deferred[None]:
        """Drain and close. The Deferred fires when nothing is left, and never fails."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._stopping = True
        self._notifier.stopping()
        self._notifier.status("stopping")
        if self._serving:
            self._log.info("stopping; what is in flight has {seconds} s", seconds=self._drain_timeout)
        self._serving = False
        if self._starting is not None:
            self._starting.cancel()
        stopped: Deferred[None] = maybeDeferred(self._application.stop, self._drain_timeout)
        stopped.addTimeout(self._drain_timeout + GRACE, self._reactor)  # type: ignore[arg-type]
        stopped.addCallbacks(self._stopped, self._stop_failed)
        return stopped.addBoth(self._ended)

    def reload(self) -> None:
        """Let the daemon read its configuration again; what goes wrong is logged, and the old one stays."""
        if not self._serving:
            self._log.info("the configuration is not read again: the daemon is starting or stopping")
            return
        if self._reloading:
            self._reload_again = True
            return
        self._reloading = True
        self._notifier.reloading()
        reloading: Deferred[None] = maybeDeferred(self._application.reload)  # type: ignore[call-overload]
        reloading.addCallbacks(self._reloaded, self._reload_failed)
        reloading.addBoth(self._reload_ended)

    def _reloaded(self, _: None) -> None:
        self._log.info("the configuration was read again")

    def _reload_failed(self, failure: Failure) -> None:
        if isinstance(failure.value, CannotReload):
            for line in failure.value.lines:
                self._log.error("the new configuration is refused: {line}", line=line)
        else:
            self._log.failure("the configuration could not be read again", failure)

    def _reload_ended(self, _: None) -> None:
        self._reloading = False
        if not self._serving:
            return
        self._notifier.ready()
        if self._reload_again:
            self._reload_again = False
            self.reload()

    def reopen_logs(self) -> None:
        """Reopen every log file; what goes wrong is logged."""
        for reopen in (self._application.reopen_logs, *([self._logs.reopen] if self._logs else [])):
            try:
                reopen()
            except Exception:
                self._log.failure("a log could not be opened again")
        self._log.info("the logs were opened again")

    def _started(self, _: None) -> None:
        self._starting = None
        self._serving = True
        self._notifier.ready()
        self._notifier.status(f"serving, version {__version__}")
        self._log.info("NORA {version} is ready", version=__version__)
        if self._notifier.watchdog_interval is not None:
            self._watchdog = LoopingCall(self._tick)
            self._watchdog.clock = self._reactor  # type: ignore[assignment]
            self._watchdog.start(self._notifier.watchdog_interval)

    def _failed(self, failure: Failure) -> None:
        self._starting = None
        if self._stopping:
            return
        if failure.check(CannotStart, CannotListenError, OSError):
            self._log.critical("NORA cannot start: {reason}", reason=str(failure.value))
        else:
            self._log.failure("NORA cannot start", failure)
        self._notifier.status(f"cannot start: {failure.value}")
        self._exit_with(getattr(failure.value, "status", 1))
        self._reactor.callWhenRunning(self._stop_reactor)

    def _tick(self) -> None:
        try:
            alive = self._stopping or self._application.healthy()
        except Exception:
            self._log.failure("the daemon's health cannot be told")
            return
        if alive:
            self._notifier.watchdog()
        else:
            self._log.error("the daemon is not healthy: the watchdog is not told that it lives")

    def _end(self) -> None:
        if not self._stopping:
            self._stop_reactor()
            return
        self._log.warn("a second signal: what is in flight is cut off")
        self._ends.restore()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        self._application.hurry()

    def _stop_reactor(self) -> None:
        with contextlib.suppress(ReactorNotRunning):  # it is stopping already
            self._reactor.stop()

    def _stopped(self, _: None) -> None:
        self._log.info("stopped")

    def _stop_failed(self, failure: Failure) -> None:
        self._log.failure("the daemon did not stop in order", failure)

    def _ended(self, _: object) -> None:
        if self._watchdog is not None and self._watchdog.running:
            self._watchdog.stop()
        self._requests.restore()
