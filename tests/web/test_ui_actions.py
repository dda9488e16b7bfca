"""Actions from the pages and by their API: what asks first, what does it, and whom it is refused."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import json
import re
from html import unescape
from urllib.parse import urlencode

from twisted.internet.defer import Deferred

from nora.content.interfaces import Done, Outcome
from nora.web.doorkeeper import LoopbackDoor
from nora.web.ui.rendering import Templates
from nora.web.ui.seals import LIFETIME, Seals
from tests.support.administered import CACHED, HOSTED, AdministeredTestCase
from tests.support.doors import PASSWORD, basic
from tests.support.fake_administration import NEW, OLD
from tests.support.http_client import Reply
from tests.support.openapi import Description
from tests.support.ui_site import HOSTILE, NOW

_NO_CALLS = (
    *(b"[]", b"{", b"\xff", b"1", b"[" * 60_000, b'{"repository":1}', b'{"other":"x"}'),
    json.dumps({"repository": "x" * 2000}).encode(),
)
TAG = {"repository": CACHED, "tag": "1"}


def hidden(text: str) -> dict[str, str]:
    """Read the hidden fields of a page's form."""
    return dict(re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', text))


class FormTests(AdministeredTestCase):
    """The page that asks, the form that is sent from it, the page that tells what was done."""

    async def fields(self, name: str, told: dict[str, str], user: str = "alice") -> dict[str, str]:
        """Have the page ask, and give what its form sends."""
        status, text = await self.seen(f"/ui/actions/{name}?{urlencode(told)}", user)
        self.assertEqual(status, 200, text)
        self.assertIn(f'<form method="post" action="/ui/actions/{name}">', text)
        return hidden(text)

    async def test_asks_and_does(self) -> None:
        """The page asks and changes nothing; its form does it once, and is told of by another page."""
        for name, told in (
            ("purge", TAG),
            ("purge", {"repository": CACHED, "digest": str(OLD)}),
            ("purge", {"repository": CACHED}),
            ("refresh", TAG),
            ("delete", {"repository": HOSTED, "tag": "1"}),
            ("delete", {"repository": HOSTED, "digest": str(OLD)}),
        ):
            self.administration.calls.clear()
            fields = await self.fields(name, told)
            self.assertEqual({key: fields[key] for key in fields if key != "csrf"}, told)
            self.assertEqual(self.administration.calls, [])
            reply = await self.form(f"/ui/actions/{name}", fields, "Origin: http://nora.example")
            self.assertEqual((reply.status, reply.headers["cache-control"]), (303, "no-store"), reply.body)
            reference = told.get("tag") or told.get("digest")
            self.assertEqual(self.administration.calls, [(name, told["repository"], reference, "alice")])
            status, text = await self.seen(reply.headers["location"])
            self.assertEqual(status, 200)
            self.assertIn(told["repository"], text)
            self.assertEqual(len(self.administration.calls), 1)

    async def test_ways_in(self) -> None:
        """What pages of contents show to an administrator leads to a page that asks, and nobody else is shown it."""
        templates = Templates()
        for name, repository, hosted, titles in (
            ("actions-repository", CACHED, False, ["Purge this repository?"]),
            ("actions-repository", HOSTED, True, []),
            ("actions-image", CACHED, False, ["Refresh this tag?", "Purge this tag?", "Purge this image?"]),
            ("actions-image", HOSTED, True, ["Delete this tag?", "Delete this image?"]),
        ):
            told = {"repository": repository, "tag": "1", "digest": str(OLD), "hosted": hosted, "csrf": ""}
            shown = templates.fill(name, may_administer=True, **told).decode()
            asked = [await self.seen(unescape(link)) for link in re.findall(r'href="([^"]*)"', shown)]
            self.assertEqual([re.findall("<h1>(.*)</h1>", text)[0] for _, text in asked], titles)
            self.assertNotIn("href", templates.fill(name, may_administer=False, **told).decode())
            by_digest = templates.fill(name, may_administer=True, **{**told, "tag": None}).decode()
            self.assertNotIn("tag", re.sub("<[^>]*>", "", by_digest))

    async def test_outcomes_are_told(self) -> None:
        """Each outcome of a refresh has its own words, and both digests where it moved."""
        for done, words in (
            (Done(Outcome.MOVED, OLD, NEW, "hub"), ("Refreshed", str(OLD), str(NEW), "hub")),
            (Done(Outcome.UNCHANGED, OLD, OLD, "hub"), ("Nothing new", str(OLD))),
            (Done(Outcome.SPARED, OLD, NEW, "hub"), ("Moved, but not fetched", "quota_reserve")),
            (Done(Outcome.FORGOTTEN), ("No upstream has the tag any more",)),
        ):
            self.administration.refreshed = done
            reply = await self.form("/ui/actions/refresh", await self.fields("refresh", TAG))
            _, text = await self.seen(reply.headers["location"])
            for word in words:
                self.assertIn(word, text)

    async def test_audited(self) -> None:
        """Who did what is in the audit log; so is what was refused, and that a page asked is not."""
        await self.form("/ui/actions/purge", await self.fields("purge", TAG))
        await self.form("/ui/actions/purge", {**TAG, "csrf": "none"})
        await self.form("/ui/actions/refresh", {**TAG, "tag": "none", "csrf": self.token()})
        self.assertEqual(
            self.audited(),
            [
                ("purge", "alice", CACHED, "1", 303),
                ("purge", "alice", CACHED, "1", 403),
                ("refresh", "alice", CACHED, "none", 404),
            ],
        )
        self.assertEqual(self.events.list[0].namespace, "docker.io")
        self.assertEqual(self.count("nora_requests_total", method="POST", endpoint="page", status="303"), 1)

    def token(self, user: str | None = "alice", ago: float = 0) -> str:
        """Make the token of a form that was given out some seconds ago."""
        return Seals(lambda: b"k" * 32, lambda: NOW - ago).token(user)

    async def test_tokens(self) -> None:
        """A form needs the token that this store gave this user within half a day."""
        good = self.token()
        ends, _, mac = good.partition(".")
        for csrf in (
            *("", "none", self.token("bob"), self.token(None), self.token(ago=LIFETIME + 1), mac),
            *(f"{int(ends) + 1}.{mac}", f"{ends}.{'0' * 64}", f"{ends}.{mac}\N{ARABIC-INDIC DIGIT ONE}"),
            self.token(ago=-10),
            Seals(lambda: b"other" * 8, lambda: NOW).token("alice"),
        ):
            reply = await self.form("/ui/actions/purge", {**TAG, "csrf": csrf})
            self.assertEqual(reply.status, 403, csrf)
            self.assertIn(b"load the page again", reply.body)
        reply = await self.form("/ui/actions/purge", TAG)
        self.assertEqual(reply.status, 403)
        self.assertEqual(self.administration.calls, [])
        for csrf in (good, self.token(ago=LIFETIME - 1)):
            self.assertEqual((await self.form("/ui/actions/purge", {**TAG, "csrf": csrf})).status, 303)

    async def test_other_sites(self) -> None:
        """What another site made a browser send is refused, token or not; our own pages, and no page, are not."""
        self.public_url = "https://nora.public"
        for status, headers in (
            (403, ("Origin: https://evil.example",)),
            (403, ("Origin: null",)),
            (403, ("Origin: http://nora.example:8080",)),
            (403, ("Origin: http://nora.public",)),
            (403, ("Sec-Fetch-Site: cross-site",)),
            (403, ("Sec-Fetch-Site: same-site", "Origin: http://nora.example")),
            (403, ("Sec-Fetch-Site: same-origin", "Origin: https://evil.example")),
            (403, ("Origin: http://nora.example", "Origin: https://evil.example")),
            (303, ("Sec-Fetch-Site: same-origin", "Origin: http://nora.example")),
            (303, ("Origin: https://nora.example",)),
            (303, ("Origin: https://nora.public",)),
            (303, ()),
        ):
            reply = await self.form("/ui/actions/purge", {**TAG, "csrf": self.token()}, *headers)
            self.assertEqual(reply.status, status, headers)
            call = await self.call("purge", TAG, *headers)
            self.assertEqual(call.status, 200 if status == 303 else 403, headers)

    async def call(self, name: str, told: object, *headers: str, user: str = "alice") -> Reply:
        """Call the API."""
        told_by = f"Authorization: {basic(user, PASSWORD)}"
        body = told if isinstance(told, bytes) else json.dumps(told).encode()
        path = f"/api/v1/{name}"
        return await self.ask("POST", path, told_by, "Content-Type: application/json", *headers, body=body)

    async def test_api_is_as_described(self) -> None:
        """A call brings, and is answered with, what the description of the API says."""
        description = Description(json.loads((await self.ask("GET", "/api/v1/openapi.json")).body))
        for name, told in (
            ("purge", TAG),
            ("purge", {"repository": CACHED, "tag": None, "digest": str(OLD)}),
            ("purge", {"repository": CACHED}),
            ("refresh", TAG),
            ("delete", {"repository": HOSTED, "digest": str(OLD)}),
            ("delete", {"repository": HOSTED, "tag": "none"}),
        ):
            description.check_request(f"/{name}", told)
            reply = await self.call(name, told)
            answer = json.loads(reply.body)
            description.check(f"/{name}", reply.status, "application/json", answer, "post")
            self.assertEqual(reply.status, 404 if told.get("tag") == "none" else 200)
        reply = await self.call("refresh", TAG)
        self.assertEqual(
            json.loads(reply.body),
            {
                **{"action": "refresh", "repository": CACHED, "tag": "1", "digest": None},
                **{"outcome": "moved", "before": str(OLD), "after": str(NEW), "upstream": "hub"},
            },
        )

    async def test_registry_with_a_port(self) -> None:
        """A cached repository's full name begins with its registry, which may have a port."""
        for repository, status in (
            ("registry.lan:5000/team/app", 200),
            ("registry.lan:5000", 400),
            (":/x", 200),
            ("\x7f:1/x", 400),
            (f"{'r' * 255}:1/x", 400),
            ("registry.lan:5000/Team", 400),
        ):
            reply = await self.call("delete", {"repository": repository, "tag": "1"})
            self.assertEqual(reply.status, status, repository)
        self.assertEqual([call[1] for call in self.administration.calls], ["team/app", "x"])

    async def test_unprivileged(self) -> None:
        """Who is no administrator of the repository is neither asked nor obeyed, by page or API."""
        for user, repository in (("carol", CACHED), ("carol", HOSTED), ("bob", CACHED)):
            told = {"repository": repository, "tag": "1"}
            for name in ("purge", "refresh", "delete"):
                status, text = await self.seen(f"/ui/actions/{name}?{urlencode(told)}", user)
                self.assertEqual((status, "csrf" in text), (403, False))
                reply = await self.form(f"/ui/actions/{name}", {**told, "csrf": self.token(user)}, user=user)
                self.assertEqual(reply.status, 403)
                self.assertEqual((await self.call(name, told, user=user)).status, 403)
        self.assertEqual(self.administration.calls, [])
        self.assertEqual(
            (await self.call("delete", {"repository": HOSTED, "tag": "1"}, user="bob")).status, 200
        )

    async def test_nobody(self) -> None:
        """Without a login a browser is asked for one, before anything is looked at."""
        for method, path in (
            ("GET", f"/ui/actions/purge?{urlencode(TAG)}"),
            ("POST", "/ui/actions/purge"),
            ("POST", "/api/v1/purge"),
        ):
            reply = await self.ask(method, path, body=b"{}" if method == "POST" else b"")
            self.assertEqual((reply.status, reply.headers["www-authenticate"][:5]), (401, "Basic"), path)
        self.assertEqual(self.events.list, [])

    async def test_without_auth(self) -> None:
        """While nobody can log in, programs on this machine administer, and our own pages in its browser."""
        self.backend.doorkeeper = LoopbackDoor("loopback")
        here = f"127.0.0.1:{self.port.getHost().port}"
        for site, origin, status in (
            (here, None, 303),
            (here, f"http://{here}", 303),
            (here, "https://evil.example", 403),
            (here, "http://127.0.0.1:1", 403),
            ("nora.lan", None, 403),
            ("nora.lan", "http://nora.lan", 403),
        ):
            fields = urlencode({**TAG, "csrf": self.token(None)}).encode()
            kind = "Content-Type: application/x-www-form-urlencoded"
            headers = [kind] if origin is None else [kind, f"Origin: {origin}"]
            reply = await self.ask("POST", f"http://{site}/ui/actions/purge", *headers, body=fields)
            self.assertEqual(reply.status, status, (site, origin))

    async def test_wrong_word(self) -> None:
        """What is hosted is not purged, nor what is cached deleted: the page says so before it asks."""
        for name, repository in (("purge", HOSTED), ("refresh", HOSTED), ("delete", CACHED)):
            status, _ = await self.seen(
                f"/ui/actions/{name}?{urlencode({'repository': repository, 'tag': '1'})}"
            )
            self.assertEqual(status, 403)

    async def test_no_meaning(self) -> None:
        """What has no meaning is refused with a sentence, and nothing breaks, whatever it says."""
        for name, told in (
            ("purge", {}),
            ("purge", {"repository": "Not A Name"}),
            ("purge", {**TAG, "digest": str(OLD)}),
            ("purge", {"repository": CACHED, "tag": str(OLD)}),
            ("purge", {"repository": CACHED, "digest": "latest"}),
            ("refresh", {"repository": CACHED}),
            ("refresh", {"repository": CACHED, "digest": str(OLD)}),
            ("delete", {"repository": HOSTED}),
            *(("purge", {"repository": text}) for text in HOSTILE),
            *(("purge", {"repository": CACHED, "tag": text}) for text in HOSTILE),
        ):
            status, text = await self.seen(f"/ui/actions/{name}?{urlencode(told)}")
            self.assertEqual(status, 400, told)
            self.assertNotIn("<script>alert", text)
            reply = await self.form(f"/ui/actions/{name}", {**told, "csrf": self.token()})
            self.assertEqual(reply.status, 400, told)
            self.assertEqual((await self.call(name, told)).status, 400, told)
        self.assertEqual(self.administration.calls, [])
        self.assertTrue(all(len(event.repository) <= 1024 for event in self.events.list))

    async def test_bodies(self) -> None:
        """A form is a form, and a call is an object of JSON, of bounded texts; any other body is refused."""
        told_by = f"Authorization: {basic('alice', PASSWORD)}"
        for path, kind, body in (
            ("/ui/actions/purge", "application/json", json.dumps(TAG).encode()),
            ("/ui/actions/purge", "text/plain", urlencode(TAG).encode()),
            ("/ui/actions/purge", "application/x-www-form-urlencoded", b"\xff\xfe"),
            ("/ui/actions/purge", "application/x-www-form-urlencoded", b"&".join([b"a=b"] * 99)),
            ("/api/v1/purge", "application/x-www-form-urlencoded", urlencode(TAG).encode()),
            ("/api/v1/purge", "text/plain", json.dumps(TAG).encode()),
            *(("/api/v1/purge", "application/json", body) for body in _NO_CALLS),
        ):
            reply = await self.ask("POST", path, told_by, f"Content-Type: {kind}", body=body)
            self.assertEqual(reply.status, 400, (path, kind, body[:20]))
        reply = await self.ask("POST", "/api/v1/purge", told_by, body=b"x" * 70_000)
        self.assertEqual(reply.status, 413)
        self.assertEqual(self.administration.calls, [])

    async def test_done_is_ours(self) -> None:
        """The page that tells what was done tells nothing that a link made up."""
        reply = await self.form("/ui/actions/purge", await self.fields("purge", TAG))
        path = reply.headers["location"]
        for other in (path.replace("purged", "deleted"), path[:-1], "/ui/actions/done", f"{path}&tag=2"):
            status, text = await self.seen(other)
            self.assertEqual((status, "Deleted" in text), (400, False), other)

    async def test_client_leaves(self) -> None:
        """What was begun is done to its end, though nobody waits for it."""
        gate: Deferred[None] = Deferred()
        self.administration.gate = lambda: gate
        client = await self.client()
        body = json.dumps(TAG).encode()
        headers = (f"Authorization: {basic('alice', PASSWORD)}", "Content-Type: application/json")
        client.request("POST", "/api/v1/purge", *headers, body=body)
        await self.eventually(lambda: self.site.in_flight == 1)
        await self.turn(0.01)
        client.transport.abortConnection()
        await client.closed()
        gate.callback(None)
        await self.eventually(lambda: bool(self.administration.calls))

    async def test_methods(self) -> None:
        """A call is a POST, the page of what was done a GET, and a page that asks takes both."""
        told_by = f"Authorization: {basic('alice', PASSWORD)}"
        for method, path, allow in (
            ("GET", "/api/v1/purge", "POST"),
            ("DELETE", "/ui/actions/purge", "GET, HEAD, POST"),
            ("POST", "/ui/actions/done", "GET, HEAD"),
        ):
            reply = await self.ask(method, path, told_by)
            self.assertEqual((reply.status, reply.headers["allow"]), (405, allow))
