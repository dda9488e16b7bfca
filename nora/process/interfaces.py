"""The seam between the process and the daemon in it: what is driven, and how it says that it cannot start."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred


class CannotStart(Exception):
    """The daemon cannot start, for a reason that an administrator can act on. The message is one line for them."""

    status = 1
    """The exit status of the process."""


class CannotReload(Exception):
    """The new configuration is refused, and the old one stays. `lines` tells each mistake."""

    def __init__(self, *lines: str) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


class Application(Protocol):
    """The daemon, as its process drives it. `nora.daemon` builds it; every call comes in the reactor's thread."""

    def start(self) -> Deferred[None]:
        """Take the store, open everything, listen. Fires when connections are accepted, and not before.

        Fails with `CannotStart`, `OSError` or Twisted's `CannotListenError` for what an administrator can put
        right; anything else is a defect, and is logged with its traceback. Cancelling it gives the start up.
        """

    def stop(self, deadline: float) -> Deferred[None]:
        """Stop listening, let what is in flight end for `deadline` seconds, abort the rest, close everything.

        Fires when nothing is left. It is called once, at any moment: also after a start that failed or was
        cancelled half way, and must then undo what had been done.
        """

    def hurry(self) -> None:
        """End the waiting of a running `stop` now: what is still in flight is aborted."""

    def reload(self) -> Deferred[None] | None:
        """Read the configuration again and take over what can change in a running daemon.

        Raises, or fails with, `CannotReload` when it is refused; then nothing has changed. It is not called again
        before it has ended.
        """

    def reopen_logs(self) -> None:
        """Close the log files and open them again under their names: they were renamed. Raises `OSError`."""

    def healthy(self) -> bool:
        """Tell whether the daemon still does its work. False for long makes a supervisor restart it."""


class Notifier(Protocol):
    """Who is told about the daemon's life: systemd, or nobody. No method ever raises."""

    watchdog_interval: float | None
    """Seconds between two calls of `watchdog`; None when nobody watches."""

    def ready(self) -> None:
        """Tell that the daemon listens, for the first time or after a reload."""

    def reloading(self) -> None:
        """Tell that the configuration is being read again."""

    def stopping(self) -> None:
        """Tell that the daemon drains and ends."""

    def watchdog(self) -> None:
        """Tell that the daemon lives."""

    def status(self, text: str) -> None:
        """Tell one line for a person."""
