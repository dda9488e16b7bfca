"""The pages under `/ui`, as a browser without JavaScript gets them."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import re
from pathlib import Path

from nora.oci.manifest import OCI_MANIFEST
from nora.telemetry import Sums
from nora.web.ui import endpoints
from tests.support.contents_case import ContentsTestCase
from tests.support.doors import PASSWORD, TOKEN, House, basic
from tests.support.seen import Seen
from tests.support.ui_site import HOSTILE, NOW, UiTestCase, upstream

PAGES = ("/ui/", "/ui/?period=day", "/ui/?period=month", "/ui/now", "/ui/upstreams", "/ui/client")
MINUTE = int(NOW) // 60 * 60


class PagesTests(ContentsTestCase):
    """What the pages show."""

    async def test_ways_in(self) -> None:
        """`/` and `/ui` lead to `/ui/`."""
        for path in ("/", "/ui"):
            reply = await self.page(path)
            self.assertEqual((reply.status, reply.headers["location"]), (302, "/ui/"))

    async def test_headers(self) -> None:
        """Each page is shown by a strict policy, in no frame, and is kept by nobody."""
        for path in (*PAGES, "/ui/nowhere", "/api/v1/dashboard", "/api/v1/nowhere"):
            reply = await self.page(path)
            policy = reply.headers["content-security-policy"]
            self.assertEqual(policy, endpoints.POLICY.decode(), path)
            self.assertTrue(policy.startswith("default-src 'none'; "))
            self.assertNotIn("unsafe", policy)
            self.assertEqual(reply.headers["cache-control"], "no-store", path)
            self.assertEqual(reply.headers["x-content-type-options"], "nosniff", path)
            self.assertEqual(reply.headers["x-frame-options"], "DENY", path)

    async def test_nothing_from_elsewhere(self) -> None:
        """No page has a script, a style or an event in it, or names anything that this server does not have."""
        for path in (*PAGES, "/ui/nowhere"):
            reply = await self.page(path)
            for tag, attributes in Seen(reply.text).tags:
                self.assertNotEqual(tag, "style")
                self.assertFalse(
                    [name for name in attributes if name.startswith("on") or name == "style"], tag
                )
                if tag == "script":
                    self.assertIn(attributes["src"], ("/ui/static/nora.js", "/ui/static/now.js"))
                for name in ("src", "href"):
                    target = attributes.get(name)
                    if target is None or target.startswith("#"):
                        continue
                    self.assertRegex(target, r"\A/[^/]")
                    self.assertLess((await self.page(target)).status, 400, target)

    async def test_dashboard(self) -> None:
        """It tells hit rate, bytes, storage and uptime of the period that was asked for."""
        self.sums = {
            60: [
                (MINUTE - 7200, Sums(10, 5, 0, 4 << 20, 3 << 20)),
                (MINUTE, Sums(9, 4, 3, 3 << 20, 1 << 20)),
            ],
            3600: [(MINUTE - 86400, Sums(1000, 100, 95, 9 << 30, 1 << 30))],
        }
        hour = (await self.page("/ui/")).text
        self.assertIn('<dd id="hit-rate">75\u00a0%</dd>', hour)
        self.assertIn('<dd id="saved">2.0\u00a0MiB</dd>', hour)
        self.assertIn("up 1\u00a0d 1\u00a0h", hour)
        self.assertIn("60.0\u00a0GiB of 100\u00a0GiB", hour)
        self.assertIn("All well", hour)
        self.assertIn('<dd id="hit-rate">33.3\u00a0%</dd>', (await self.page("/ui/?period=day")).text)
        self.assertIn('<dd id="hit-rate">95\u00a0%</dd>', (await self.page("/ui/?period=month")).text)

    async def test_empty_dashboard(self) -> None:
        """Before the first pull there is no hit rate, and nothing is divided by nothing."""
        text = (await self.page("/ui/")).text
        self.assertIn('<dd id="hit-rate">\N{EN DASH}</dd>', text)
        self.assertEqual(text.count('class="step"'), 2 * 60)

    async def test_warnings(self) -> None:
        """What needs a person stands on the dashboard."""
        self.warnings = ["the disk of the store is nearly full", "the certificate ends"]
        text = (await self.page("/ui/")).text
        self.assertIn("2 warnings", text)
        for warning in self.warnings:
            self.assertIn(f"<bdi>{warning}</bdi>", text)

    async def test_unknown_period(self) -> None:
        """A period that there is not is refused, on a page."""
        reply = await self.page("/ui/?period=%3Cscript%3E")
        self.assertEqual(reply.status, 400)
        self.assertIn("period must be one of hour, day, month", reply.text)

    async def test_upstreams(self) -> None:
        """Each tells its circuit, its last success and error, latencies, outcomes and quota."""
        self.metrics.answered("hub", "manifest", "found", 0.12)
        self.metrics.answered("hub", "manifest", "limited", 2.5)
        self.upstreams = [
            upstream(pulls_left=76, pulls_reset_at="2023-11-15T04:13:20Z"),
            upstream(
                name="quay",
                circuit={"state": "open", "since": "2023-11-14T22:12:20Z", "next_probe": 12.3},
                last_error="the connection was refused",
                last_error_at="2023-11-14T22:13:15Z",
                warnings=["upstream quay is passed over"],
            ),
            upstream(name="new", last_success=None),
        ]
        text = " ".join((await self.page("/ui/upstreams")).text.split())
        for word in (
            *("120 ms", "2.50 s", "<span>limited</span> <b>1</b>", "76, anew in 6 h at the latest"),
            *("Passed over", "for 1 min", "next try in 12 s", "the connection was refused</bdi>, <time"),
            *("Not asked yet", "never", "upstream quay is passed over"),
        ):
            self.assertIn(word, text)

    async def test_no_upstreams(self) -> None:
        """A server without upstreams says so."""
        self.upstreams = []
        self.assertIn("There are no upstreams", (await self.page("/ui/upstreams")).text)
        self.assertIn("registry-mirrors", (await self.page("/ui/client")).text)

    async def test_client(self) -> None:
        """The files name this server as it was asked for, or as it is configured."""
        text = (await self.page("http://nora.lan:4000/ui/client")).text
        self.assertIn("http://nora.lan:4000", text)
        self.assertIn("insecure-registries", text)
        self.public_url = "https://nora.example"
        text = (await self.page("http://nora.lan:4000/ui/client")).text
        self.assertNotIn("nora.lan", text)
        self.assertNotIn("insecure", text)
        self.assertIn("nora.example/docker.io/library/nginx:latest", text)

    async def test_hostile_host(self) -> None:
        """A name that is none is not repeated."""
        text = (await self.page("http://<script>alert(1)</script>/ui/client")).text
        self.assertNotIn("alert(1)", text)

    async def test_own_pull(self) -> None:
        """The page tells when the machine that asks pulled; a pull that got nothing is none."""
        self.assertIn("has not pulled", (await self.page("/ui/client")).text)
        await self.ask("GET", "/v2/library/none/manifests/gone")
        self.assertIn("has not pulled", (await self.page("/ui/client")).text)
        self.site.last_pulls.pulled("127.0.0.1", NOW - 75)
        text = (await self.page("/ui/client")).text
        self.assertIn("127.0.0.1", text)
        self.assertIn("1\u00a0min 15\u00a0s ago", text)

    async def test_pull_is_noted(self) -> None:
        """An answered GET of a manifest is a pull; blobs and pages are none."""
        digest, _ = self.pull.add_blob(b"layer")
        self.pull.add_manifest(b"{}", OCI_MANIFEST, "latest")
        self.assertEqual((await self.ask("GET", f"/v2/library/nginx/blobs/{digest}")).status, 200)
        await self.ask("GET", "/ui/")
        self.assertIsNone(self.site.last_pulls.last("127.0.0.1"))
        await self.ask("GET", "/v2/library/nginx/manifests/latest")
        self.assertIsNotNone(self.site.last_pulls.last("127.0.0.1"))

    async def test_hostile_texts(self) -> None:
        """Whatever somebody else wrote is text, kept apart from the text around it, and cut where it is long."""
        plain = {path: len(Seen((await self.page(path)).text).tags) for path in PAGES}
        for text in HOSTILE:
            self.upstreams = [upstream(name=text, url=text, namespace=text, last_error=text)]
            self.warnings = [text]
            for path in PAGES:
                reply = await self.page(path)
                seen = Seen(reply.text)
                self.assertEqual(reply.status, 200)
                self.assertEqual([tag for tag, _ in seen.tags].count("script"), 1 + (path == "/ui/now"), path)
                self.assertFalse([tag for tag, names in seen.tags if "onerror" in names])
                self.assertLess(len(seen.tags) - plain[path], 20)
                if path not in ("/ui/client", "/ui/now"):
                    self.assertNotIn("x" * 1000, reply.text)
                    self.assertIn(text[:400], "".join(seen.words))
                    self.assertNotRegex(reply.text, f"(?<!<bdi>){re.escape(text[:400])}")

    async def test_nowhere(self) -> None:
        """What is not there is a page that says so, and a defect too."""
        for path in (
            "/ui/nowhere",
            "/ui/static/",
            "/ui/static/../facts.py",
            "/ui/static/%2e%2e/facts.py",
            "/ui//",
        ):
            reply = await self.page(path)
            self.assertEqual((reply.status, reply.headers["content-type"]), (404, "text/html; charset=utf-8"))
            self.assertIn("There is nothing here", reply.text)
        self.defect = RuntimeError("inside")
        reply = await self.page("/ui/")
        self.assertEqual(reply.status, 500)
        self.assertNotIn("inside", reply.text)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_methods(self) -> None:
        """Pages are only read."""
        for path in (*PAGES, "/api/v1/dashboard", "/ui/static/nora.css"):
            reply = await self.page(path, "Content-Length: 0", method="POST")
            self.assertEqual((reply.status, reply.headers["allow"]), (405, "GET, HEAD"), path)
            head = await self.page(path, method="HEAD")
            self.assertEqual((head.status, head.text), (200, ""))
            self.assertGreater(int(head.headers["content-length"]), 0)

    async def test_static(self) -> None:
        """A static file goes out once, and then only whether it is still the same."""
        reply = await self.page("/ui/static/nora.css")
        self.assertEqual((reply.status, reply.headers["content-type"]), (200, "text/css; charset=utf-8"))
        again = await self.page("/ui/static/nora.css", f"If-None-Match: {reply.headers['etag']}")
        self.assertEqual((again.status, again.text), (304, ""))

    async def test_not_audited(self) -> None:
        """Looking at pages is no event of the audit log, and does not count for the sums."""
        for path in PAGES:
            await self.page(path)
        self.assertEqual(self.events.list, [])
        self.assertEqual(self.metrics.tally.take(), Sums())
        self.assertEqual(
            self.count("nora_requests_total", method="GET", endpoint="page", status="200"), len(PAGES)
        )


class LoginTests(UiTestCase):
    """The pages while `[auth]` is on."""

    closed = (
        *("/ui/", "/ui/upstreams", "/ui/now"),
        *("/api/v1/dashboard", "/api/v1/history", "/api/v1/upstreams", "/api/v1/now"),
    )
    open = ("/ui/client", "/api/v1/client")
    free = ("/ui/static/nora.css", "/ui/static/nora.js", "/ui/static/icon.svg", "/api/v1/openapi.json")

    def setUp(self) -> None:
        super().setUp()
        folder = Path(self.mktemp())
        folder.mkdir()
        self.house = House(folder, self.clock, self.metrics)
        self.backend.doorkeeper = self.house.door()

    async def test_login_is_asked_for(self) -> None:
        """A browser without a login is asked for one in the way that it knows."""
        for path in (*self.closed, "/ui/now/events", "/api/v1/now/events"):
            reply = await self.page(path)
            self.assertEqual(
                (reply.status, reply.headers["www-authenticate"][:18]), (401, 'Basic realm="nora"')
            )
        self.assertIn("A login is needed", (await self.page("/ui/")).text)

    async def test_logged_in(self) -> None:
        """A user's password, or token, opens everything."""
        for authorization in (basic("alice", PASSWORD), basic("ci", TOKEN), f"Bearer {TOKEN}"):
            for path in (*self.closed, *self.open, *self.free):
                reply = await self.page(path, f"Authorization: {authorization}")
                self.assertEqual(reply.status, 200, path)

    async def test_wrong_password(self) -> None:
        """A wrong one opens nothing, counts as a failed login, and is audited."""
        for path in (*self.closed, *self.open):
            reply = await self.page(path, f"Authorization: {basic('alice', 'wrong')}")
            self.assertEqual((reply.status, reply.headers["www-authenticate"][:5]), (401, "Basic"), path)
        self.assertEqual(
            self.count("nora_logins_total", outcome="refused"), len(self.closed) + len(self.open)
        )
        self.assertEqual({(event.action, event.user) for event in self.events.list}, {("login", "alice")})

    async def test_too_many(self) -> None:
        """Guessing ends with 429, on a page."""
        for _ in range(10):
            await self.page("/ui/", f"Authorization: {basic('alice', 'wrong')}")
        reply = await self.page("/ui/", f"Authorization: {basic('alice', 'wrong')}")
        self.assertEqual(reply.status, 429)
        self.assertIn("retry-after", reply.headers)
        self.assertIn("Too many logins failed", reply.text)

    async def test_who_may_pull_may_set_up(self) -> None:
        """Whom anonymous pulls are allowed is shown how, and no more; where they are not, nothing is shown."""
        for path in (*self.open, *self.free):
            self.assertEqual((await self.page(path)).status, 200, path)
        self.backend.doorkeeper = self.house.door(anonymous_pull=False)
        for path in (*self.closed, *self.open):
            reply = await self.page(path)
            self.assertEqual((reply.status, reply.headers["www-authenticate"][:5]), (401, "Basic"), path)
        for path in self.free:
            self.assertEqual((await self.page(path)).status, 200, path)
