"""The pages beside the registry."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import json

from twisted.internet.defer import Deferred, fail, succeed

from nora import __version__
from tests.support.web_site import SiteTestCase


class PageTests(SiteTestCase):
    """Metrics, health, readiness and the rest."""

    async def test_root(self) -> None:
        """`/` tells what this is and where to look."""
        reply = await self.ask("GET", "/")
        told = json.loads(reply.body)
        self.assertEqual((reply.status, told["name"], told["version"]), (200, "nora", __version__))
        self.assertIn("/metrics", told["pages"])

    async def test_nowhere(self) -> None:
        """Everything else is 404 in JSON."""
        for path in ("/x", "/favicon.ico", "/metrics2", "//", "/v3/", "/..", "/x/v2/", "*", "/health2/x"):
            reply = await self.ask("GET", path)
            self.assertEqual((reply.status, reply.error()["code"]), (404, "UNSUPPORTED"), path)

    async def test_metrics(self) -> None:
        """`/metrics` is Prometheus' text with the page's three."""
        reply = await self.ask("GET", "/metrics")
        self.assertEqual(reply.status, 200)
        self.assertTrue(reply.headers["content-type"].startswith("text/plain"))
        for name in ("nora_docker_downloads_total", "nora_cache_hits_total", "nora_cache_misses_total"):
            self.assertIn(f"\n{name} 0.0\n".encode(), reply.body)

    async def test_head(self) -> None:
        """HEAD of a page has its length and no body."""
        client = await self.client()
        for path in ("/", "/metrics", "/health", "/ready", "/x"):
            reply = await client.ask("HEAD", path)
            self.assertGreater(int(reply.headers["content-length"]), 0, path)
        self.assertEqual((await client.ask("GET", "/v2/")).body, b"{}")

    async def test_methods(self) -> None:
        """Pages are only read."""
        for path in ("/", "/metrics", "/health", "/ready"):
            reply = await self.ask("POST", path, "Content-Length: 0")
            self.assertEqual((reply.status, reply.headers["allow"]), (405, "GET, HEAD"))

    async def test_health(self) -> None:
        """`/health` is what the daemon tells, with status and version."""
        store = {"writable": True, "free_bytes": 1, "blobs": 2, "bytes": 3}
        self.health = lambda: succeed({"uptime": 5, "store": store, "upstreams": []})
        reply = await self.ask("GET", "/health")
        self.assertEqual(reply.status, 200)
        self.assertEqual(
            json.loads(reply.body),
            {"status": "ok", "version": __version__, "uptime": 5, "store": store, "upstreams": []},
        )

    async def test_health_fails(self) -> None:
        """A defect in the telling is 500 in JSON, and logged."""
        self.health = lambda: fail(RuntimeError("inside"))
        reply = await self.ask("GET", "/health")
        self.assertEqual((reply.status, reply.error()["code"]), (500, "UNKNOWN"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_health_left(self) -> None:
        """A client that leaves before health is known cancels the asking, and nothing is logged."""
        cancelled: list[object] = []
        self.health = lambda: Deferred(cancelled.append)
        client = await self.client()
        client.request("GET", "/health")
        await self.eventually(lambda: self.site.in_flight == 1)
        client.transport.abortConnection()
        await self.eventually(lambda: self.site.in_flight == 0)
        self.assertEqual(len(cancelled), 1)

    async def test_ready(self) -> None:
        """`/ready` is 200 once started, and 503 before and while draining."""
        reply = await self.ask("GET", "/ready")
        self.assertEqual((reply.status, json.loads(reply.body)), (200, {"ready": True}))
        self.is_ready = False
        self.assertEqual((await self.ask("GET", "/ready")).status, 503)
        self.is_ready = True
        self.site.drain()
        reply = await self.ask("GET", "/ready")
        self.assertEqual((reply.status, json.loads(reply.body)), (503, {"ready": False}))

    async def test_pages_are_not_audited(self) -> None:
        """Only requests for content are in the audit log; all are counted."""
        for path in ("/", "/health", "/v2/"):
            await self.ask("GET", path)
        self.assertEqual(self.events.list, [])
        self.assertEqual(self.count("nora_requests_total", method="GET", endpoint="health", status="200"), 1)

    async def test_defect_of_a_page(self) -> None:
        """A page that raises is 500 in JSON."""
        del self.is_ready
        reply = await self.ask("GET", "/ready")
        self.assertEqual((reply.status, reply.error()["code"]), (500, "UNKNOWN"))
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)
