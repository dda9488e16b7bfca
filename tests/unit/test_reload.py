"""What a reload exchanges in a running daemon, and what waits for the next start."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from nora.config import (
    Config,
    DockerConfig,
    ServerConfig,
    StorageConfig,
    UpstreamConfig,
    needs_restart,
    taken_over,
)
from nora.process import CannotReload
from tests.support.daemon_case import (
    DaemonCase,
    coroutine,
    eventually,
    reactor,
)
from tests.support.fake_upstream import FakeUpstream, make_image
from tests.support.http_client import connect


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
