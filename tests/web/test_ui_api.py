"""The JSON API: what it tells, as its description says."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import json

from nora.telemetry import Sums
from tests.support.contents_case import ContentsTestCase
from tests.support.openapi import Description
from tests.support.ui_site import HOSTILE, NOW, upstream

MINUTE = int(NOW) // 60 * 60


class ApiTests(ContentsTestCase):
    """`/api/v1`."""

    async def test_description_is_one(self) -> None:
        """The description describes each endpoint, and nothing that is not there."""
        description = Description(json.loads((await self.ask("GET", "/api/v1/openapi.json")).body))
        self.assertEqual(
            set(description.paths),
            {
                *("/dashboard", "/history", "/now", "/upstreams", "/client", "/openapi.json", "/activity"),
                *("/repositories", "/repositories/tags", "/repositories/image"),
                *("/purge", "/refresh", "/delete"),
            },
        )
        self.assertEqual(description.streams, ["/now/events"])
        for path in description.bare:
            await self.tell(path, status=403 if path == "/activity" else 200)
        for path in set(description.paths) - set(description.read):
            self.assertEqual((await self.ask("GET", f"/api/v1{path}")).headers["allow"], "POST")

    async def test_dashboard(self) -> None:
        """Sums, shares and sizes of each period, and how the server is."""
        self.sums = {60: [(MINUTE, Sums(9, 4, 3, 300, 100, 7))], 3600: []}
        self.warnings = ["beware"]
        told = await self.tell("/dashboard")
        self.assertEqual((told["now"], told["started_at"]), ("2023-11-14T22:13:20Z", "2023-11-13T21:12:19Z"))
        self.assertEqual((told["warnings"], told["store"]["total_bytes"]), (["beware"], 100 << 30))
        self.assertEqual(
            told["periods"]["hour"],
            {
                "requests": 9,
                "pulls": 4,
                "hits": 3,
                "served_bytes": 300,
                "fetched_bytes": 100,
                "pushed_bytes": 7,
                "hit_rate": 0.75,
                "since": "2023-11-14T21:14:00Z",
            },
        )
        self.assertIsNone(told["periods"]["month"]["hit_rate"])

    async def test_history(self) -> None:
        """Every step of a period is there, empty or not."""
        self.sums = {60: [(MINUTE - 60, Sums(2, 1, 1, 10))]}
        told = await self.tell("/history?period=hour")
        self.assertEqual((told["step"], len(told["points"])), (60, 60))
        self.assertEqual([point["pulls"] for point in told["points"]], [0] * 58 + [1, 0])
        self.assertEqual(told["points"][-1]["at"], "2023-11-14T22:13:00Z")
        for period, step, count in (("day", 900, 96), ("month", 86400, 30)):
            told = await self.tell(f"/history?period={period}")
            self.assertEqual((told["step"], len(told["points"])), (step, count))

    async def test_unknown_period(self) -> None:
        """A period that there is not is 400."""
        for period in ("", "year", "x" * 5000, "%00", "%ff"):
            await self.tell(f"/history?period={period}", status=400)

    async def test_upstreams(self) -> None:
        """State, latencies in seconds, outcomes, quota; texts are told as they are."""
        self.metrics.answered("hub", "head", "found", 0.25)
        self.metrics.answered("hub", "head", "denied", 0.75)
        circuit = {"state": "open", "since": "2023-11-14T22:00:00Z", "next_probe": 3.1}
        ill = upstream(
            name=HOSTILE[0], last_error=HOSTILE[4], last_error_at=circuit["since"], circuit=circuit
        )
        self.upstreams = [upstream(pulls_left=5, pulls_reset_at="2023-11-15T04:13:20Z"), ill]
        hub, other = (await self.tell("/upstreams"))["upstreams"]
        self.assertEqual(hub["latency"], {"p50": 0.25, "p95": 0.75})
        self.assertEqual(hub["requests"], {"denied": 1, "found": 1})
        self.assertEqual(hub["quota"], {"pulls_left": 5, "resets_at": "2023-11-15T04:13:20Z"})
        self.assertEqual((other["name"], other["last_error"]), (HOSTILE[0], HOSTILE[4]))
        self.assertEqual(other["latency"], {"p50": None, "p95": None})

    async def test_client(self) -> None:
        """The files, and when this machine pulled."""
        told = await self.tell("/client")
        self.assertEqual(told["you"], {"address": "127.0.0.1", "last_pull_at": None, "seconds_ago": None})
        self.site.last_pulls.pulled("127.0.0.1", NOW - 12.4)
        told = await self.tell("/client")
        self.assertEqual(
            told["you"],
            {"address": "127.0.0.1", "last_pull_at": "2023-11-14T22:13:07Z", "seconds_ago": 12},
        )
        self.assertEqual(
            [each["name"] for each in told["snippets"]],
            ["docker", "containerd", "podman", "kubernetes", "compose"],
        )

    async def test_nowhere(self) -> None:
        """Everything else is 404 in JSON."""
        for path in ("/api", "/api/", "/api/v1", "/api/v1/", "/api/v1/x", "/api/v2/dashboard"):
            reply = await self.ask("GET", path)
            self.assertEqual((reply.status, reply.error()["code"]), (404, "UNSUPPORTED"), path)

    async def test_defect(self) -> None:
        """A defect is 500 in JSON, and logged once."""
        self.defect = RuntimeError("inside")
        reply = await self.ask("GET", "/api/v1/dashboard")
        self.assertEqual((reply.status, reply.error()["code"]), (500, "UNKNOWN"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
