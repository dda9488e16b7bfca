"""A worker's bond with its parent: it tells how it is, and does what the parent says.

Words to the worker: `reload` with the configuration to take over, `reopen` the logs, `stop`,
`hurry`. Words to the parent: `ready`, `beat` each second while it is well, `status` with a line
for a person, `stopping` when it listens no more, and in answer to `reload`, `taken` or `refused` with the reasons.
What workers ask each other goes this way too (`nora.process.neighbours`).
When the parent dies, the worker drains and ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nora.process.interfaces import Application, CannotReload
from nora.process.neighbours import Neighbours
from nora.process.wire import Wire

BEAT = 1.0
"""Seconds between two signs of life."""


class ParentLink:
    """The worker's end; the `Notifier` of its service. `stop` begins the end of the process."""

    _log = Logger()

    def __init__(self, config: Any, stop: Callable[[], None], clock: IReactorTime) -> None:
        self.watchdog_interval: float | None = BEAT
        self.config = config
        """The configuration that the parent gave last."""
        self.wire = Wire(self._heard, self._orphaned)
        self.neighbours = Neighbours(self.wire.say, clock)
        self._stop = stop
        self._application: Application | None = None
        self._reopen: Callable[[], None] = lambda: None
        self._ending = False

    def drive(self, application: Application, reopen: Callable[[], None]) -> None:
        """Do to `application`, from now on, what the parent says; `reopen` opens all logs again."""
        self._application = application
        self._reopen = reopen

    def ready(self) -> None:
        """Tell that this worker listens."""
        self.wire.say("ready")

    def reloading(self) -> None:
        """Do nothing: the parent knows."""

    def stopping(self) -> None:
        """Tell that this worker listens no more; its end the parent sees."""
        self._ending = True
        self.wire.say("stopping")

    def watchdog(self) -> None:
        """Tell that this worker lives."""
        self.wire.say("beat")

    def status(self, text: str) -> None:
        """Tell one line for a person."""
        self.wire.say("status", text)

    def _heard(self, word: str, value: Any) -> None:
        application = self._application
        if application is None:
            raise RuntimeError(f"the parent says {word} to a worker that is not built yet")
        if word == "reload":
            self._take(application, value)
        elif word == "reopen":
            self._reopen()
        elif word == "stop":
            self._end()
        elif word == "hurry":
            application.hurry()
        elif word in {"asked", "tell", "told"}:
            self.neighbours.hear(word, value)

    def _take(self, application: Application, config: Any) -> None:
        before, self.config = self.config, config
        try:
            application.reload()
        except CannotReload as refused:
            self.config = before
            self.wire.say("refused", refused.lines)
        except Exception:
            self.config = before
            self._log.failure("the configuration could not be taken over")
            self.wire.say("refused", ("it could not be taken over; the log has the reason",))
        else:
            self.wire.say("taken")

    def _orphaned(self) -> None:
        if not self._ending:
            self._log.warn("the parent process is gone; this worker ends")
            self._end()

    def _end(self) -> None:
        with contextlib.suppress(ReactorNotRunning):  # it is stopping already
            self._stop()
