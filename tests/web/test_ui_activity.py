"""Activity: who sees the audit log, what of it, and what its lines can do to the page."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

from nora.access import Action, Rights
from nora.access.rules import Rule
from nora.web.doorkeeper import LoopbackDoor
from nora.web.ui.activity import LINES, Activity
from tests.support.administered import AdministeredTestCase
from tests.support.doors import PASSWORD, basic
from tests.support.openapi import Description
from tests.support.ui_site import HOSTILE
from tests.unit.telemetry.test_tail import line

CLOSING = (
    Rule("alice", "secret/*", []),
    Rule("alice", "docker.io/library/closed", []),
    Rule("alice", "*", [Action.ADMIN]),
)


class ActivityTests(AdministeredTestCase):
    """alice administers everything but `secret/*`."""

    def write(self, *lines: bytes) -> None:
        """Have a log of these lines."""
        self.log.write_bytes(b"".join(lines))

    async def tell(self, told: Mapping[str, str], status: int = 200, user: str = "alice") -> Any:
        """Ask the API, and hold the answer to its description."""
        path = f"/api/v1/activity?{urlencode(told)}"
        reply = await self.ask("GET", path, f"Authorization: {basic(user, PASSWORD)}")
        self.assertEqual(reply.status, status, reply.body)
        answer = json.loads(reply.body)
        description = Description(json.loads((await self.ask("GET", "/api/v1/openapi.json")).body))
        description.check("/activity", status, "application/json", answer)
        return answer

    async def ids(self, **told: str) -> list[str]:
        """Tell the ids of what is found."""
        return [entry["id"] for entry in (await self.tell(told))["entries"]]

    async def test_shows(self) -> None:
        """Page and API tell who did what, and how it ended, the newest first."""
        self.write(
            line(
                1,
                user="ci",
                action="push",
                repository="team/app",
                reference="1",
                status=201,
                agent="buildah/1",
            ),
            line(
                2, status=404, client="", repository="docker.io/library/nginx", cache="miss", upstream="hub"
            ),
        )
        status, text = await self.seen("/ui/activity")
        self.assertEqual(status, 200)
        shown = " ".join(re.sub(r"<[^>]+>", " ", text).split())
        for words in (
            "201 answered push team/app 1",
            "as ci",
            "buildah/1",
            "404 not found pull",
            "a UNIX socket",
        ):
            self.assertIn(words, shown)
        self.assertLess(shown.index("library/nginx"), shown.index("team/app"))
        told = await self.tell({})
        self.assertEqual([entry["outcome"] for entry in told["entries"]], ["absent", "answered"])
        self.assertEqual((told["problem"], told["unreadable"], told["older"]), (None, 0, None))

    async def test_filters(self) -> None:
        """By a part of the repository's name, a part of the address or the user, the outcome, and all of them."""
        self.write(
            line(1, client="192.0.2.7", repository="library/nginx", namespace="docker.io"),
            line(2, client="192.0.2.8", repository="library/nginx", namespace="docker.io", status=403),
            line(3, client="2001:db8::1", repository="team/app", user="ci", status=500),
            line(4, client="192.0.2.7", repository="team/app", user="bob", status=None, aborted=True),
            line(5, client="192.0.2.7", repository="", user="bob", action="login", status=401),
        )
        for found, told in (
            ("12345", {}),
            ("12", {"repository": "nginx"}),
            ("12", {"repository": "docker.io/library"}),
            ("34", {"repository": "team/app"}),
            ("", {"repository": "NGINX"}),
            ("145", {"client": "192.0.2.7"}),
            ("1245", {"client": "192.0.2."}),
            ("45", {"client": "bob"}),
            ("1", {"outcome": "answered"}),
            ("25", {"outcome": "refused"}),
            ("3", {"outcome": "failed"}),
            ("4", {"outcome": "aborted"}),
            ("1", {"repository": "nginx", "client": "192.0.2.7", "outcome": "answered"}),
            ("", {"client": "<script>"}),
        ):
            self.assertEqual("".join(sorted(id[1:] for id in await self.ids(**told))), found, told)

    async def test_older(self) -> None:
        """A page has a hundred lines, and a link that goes on with the same filter."""
        self.write(*(line(number, client=f"192.0.2.{number % 2}") for number in range(2 * LINES + 2)))
        status, text = await self.seen("/ui/activity?client=192.0.2.1")
        self.assertEqual(text.count('<p class="what">'), LINES)
        self.assertIn("data-live", text)
        (link,) = re.findall(r'href="([^"]*before=[^"]*)"', text)
        status, text = await self.seen(link.replace("&amp;", "&"))
        self.assertEqual((status, text.count('<p class="what">')), (200, 1))
        self.assertIn("192.0.2.1", text)
        self.assertNotIn("data-live", text)
        self.assertNotIn("before=", text)
        told = await self.tell({})
        self.assertEqual(len(told["entries"]), LINES)
        self.assertEqual((await self.tell({"before": told["older"]}))["entries"][0]["id"], f"n{LINES + 1}")

    async def test_who_sees_it(self) -> None:
        """Only who administers everything sees it, or the link that leads to it."""
        self.write(line(1))
        self.assertIn('href="/ui/activity"', (await self.seen("/ui/upstreams"))[1])
        for user in ("bob", "carol"):
            self.assertEqual((await self.seen("/ui/activity", user))[0], 403)
            for path in ("/ui/activity", "/ui/upstreams", "/ui/client", "/ui/nowhere"):
                self.assertNotIn('href="/ui/activity"', (await self.seen(path, user))[1])
            await self.tell({}, 403, user)
        self.assertEqual((await self.page("/ui/activity")).status, 401)
        self.assertNotIn('href="/ui/activity"', (await self.page("/ui/client")).text)

    async def test_closed_repositories(self) -> None:
        """Nothing is told of what a narrower rule closes, by whatever name it was asked for."""
        self.backend.doorkeeper = self.house.door(*CLOSING)
        self.write(
            line(1, repository="open/app", namespace="local"),
            line(2, repository="secret/app", namespace="local"),
            line(3, repository="secret/app", namespace=None, status=404),
            line(4, repository="closed", namespace="docker.io"),
            line(5, repository="docker.io/library/closed", namespace="docker.io"),
            line(6, repository="hub/library/closed", namespace="docker.io"),
            line(7, repository="library/closed", namespace="docker.io"),
            line(8, repository="library/other", namespace="docker.io"),
        )
        self.assertEqual(await self.ids(), ["n8", "n1"])

    async def test_without_auth(self) -> None:
        """While nobody can log in, it is for this machine alone, as administration is."""
        self.backend.doorkeeper = LoopbackDoor("loopback")
        self.write(line(1))
        here = f"http://127.0.0.1:{self.port.getHost().port}"
        reply = await self.page(f"{here}/ui/activity")
        self.assertEqual(reply.status, 200)
        self.assertIn('href="/ui/activity"', reply.text)
        for path in ("/ui/activity", "/api/v1/activity"):
            self.assertEqual((await self.page(f"http://nora.lan{path}")).status, 403)
        self.assertNotIn("/ui/activity", (await self.page("http://nora.lan/ui/")).text)

    async def test_no_log(self) -> None:
        """Where there is no log to read, a sentence says why."""
        self.log.unlink()
        words = "The audit log cannot be read: No such file or directory."
        self.assertIn(words, (await self.seen("/ui/activity"))[1])
        self.assertEqual((await self.tell({}))["problem"], words)
        asking: Any = SimpleNamespace(rights=Rights(None, frozenset(Action)), args={})
        self.assertIn("No audit log is written", str((await Activity(None).tell(asking))["problem"]))
        self.write()
        self.assertIn('<p class="card">Nothing.</p>', (await self.seen("/ui/activity"))[1])

    async def test_hostile_lines(self) -> None:
        """Whatever a client or a broken disk wrote into the log is text, apart from the text around it."""
        fields = (
            "id",
            "client",
            "user",
            "agent",
            "method",
            "action",
            "repository",
            "reference",
            "cache",
            "upstream",
        )
        self.write(*(line(number) for number in range(2)))
        plain = (await self.seen("/ui/activity"))[1].count("<")
        for text in (each[:5000] for each in HOSTILE):
            self.write(
                line(1, **dict.fromkeys(fields, text), namespace=text, digest=text),
                b'{"time": "</script>"}\n',
                line(2, agent=text)[:-50],
            )
            status, page = await self.seen("/ui/activity")
            self.assertEqual(status, 200)
            self.assertIn("2 lines could not be read.", page)
            self.assertEqual(page.count("<script"), 1)
            self.assertNotIn("<img src=x", page)
            self.assertLess(page.count("<"), plain + 20)
            self.assertNotIn("x" * 300, page)
            escaped = page.count("<bdi>") + page.count('<bdi class="')
            self.assertGreaterEqual(escaped, 6)
            told = await self.tell({})
            self.assertEqual(told["entries"][0]["agent"], text[:256])
            status, page = await self.seen(f"/ui/activity?{urlencode({'repository': text[:200]})}")
            self.assertEqual((status, page.count("<script")), (200, 1))

    async def test_no_meaning(self) -> None:
        """A filter that is none is refused."""
        for told in ({"outcome": "x"}, {"before": "x"}, {"before": "1-"}, {"client": "x" * 300}):
            await self.tell(told, 400)
