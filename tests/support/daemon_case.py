"""Daemons in this process, and what holds one up, for tests of how they start, stop and reload."""

from __future__ import annotations

import fcntl
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from nora.config import (
    Config,
    DockerConfig,
    ServerConfig,
    StorageConfig,
)
from nora.daemon import Daemon, build
from nora.process import Sockets
from tests.support.http_client import Reply, connect
from tests.support.programs import free_port
from tests.support.storage_fakes import temporary_folder

reactor: Any = installed


def coroutine(work: Any) -> Deferred[Any]:
    """Start a coroutine."""
    return Deferred.fromCoroutine(work)


async def eventually(look: Callable[[], object], what: str) -> None:
    """Look again and again, for ten seconds at the most."""
    until = time.monotonic() + 10
    while not look():
        assert time.monotonic() < until, f"waited for {what}"
        await deferLater(reactor, 0.01)


class DaemonCase(TestCase):
    """Daemons on one store, in this process."""

    timeout = 30

    def setUp(self) -> None:
        """Have an empty store, and no threads or descriptors left at the end."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limit)
        self.store = Path(temporary_folder(self)) / "store"
        self.config = Config(
            server=ServerConfig(port=free_port(), drain_timeout=0.5),
            storage=StorageConfig(path=str(self.store)),
            docker=DockerConfig(upstreams=(), metadata_ttl=0),
        )

    def daemon(self, config: Config | None = None) -> Daemon:
        """Build one; its configuration is read again from `self.config`."""
        daemon = build(config or self.config, reactor, Sockets(reactor), lambda: self.config)
        # A test that fails half way must not leave threads that keep the whole run from ending.
        self.addCleanup(daemon.stop, 0.1)
        return daemon

    async def running(self, config: Config | None = None) -> Daemon:
        """Start one."""
        daemon = self.daemon(config)
        await daemon.start()
        return daemon

    async def refused(self, daemon: Daemon, kind: type[Exception]) -> Exception:
        """Give the error that the start of `daemon` fails with."""
        try:
            await daemon.start()
        except kind as error:
            return error
        raise AssertionError("it started")

    async def get(self, path: str) -> Reply:
        """Ask the daemon."""
        client = await connect(reactor, self.config.server.port)
        try:
            return await client.ask("GET", path)
        finally:
            client.transport.abortConnection()
            await client.closed()

    async def check_gone(self) -> None:
        """Fail unless nothing of a daemon is left: another one starts and stops, and no thread is there."""
        other = await self.running()
        self.assertEqual((await self.get("/ready")).status, 200)
        await other.stop(0.1)
        named = [each.name for each in threading.enumerate() if each.name.startswith(("disk", "index"))]
        self.assertEqual(named, [])


def hold_index(store: Path) -> sqlite3.Connection:
    """Make an index that nobody else can open until this connection is closed."""
    connection = sqlite3.connect(store / "index.sqlite", isolation_level=None, check_same_thread=False)
    connection.execute("CREATE TABLE other (id INTEGER)")
    connection.execute("BEGIN EXCLUSIVE")
    return connection


def index_is_opened(store: Path) -> bool:
    """Tell whether a daemon is about to open the index: it then has the lock beside it."""
    path = store / "index.sqlite.lock"
    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def handles_term(pid: int) -> bool:
    """Tell whether a process has a function for SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
