"""The composition root: its start, and its stop at any moment."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import CancelledError
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from nora.config import (
    AuditConfig,
    UpstreamConfig,
)
from nora.daemon import Daemon, build
from nora.process import CannotStart, Sockets
from tests.support.daemon import Nora
from tests.support.daemon_case import (
    DaemonCase,
    eventually,
    handles_term,
    hold_index,
    index_is_opened,
    reactor,
)
from tests.support.storage_fakes import temporary_folder


class StartTests(DaemonCase):
    """A start that does not come to its end is undone by `stop`."""

    async def cancelled(self, daemon: Daemon, held: Callable[[], object], release: Callable[[], Any]) -> None:
        """Cancel the start of `daemon` where it is `held`, stop it, and check that nothing is left."""
        starting = daemon.start()
        failed = self.assertFailure(starting, CancelledError)
        await eventually(held, "the start to be held up")
        self.assertFalse(starting.called)
        starting.cancel()
        await failed
        reactor.callLater(0.05, release)
        await daemon.stop(0.1)
        await self.check_gone()

    async def test_cancelled_waiting_for_the_store(self) -> None:
        """Another daemon has the store: the waiting is given up, and that daemon goes on."""
        first = await self.running()
        second = self.daemon(
            attrs.evolve(self.config, server=attrs.evolve(self.config.server, drain_timeout=20))
        )
        starting = second.start()
        failed = self.assertFailure(starting, CancelledError)
        await deferLater(reactor, 0)
        starting.cancel()
        await failed
        await second.stop(0.1)
        self.assertEqual((await self.get("/ready")).status, 200)
        await first.stop(0.1)
        await self.check_gone()

    async def test_cancelled_clearing(self) -> None:
        """The disk hangs in the first work it is given: the work is waited for, then all is closed."""
        daemon = self.daemon()
        entered, go_on = threading.Event(), threading.Event()

        def clear() -> None:
            entered.set()
            go_on.wait(20)

        self.addCleanup(go_on.set)
        self.patch(daemon._store.layout, "clear_temporaries", clear)
        await self.cancelled(daemon, entered.is_set, go_on.set)

    async def test_cancelled_opening_the_index(self) -> None:
        """Another process has the index: the start waits for it, and can be given up."""
        self.store.mkdir()
        holder = hold_index(self.store)
        self.addCleanup(holder.close)
        daemon = self.daemon()
        await self.cancelled(daemon, lambda: index_is_opened(self.store), holder.close)

    async def test_port_in_use(self) -> None:
        """The last step fails: one line says why, and `stop` undoes all the others."""
        taken = reactor.listenTCP(self.config.server.port, Factory(), interface="127.0.0.1")
        daemon = self.daemon()
        error = await self.refused(daemon, CannotStart)
        self.assertIn(str(self.config.server.port), str(error))
        await daemon.stop(0.1)
        await taken.stopListening()
        await self.check_gone()

    async def test_audit_path(self) -> None:
        """An audit log that cannot be opened is said with its path and the reason."""
        path = str(self.store / "missing" / "audit.jsonl")
        daemon = self.daemon(attrs.evolve(self.config, audit=AuditConfig(path=path)))
        error = await self.refused(daemon, CannotStart)
        self.assertEqual(str(error), f"audit.path: {path}: No such file or directory")
        await daemon.stop(0.1)
        await self.check_gone()

    async def test_audit_pipe(self) -> None:
        """A pipe that nobody reads is no audit log, and does not hold up the start."""
        pipe = str(self.store.parent / "pipe")
        os.mkfifo(pipe)
        # A start that is held up would hold up this thread, and with it the time that ends the test.
        unblock = threading.Timer(5, lambda: os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)))
        unblock.start()
        began = time.monotonic()
        daemon = self.daemon(attrs.evolve(self.config, audit=AuditConfig(path=pipe)))
        try:
            error = await self.refused(daemon, CannotStart)
        finally:
            unblock.cancel()
            await daemon.stop(0.1)
        self.assertLess(time.monotonic() - began, 4)
        self.assertIn(f"audit.path: {pipe}: ", str(error))

    async def test_store_is_a_file(self) -> None:
        """A store that is none fails the start with a reason for an administrator, and `stop` has nothing to do."""
        self.store.write_text("no directory")
        daemon = self.daemon()
        error = await self.refused(daemon, OSError)
        self.assertIn(str(self.store), str(error))
        await daemon.stop(0.1)

    async def test_stopped_at_once(self) -> None:
        """A stop right after the start ends the chores in order, and nothing of them is logged as a failure."""
        daemon = await self.running()
        await daemon.stop(0.1)
        self.assertEqual(self.flushLoggedErrors(), [])
        await self.check_gone()

    async def test_stopped_in_a_chore(self) -> None:
        """A chore that is at work when the stop comes has the store until it ends."""
        daemon = self.daemon()
        begun, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)
        swept: list[int] = []

        async def sweep(age: float) -> int:
            await daemon._store.disk.run(begun.set)
            await daemon._store.disk.run(go_on.wait, 20)
            swept.append(await daemon._store.disk.run(int))
            return 0

        self.patch(daemon._store.parts, "sweep", sweep)
        await daemon.start()
        await eventually(begun.is_set, "the chore to be at work")
        reactor.callLater(0.05, go_on.set)
        await daemon.stop(0.1)
        self.assertEqual((swept, self.flushLoggedErrors()), ([0], []))
        await self.check_gone()

    async def test_never_started(self) -> None:
        """A daemon that was not started can be stopped."""
        await self.daemon().stop(0.1)
        await self.check_gone()

    async def test_temporaries_are_cleared(self) -> None:
        """What a dead daemon left half-written is gone, and what is no such file stays."""
        temporary = self.store / "tmp"
        (temporary / "folder").mkdir(parents=True)
        (temporary / "0123").write_text("half")
        daemon = await self.running()
        self.assertEqual([path.name for path in temporary.iterdir()], ["folder"])
        await daemon.stop(0.1)

    async def test_old_uploads_are_ended(self) -> None:
        """The hourly chore ends uploads that nobody went on with, and tells how many are left."""
        for id, age in (("a" * 32, 0.0), ("b" * 32, 4000.0)):
            folder = self.store / "uploads" / id
            folder.mkdir(parents=True)
            (folder / "data").write_bytes(b"x")
            os.utime(folder / "data", (time.time() - age, time.time() - age))
        daemon = await self.running()
        await daemon._sweep()
        uploads = self.store / "uploads"
        # The chore that the start began may have it under its lock just now.
        await eventually(lambda: [path.name for path in uploads.iterdir()] == ["a" * 32], "its end")
        await daemon._store.count()
        self.assertIn(b"nora_uploads 1.0", (await self.get("/metrics")).body)
        await daemon.stop(0.1)

    async def test_unreadable_authority(self) -> None:
        """An upstream's `ca_file` that cannot be read fails the building, with its path and the reason."""
        upstream = UpstreamConfig("https://registry.example", ca_file=str(self.store / "no.pem"))
        config = attrs.evolve(self.config, docker=attrs.evolve(self.config.docker, upstreams=(upstream,)))
        with self.assertRaises(CannotStart) as raised:
            self.daemon(config)
        self.assertIn(f"{self.store}/no.pem: No such file or directory", str(raised.exception))

    async def test_unusable_proxy(self) -> None:
        """A proxy of the environment that is no HTTP proxy fails the building, with its variable."""
        upstreams = (UpstreamConfig("https://registry.example"),)
        config = attrs.evolve(self.config, docker=attrs.evolve(self.config.docker, upstreams=upstreams))
        environ = {"HTTPS_PROXY": "socks5://p:1"}
        with self.assertRaises(CannotStart) as raised:
            build(config, reactor, Sockets(reactor), lambda: config, environ)
        self.assertIn("HTTPS_PROXY: must be http://", str(raised.exception))


ENDED = (0, -signal.SIGTERM)
"""How a process ends in order. In its first moments the signal function is still Twisted's own, which lets the process
shut down as ours does and then end by the signal."""


class SignalTests(SynchronousTestCase):
    """The process can be ended while its start is held up."""

    def test_term_while_the_index_is_held(self) -> None:
        """SIGTERM while another process has the index: the process ends by itself, in order."""
        directory = Path(temporary_folder(self))
        nora = Nora(directory, [], {"server": {"drain_timeout": 1}})
        nora.store.mkdir()
        holder = hold_index(nora.store)
        self.addCleanup(holder.close)
        process = nora.launch()
        self.addCleanup(process.kill)
        process.wait_until(lambda: index_is_opened(nora.store), "the opening of the index")
        process.wait_until(lambda: handles_term(process.pid), "the signal functions")
        self.assertNotIn("is ready", nora.log)
        nora.signal(signal.SIGTERM)
        self.assertIn(process.wait(12), ENDED, nora.log)
        self.assertIn("Server Shut Down", nora.log)
        self.assertNotIn("Traceback", nora.log)

    def test_term_while_another_has_the_store(self) -> None:
        """SIGTERM while it waits for another daemon to leave the store: it ends at once."""
        directory = Path(temporary_folder(self))
        nora = Nora(directory, [], {"server": {"drain_timeout": 30}})
        nora.store.mkdir()
        with (nora.store / "daemon.lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            fcntl.lockf(held, fcntl.LOCK_EX)
            process = nora.launch()
            self.addCleanup(process.kill)
            process.wait_until(lambda: "waiting up to" in nora.log, "the waiting")
            process.wait_until(lambda: handles_term(process.pid), "the signal functions")
            nora.signal(signal.SIGTERM)
            self.assertIn(process.wait(5), ENDED, nora.log)
        self.assertIn("Server Shut Down", nora.log)
        self.assertNotIn("Traceback", nora.log)
