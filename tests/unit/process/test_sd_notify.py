"""What systemd is told, over real sockets."""

from __future__ import annotations

import os
import socket
import tempfile
import time
import uuid
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from nora.process.sd_notify import SilentNotifier, SystemdNotifier, from_environment


class NotifyTests(SynchronousTestCase):
    """A listener stands for systemd."""

    def listener(self, address: str) -> socket.socket:
        """Listen as systemd would."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(listening.close)
        listening.bind("\0" + address[1:] if address.startswith("@") else address)
        listening.settimeout(5)
        return listening

    def path(self) -> str:
        """Give a short path for a socket."""
        directory = tempfile.TemporaryDirectory(prefix="nora-")
        self.addCleanup(directory.cleanup)
        return str(Path(directory.name) / "notify")

    def test_each_word(self) -> None:
        """Every method sends its own datagram, to a path."""
        path = self.path()
        listening = self.listener(path)
        notifier = from_environment({"NOTIFY_SOCKET": path})
        notifier.ready()
        self.assertEqual(listening.recv(1024), b"READY=1")
        notifier.stopping()
        self.assertEqual(listening.recv(1024), b"STOPPING=1")
        notifier.watchdog()
        self.assertEqual(listening.recv(1024), b"WATCHDOG=1")
        notifier.status("two\nlines  " + "x" * 300)
        self.assertEqual(listening.recv(1024), b"STATUS=two lines " + b"x" * 190)

    def test_reloading_has_the_clock(self) -> None:
        """RELOADING comes with the monotonic clock in microseconds."""
        path = self.path()
        listening = self.listener(path)
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        SystemdNotifier(path).reloading()
        first, second = listening.recv(1024).decode().split("\n")
        self.assertEqual(first, "RELOADING=1")
        name, _, value = second.partition("=")
        self.assertEqual(name, "MONOTONIC_USEC")
        self.assertTrue(before <= int(value) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)

    def test_abstract_name(self) -> None:
        """An address that begins with @ is an abstract one."""
        address = f"@nora-{uuid.uuid4()}"
        listening = self.listener(address)
        from_environment({"NOTIFY_SOCKET": address}).ready()
        self.assertEqual(listening.recv(1024), b"READY=1")

    def test_failure_is_told_once(self) -> None:
        """Nobody there, or a name that is too long: one warning, and no exception."""
        for address in (self.path(), "/" + "x" * 200, "/with\0nul"):
            notifier = SystemdNotifier(address)
            with capturedLogs() as events:
                notifier.ready()
                notifier.watchdog()
            self.assertEqual([event["log_level"] for event in events], [LogLevel.warn], address)

    def test_full_queue_does_not_block(self) -> None:
        """A systemd that does not read does not stop the daemon."""
        path = self.path()
        self.listener(path)
        notifier = SystemdNotifier(path)
        with capturedLogs() as events:
            for _ in range(2000):
                notifier.watchdog()
        self.assertEqual(len(events), 1)

    def test_nobody_there(self) -> None:
        """Without NOTIFY_SOCKET, or with one that is no address, nobody is told anything."""
        for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "@"}, {"NOTIFY_SOCKET": "relative"}):
            notifier = from_environment(environ)
            self.assertIsInstance(notifier, SilentNotifier)
            self.assertIsNone(notifier.watchdog_interval)
            for tell in (notifier.ready, notifier.reloading, notifier.stopping, notifier.watchdog):
                tell()
            notifier.status("unheard")


class WatchdogTests(SynchronousTestCase):
    """Which interval the environment asks for."""

    def interval(self, **environ: str) -> float | None:
        """Read it."""
        return from_environment({"NOTIFY_SOCKET": "/run/notify", **environ}).watchdog_interval

    def test_half_of_its_time(self) -> None:
        """The watchdog is told twice in its time."""
        self.assertEqual(self.interval(WATCHDOG_USEC="30000000"), 15)
        self.assertEqual(self.interval(WATCHDOG_USEC="30000000", WATCHDOG_PID=str(os.getpid())), 15)

    def test_not_for_this_process(self) -> None:
        """A watchdog that is off, garbled, or another process's asks for nothing."""
        self.assertIsNone(self.interval())
        self.assertIsNone(self.interval(WATCHDOG_USEC="0"))
        self.assertIsNone(self.interval(WATCHDOG_USEC="-5"))
        self.assertIsNone(self.interval(WATCHDOG_USEC="9" * 40))
        self.assertIsNone(self.interval(WATCHDOG_USEC="30000000", WATCHDOG_PID="1"))

    @given(st.text(max_size=30), st.text(max_size=10))
    def test_any_text(self, microseconds: str, process: str) -> None:
        """Whatever the variables hold, the answer is None or a positive number."""
        found = self.interval(WATCHDOG_USEC=microseconds, WATCHDOG_PID=process)
        self.assertTrue(found is None or found > 0)
