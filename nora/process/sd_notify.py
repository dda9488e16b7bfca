"""What systemd is told, by its notification protocol: datagrams of `NAME=value` lines to `NOTIFY_SOCKET`.

Telling must never harm the daemon: whatever goes wrong is logged once and forgotten. Source: sd_notify(3).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from twisted.logger import Logger


class SystemdNotifier:
    """A `Notifier` that speaks to systemd. `address` as in `NOTIFY_SOCKET`: a path, or `@` and an abstract name."""

    _log = Logger()

    def __init__(self, address: str, watchdog_interval: float | None = None) -> None:
        self.watchdog_interval = watchdog_interval
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._complained = False

    def ready(self) -> None:
        """Send READY=1."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Send RELOADING=1 with the monotonic clock, which `Type=notify-reload` compares."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """Send STOPPING=1."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """Send WATCHDOG=1."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Send STATUS=, its text cut to one line of 200 characters."""
        self._send("STATUS=" + " ".join(text.split())[:200])

    def _send(self, message: str) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                # A full queue must not stop the reactor: what does not fit is as good as lost.
                sender.setblocking(False)
                sender.sendto(message.encode(), self._address)
        except (OSError, ValueError) as error:
            if not self._complained:
                self._complained = True
                self._log.warn("systemd cannot be notified: {error}", error=error)


class SilentNotifier:
    """A `Notifier` for a daemon that nobody supervises."""

    watchdog_interval: float | None = None

    def ready(self) -> None:
        """Do nothing."""

    def reloading(self) -> None:
        """Do nothing."""

    def stopping(self) -> None:
        """Do nothing."""

    def watchdog(self) -> None:
        """Do nothing."""

    def status(self, text: str) -> None:
        """Do nothing."""


def from_environment(environ: Mapping[str, str]) -> SystemdNotifier | SilentNotifier:
    """Make the notifier that `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` ask for.

    The watchdog is told at half of its time, as sd_watchdog_enabled(3) advises, and only if it is meant for
    this process.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")) or len(address) < 2:
        return SilentNotifier()
    return SystemdNotifier(address, _watchdog_interval(environ))


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    microseconds = environ.get("WATCHDOG_USEC", "")
    process = environ.get("WATCHDOG_PID", "")
    if not _is_number(microseconds) or int(microseconds) == 0:
        return None
    if process and process != str(os.getpid()):
        return None
    return int(microseconds) / 2e6


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
