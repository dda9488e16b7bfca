"""Hot answers over the real rooms: whatever record an answer was made from, its change is seen by the next request."""

from __future__ import annotations

from pathlib import Path

import attrs

from nora.config import UpstreamConfig
from nora.daemon import Daemon
from tests.support.daemon_case import DaemonCase, coroutine, reactor
from tests.support.fake_upstream import FakeUpstream, make_image

NAME = "team/app"


class PreparedTests(DaemonCase):
    """An image of an upstream, pulled until its answer is prepared."""

    async def prepared(self, path: str) -> Daemon:
        """Start an upstream with an image and a daemon before it, and ask for `path` until asking again is spared."""
        self.upstream = FakeUpstream(reactor)
        image = make_image([b"x"])
        self.upstream.add_image(NAME, "1", image)
        await self.upstream.start()
        self.addCleanup(lambda: coroutine(self.upstream.stop()))
        table = UpstreamConfig(self.upstream.url, name="u", namespace="u.test", prefix="u")
        docker = attrs.evolve(self.config.docker, upstreams=(table,), metadata_ttl=300)
        self.config = attrs.evolve(self.config, docker=docker)
        daemon = await self.running()
        self.assertEqual((await self.get(f"/v2/{NAME}/manifests/1")).status, 200)
        await self.turns(daemon, path)
        return daemon

    async def turns(self, daemon: Daemon, path: str) -> None:
        """Ask until the answer is prepared."""
        hot = daemon._site.hot
        assert hot is not None
        for _ in range(100):
            self.assertEqual((await self.get(path)).status, 200)
            if len(hot):
                return
        self.fail("never prepared")

    def record(self, *parts: str) -> Path:
        """Give the one record there is under `parts`."""
        (found,) = (each for each in self.store.joinpath(*parts).rglob("*") if each.is_file())
        return found

    async def test_hosted_meanwhile(self) -> None:
        """A name that becomes hosted is answered from what was pushed there, and from nothing else."""
        daemon = await self.prepared(f"/v2/{NAME}/manifests/1")
        (self.store / "names" / NAME / "_hosted").write_text('{"since":1}')
        self.assertEqual((await self.get(f"/v2/{NAME}/manifests/1")).status, 404)
        self.assertEqual((await self.get(f"/v2/{NAME}/manifests/1?ns=u.test")).status, 200)
        await daemon.stop(0.1)

    async def test_purged(self) -> None:
        """A manifest whose right is gone is asked for upstream, by tag and by digest."""
        await self.upstream_gone(f"/v2/{NAME}/manifests/1", "_manifests")

    async def test_tag_gone(self) -> None:
        """A tag whose record is gone is asked for upstream."""
        await self.upstream_gone(f"/v2/{NAME}/manifests/1", "_tags")

    async def test_prefix(self) -> None:
        """The same by another name of it."""
        await self.upstream_gone(f"/v2/u/{NAME}/manifests/1", "_manifests")

    async def upstream_gone(self, path: str, kind: str) -> None:
        daemon = await self.prepared(path)
        await self.upstream.stop()
        self.assertEqual((await self.get(path)).status, 200)
        self.record("repositories", "u.test", NAME, kind).unlink()
        self.assertEqual((await self.get(path)).status, 502)
        await daemon.stop(0.1)
