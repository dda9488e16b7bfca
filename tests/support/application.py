"""A fake daemon, a fake listener of its life, and a reactor by hand: for the tests of `nora.process`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import Clock

from nora.concurrency import Waiters


class HandReactor(Clock):
    """A clock that also knows what a process wants of a reactor; the test says when it runs and turns."""

    def __init__(self) -> None:
        super().__init__()
        self.running = False
        self.stopped = False
        self.stops = 0
        self._later: list[Callable[[], Any]] = []
        self._from_threads: list[Callable[[], Any]] = []

    def run(self) -> None:
        """Begin to run."""
        self.running = True
        later, self._later = self._later, []
        for call in later:
            call()

    def turn(self) -> int:
        """Make the calls that came from other threads and signals; gives how many they were."""
        calls, self._from_threads = self._from_threads, []
        for call in calls:
            call()
        return len(calls)

    def callWhenRunning(self, callable: Callable[..., Any], *args: object, **kw: object) -> None:
        """Call at once when running, else when it begins."""
        if self.running:
            callable(*args, **kw)
        else:
            self._later.append(lambda: callable(*args, **kw))

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kw: object) -> None:
        """Keep the call for the next turn."""
        self._from_threads.append(lambda: callable(*args, **kw))

    def stop(self) -> None:
        """Remember it; a second time is an error, as in the real one."""
        self.stops += 1
        if self.stopped:
            raise ReactorNotRunning("stopped already")
        self.stopped = True


class FakeApplication:
    """An `Application` whose start and stop end when the test says so."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.deadline: float | None = None
        self.health: bool | Exception = True
        self.reload_error: Exception | None = None
        self.reopen_error: Exception | None = None
        self.starting: Waiters[None] = Waiters()
        self.stopping: Waiters[None] = Waiters()

    def start(self) -> Deferred[None]:
        """Wait for `starting`."""
        self.calls.append("start")
        return self.starting.wait()

    def stop(self, deadline: float) -> Deferred[None]:
        """Wait for `stopping`."""
        self.calls.append("stop")
        self.deadline = deadline
        return self.stopping.wait()

    def hurry(self) -> None:
        """End the waiting."""
        self.calls.append("hurry")
        self.stopping.succeed(None)

    def reload(self) -> None:
        """Raise what the test wants."""
        self.calls.append("reload")
        if self.reload_error is not None:
            raise self.reload_error

    def reopen_logs(self) -> None:
        """Raise what the test wants."""
        self.calls.append("reopen")
        if self.reopen_error is not None:
            raise self.reopen_error

    def healthy(self) -> bool:
        """Tell what the test wants."""
        if isinstance(self.health, Exception):
            raise self.health
        return self.health


class RecordingNotifier:
    """A `Notifier` that remembers what it was told."""

    def __init__(self, watchdog_interval: float | None = None) -> None:
        self.watchdog_interval = watchdog_interval
        self.told: list[str] = []
        self.statuses: list[str] = []

    def ready(self) -> None:
        """Remember it."""
        self.told.append("ready")

    def reloading(self) -> None:
        """Remember it."""
        self.told.append("reloading")

    def stopping(self) -> None:
        """Remember it."""
        self.told.append("stopping")

    def watchdog(self) -> None:
        """Remember it."""
        self.told.append("watchdog")

    def status(self, text: str) -> None:
        """Remember it."""
        self.statuses.append(text)
