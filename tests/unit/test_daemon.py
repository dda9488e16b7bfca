"""The composition root: its start, its stop at any moment, and what a reload exchanges."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor as installed
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from nora.config import (
    AuditConfig,
    Config,
    DockerConfig,
    ServerConfig,
    StorageConfig,
    UpstreamConfig,
    needs_restart,
    taken_over,
)
from nora.daemon import Daemon, build
from nora.process import CannotReload, CannotStart, Sockets
from tests.support.daemon import Nora
from tests.support.fake_upstream import FakeUpstream, make_image
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


class NeedsRestartTests(SynchronousTestCase):
    """What a reload cannot take over is told."""

    def test_nothing_changed(self) -> None:
        """The same configuration needs none."""
        self.assertEqual(needs_restart(Config(), Config()), [])

    def test_what_is_reloaded(self) -> None:
        """Keys that a running daemon takes over need none."""
        old = Config()
        new = attrs.evolve(
            old,
            docker=attrs.evolve(old.docker, metadata_ttl=1, upstreams=(), proxy_timeout=3, hosted=("a/*",)),
            server=attrs.evolve(old.server, public_url="https://here.example"),
        )
        self.assertEqual(needs_restart(old, new), [])

    def test_tls(self) -> None:
        """Another certificate needs none; to begin or end to speak TLS does."""
        plain = Config()
        first, second = [
            attrs.evolve(plain, server=attrs.evolve(plain.server, tls_certificate=name, tls_key=name))
            for name in ("/a", "/b")
        ]
        self.assertEqual(needs_restart(first, second), [])
        self.assertEqual(needs_restart(plain, first), ["server.tls_certificate"])
        self.assertEqual(needs_restart(first, plain), ["server.tls_certificate"])

    def test_what_is_not(self) -> None:
        """Each of the others is named, with its section."""
        old = Config()
        new = attrs.evolve(
            old,
            server=attrs.evolve(old.server, port=1, drain_timeout=7),
            docker=attrs.evolve(old.docker, max_fills=3, metadata_ttl=1),
            audit=attrs.evolve(old.audit, enabled=False),
            log=attrs.evolve(old.log, level="debug"),
        )
        named = {"server.port", "server.drain_timeout", "docker.max_fills", "audit.enabled", "log.level"}
        self.assertEqual(set(needs_restart(old, new)), named)


class TakenOverTests(SynchronousTestCase):
    """What a running daemon has after a reload, and with it every worker that is started later."""

    def test_some_of_it(self) -> None:
        """Keys that a running daemon takes over are the new ones, all others stay; a second reload changes nothing."""
        old = Config(server=ServerConfig(port=1), docker=DockerConfig(metadata_ttl=1, max_fills=1))
        new = Config(
            server=ServerConfig(port=2, public_url="https://here.example"),
            storage=StorageConfig(path="/elsewhere"),
            docker=DockerConfig(metadata_ttl=2, max_fills=2),
        )
        got = taken_over(old, new)
        self.assertEqual((got.server.port, got.docker.max_fills, got.storage), (1, 1, old.storage))
        self.assertEqual(got.audit, old.audit)
        self.assertEqual((got.docker.metadata_ttl, got.server.public_url), (2, "https://here.example"))
        self.assertEqual(needs_restart(old, got), [])
        self.assertEqual(set(needs_restart(got, new)), set(needs_restart(old, new)))
        self.assertEqual(taken_over(got, old), old)


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
        await daemon._store.count()
        self.assertEqual([path.name for path in (self.store / "uploads").iterdir()], ["a" * 32])
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


class ReloadTests(DaemonCase):
    """A reload exchanges what changed, and keeps the rest."""

    async def upstream(self, tag: str) -> FakeUpstream:
        """Start an upstream that wants tokens and has one image."""
        upstream = FakeUpstream(reactor, auth=True)
        upstream.add_image("team/app", tag, make_image([tag.encode()]))
        await upstream.start()
        self.addCleanup(lambda: coroutine(upstream.stop()))
        return upstream

    def use(self, *upstreams: FakeUpstream, **docker: Any) -> None:
        """Configure these, named `u1.test` and so on."""
        tables = tuple(
            UpstreamConfig(each.url, name=f"u{each.port}", namespace=f"u{each.port}.test")
            for each in upstreams
        )
        self.config = attrs.evolve(
            self.config, docker=attrs.evolve(self.config.docker, upstreams=tables, **docker)
        )

    async def pull(self, upstream: FakeUpstream, tag: str) -> int:
        """Pull its image; tells the status."""
        return (await self.get(f"/v2/team/app/manifests/{tag}?ns=u{upstream.port}.test")).status

    async def test_upstreams(self) -> None:
        """One that stays keeps its connection and token; one that goes is closed; one that comes is asked."""
        kept, dropped, added = [await self.upstream(name) for name in ("kept", "dropped", "added")]
        self.use(kept, dropped)
        daemon = await self.running()
        self.assertEqual([await self.pull(kept, "kept"), await self.pull(dropped, "dropped")], [200, 200])
        self.assertEqual(await self.pull(added, "added"), 404)
        self.use(added, kept)
        daemon.reload()
        await eventually(
            lambda: dropped.closed == dropped.connections, "the dropped one's connections to end"
        )
        self.assertEqual([await self.pull(kept, "kept"), await self.pull(added, "added")], [200, 200])
        self.assertEqual((kept.tokens, kept.connections, kept.closed), (1, 1, 0))
        asked = len(dropped.requests)
        self.assertEqual(await self.pull(dropped, "dropped"), 404)
        self.assertEqual(len(dropped.requests), asked)
        await daemon.stop(0.1)
        self.assertEqual(kept.closed, kept.connections)

    async def test_changed_time(self) -> None:
        """A time that an upstream is asked with makes it a new one; freshness does not."""
        upstream = await self.upstream("1")
        self.use(upstream)
        daemon = await self.running()
        self.assertEqual(await self.pull(upstream, "1"), 200)
        self.use(upstream, metadata_ttl=3600)
        daemon.reload()
        asked = len(upstream.requests)
        self.assertEqual(await self.pull(upstream, "1"), 200)
        self.assertEqual(len(upstream.requests), asked)
        self.use(upstream, metadata_ttl=0, proxy_timeout=7)
        daemon.reload()
        self.assertEqual(await self.pull(upstream, "1"), 200)
        self.assertEqual(upstream.tokens, 2)
        await daemon.stop(0.1)

    async def test_trusted_proxies(self) -> None:
        """Proxies that the configuration names are believed from then on."""
        daemon = await self.running()
        self.config = attrs.evolve(
            self.config, server=attrs.evolve(self.config.server, trusted_proxies=("127.0.0.1",))
        )
        for _ in range(2):
            client = await connect(reactor, self.config.server.port)
            await client.ask("GET", "/v2/x/manifests/1", "X-Forwarded-For: 192.0.2.1")
            client.transport.abortConnection()
            await client.closed()
            daemon.reload()
        await daemon.stop(0.1)
        lines = (self.store / "audit.jsonl").read_text().splitlines()
        self.assertEqual([json.loads(line)["client"] for line in lines], ["127.0.0.1", "192.0.2.1"])

    async def test_refused(self) -> None:
        """A configuration that cannot be used changes nothing."""
        upstream = await self.upstream("1")
        self.use(upstream)
        daemon = await self.running()
        self.assertEqual(await self.pull(upstream, "1"), 200)
        bad = UpstreamConfig("https://registry.example", ca_file=str(self.store / "no.pem"))
        self.config = attrs.evolve(self.config, docker=attrs.evolve(self.config.docker, upstreams=(bad,)))
        with self.assertRaises(CannotReload):
            daemon.reload()
        self.assertEqual(await self.pull(upstream, "1"), 200)
        self.assertEqual(upstream.tokens, 1)
        await daemon.stop(0.1)


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
            nora.signal(signal.SIGTERM)
            self.assertIn(process.wait(5), ENDED, nora.log)
        self.assertIn("Server Shut Down", nora.log)
        self.assertNotIn("Traceback", nora.log)


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
