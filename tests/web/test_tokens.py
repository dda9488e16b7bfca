"""`/v2/token`, and the registry behind a guarded door, over real sockets."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
from twisted.internet.defer import Deferred, execute
from twisted.trial.unittest import SynchronousTestCase

from nora.access import Action, passwords
from nora.access.rules import Rule
from nora.oci.errors import InvalidRequest, RequestTooLarge
from nora.oci.manifest import OCI_MANIFEST
from nora.web.doorkeeper import LoopbackDoor
from nora.web.guarded import Asked
from nora.web.logins import Basic
from nora.web.tokens import _form
from tests.support.doors import PASSWORD, TOKEN, AtTheDoor, House, basic, write_users
from tests.support.http_client import Reply
from tests.support.storage_fakes import temporary_folder
from tests.support.web_site import SiteTestCase

MANIFEST = "/v2/team/app/manifests/1"
SCOPE = "scope=repository:team/app:pull,push"


class GuardedSiteTestCase(SiteTestCase):
    """A site whose door is guarded."""

    def setUp(self) -> None:
        super().setUp()
        self.house = House(Path(temporary_folder(self)), self.clock, self.metrics)
        self.house.now = 1_000_000
        self.backend.doorkeeper = self.house.door()
        self.pull.add_manifest(b"{}", OCI_MANIFEST, "1")

    async def post(self, text: str, *headers: str) -> Reply:
        """Send a form to the token service."""
        client = await self.client()
        client.request(
            "POST",
            "/v2/token",
            "Content-Type: application/x-www-form-urlencoded",
            f"Content-Length: {len(text)}",
            *headers,
        )
        client.transport.write(text.encode())
        return await client.reply()

    def form(self, **fields: str) -> str:
        """Write a form."""
        return urlencode({"service": "nora.example", "client_id": "tests", **fields})

    async def token(self, query: str = SCOPE, *headers: str) -> str:
        """Fetch a token."""
        reply = await self.ask("GET", f"/v2/token?service=nora.example&{query}", *headers)
        self.assertEqual(reply.status, 200, reply.body)
        return str(json.loads(reply.body)["token"])


def authorized(user: str = "alice", password: str = PASSWORD) -> str:
    return f"Authorization: {basic(user, password)}"


def access(token: str) -> Any:
    return jwt.decode(token, options={"verify_signature": False})["access"]


class TokenTests(GuardedSiteTestCase):
    """The token service."""

    async def test_get(self) -> None:
        """A user gets a token for what it asked for, in the form of the specification."""
        reply = await self.ask("GET", f"/v2/token?service=x&account=alice&{SCOPE}", authorized())
        self.assertEqual(reply.status, 200)
        self.assertEqual(reply.headers["content-type"], "application/json")
        self.assertEqual(reply.headers["cache-control"], "no-store")
        told = json.loads(reply.body)
        token = told.pop("token")
        self.assertEqual(told.pop("access_token"), token)
        self.assertEqual(
            told,
            {
                "token_type": "Bearer",
                "expires_in": 300,
                "issued_at": "1970-01-12T13:46:40Z",
                "scope": "repository:team/app:pull,push",
            },
        )
        claims = jwt.decode(token, options={"verify_signature": False})
        self.assertEqual((claims["sub"], claims["aud"]), ("alice", "nora.example"))
        reply = await self.ask("GET", MANIFEST, f"Authorization: Bearer {token}")
        self.assertEqual(reply.status, 200)
        head = await self.ask("HEAD", f"/v2/token?{SCOPE}", authorized())
        self.assertEqual((head.status, head.body), (200, b""))

    async def test_anonymous(self) -> None:
        """Who has no password gets a token for pulling, and none where anonymous clients get nothing."""
        token = await self.token()
        expected = [{"type": "repository", "name": "team/app", "actions": ["pull"]}]
        self.assertEqual(access(token), expected)
        self.assertEqual((await self.ask("GET", MANIFEST, f"Authorization: Bearer {token}")).status, 200)
        self.assertEqual(self.events.list[-1].user, None)
        self.backend.doorkeeper = self.house.door(anonymous_pull=False)
        reply = await self.ask("GET", f"/v2/token?{SCOPE}")
        self.assertEqual((reply.status, reply.error()["code"]), (401, "UNAUTHORIZED"))
        self.assertTrue(reply.headers["www-authenticate"].startswith("Basic "))

    async def test_several_scopes(self) -> None:
        """All scopes that a client asks for are in its token, but for what no rule gives it anywhere."""
        self.backend.doorkeeper = self.house.door(Rule("alice", "*", [Action.PULL]))
        token = await self.token(
            f"{SCOPE}&scope=repository:lib/x:pull&scope=registry:catalog:*", authorized()
        )
        self.assertEqual([(each["name"], each["actions"]) for each in access(token)],
                         [("lib/x", ["pull"]), ("team/app", ["pull"])])  # fmt: skip

    async def test_form(self) -> None:
        """The form of OAuth 2 takes a password, or a token of the configuration as refresh token."""
        for fields in (
            {"grant_type": "password", "username": "alice", "password": PASSWORD},
            {"grant_type": "password", "username": "ci", "password": TOKEN},
            {"grant_type": "refresh_token", "refresh_token": TOKEN},
        ):
            reply = await self.post(self.form(scope="repository:team/app:pull,push", **fields))
            self.assertEqual(reply.status, 200, fields)
            actions = access(json.loads(reply.body)["access_token"])[0]["actions"]
            self.assertEqual(actions, ["pull", "push"])

    async def test_wrong(self) -> None:
        """A wrong password or token is 401 in either form."""
        replies = [
            await self.ask("GET", "/v2/token", authorized("alice", "no")),
            await self.ask("GET", "/v2/token", "Authorization: Basic x"),
            await self.ask("GET", "/v2/token", "Authorization: Bearer x"),
            await self.post(self.form(grant_type="password", username="nobody", password="x")),
            await self.post(self.form(grant_type="refresh_token", refresh_token="x")),
        ]
        self.assertEqual([reply.status for reply in replies], [401] * 5)
        for reply in replies:
            self.assertTrue(reply.headers["www-authenticate"].startswith('Basic realm="'))

    async def test_bad_requests(self) -> None:
        """What is no request for a token is the client's mistake."""
        for text in (
            self.form(grant_type="authorization_code"),
            self.form(grant_type="password", username="alice"),
            "grant_type=password&grant_type=password",
            "&".join("a=b" for _ in range(100)),
            "",
        ):
            self.assertEqual((await self.post(text)).status, 400, text)
        self.assertEqual((await self.post("x" * 40_000)).status, 413)
        self.assertEqual((await self.ask("GET", "/v2/token?scope=repository:A:pull")).status, 400)
        reply = await self.ask("DELETE", "/v2/token")
        self.assertEqual((reply.status, reply.headers["allow"]), (405, "GET, POST"))

    async def test_off(self) -> None:
        """While nobody can log in there is no token service."""
        self.backend.doorkeeper = LoopbackDoor("loopback")
        reply = await self.ask("GET", "/v2/token")
        self.assertEqual((reply.status, reply.error()["code"]), (404, "UNSUPPORTED"))

    async def test_audit_and_metrics(self) -> None:
        """Logins are audited with the name that was tried, and counted; an anonymous token is no login."""
        await self.ask("GET", "/v2/token")
        await self.ask("GET", "/v2/token", authorized())
        await self.ask("GET", "/v2/token", authorized("mallory", "secret-guess"))
        await self.eventually(lambda: len(self.events.list) == 2)
        told = [(one.action, one.user, one.status, one.repository) for one in self.events.list]
        self.assertEqual(told, [("login", "alice", 200, ""), ("login", "mallory", 401, "")])
        self.assertEqual(self.count("nora_logins_total", outcome="accepted"), 1)
        self.assertEqual(self.count("nora_logins_total", outcome="refused"), 1)
        self.assertNotIn("secret-guess", str(self.events.list))

    async def test_a_defect(self) -> None:
        """A defect is 500 and logged."""
        self.patch(self.house.door().__class__, "issue", lambda *_: 1 / 0)
        self.assertEqual((await self.ask("GET", "/v2/token")).status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class RegistryTests(GuardedSiteTestCase):
    """The registry behind it."""

    async def test_base(self) -> None:
        """`/v2/` is 401 without a login, with where to log in, and 200 with one or with a token."""
        reply = await self.ask("GET", "/v2/")
        self.assertEqual((reply.status, reply.error()["code"]), (401, "UNAUTHORIZED"))
        self.assertEqual(
            reply.headers["www-authenticate"],
            'Bearer realm="http://nora.example/v2/token",service="nora.example"',
        )
        token = f"Authorization: Bearer {await self.token()}"
        for header in (authorized(), token, f"Authorization: Bearer {TOKEN}"):
            self.assertEqual((await self.ask("GET", "/v2/", header)).status, 200)

    async def test_no_host(self) -> None:
        """A client that names no host is sent to the address that it came to."""
        client = await self.client()
        client.transport.write(b"GET /v2/ HTTP/1.0\r\n\r\n")
        reply = await client.reply()
        port = self.port.getHost().port
        self.assertIn(f'realm="http://127.0.0.1:{port}/v2/token"', reply.headers["www-authenticate"])

    async def test_pulls(self) -> None:
        """Without a login what is public is pulled; the audit log knows who pulled."""
        self.assertEqual((await self.ask("GET", MANIFEST)).status, 200)
        self.assertEqual((await self.ask("GET", MANIFEST, authorized())).status, 200)
        self.assertEqual([event.user for event in self.events.list], [None, "alice"])
        self.backend.doorkeeper = self.house.door(anonymous_pull=False)
        reply = await self.ask("GET", MANIFEST)
        self.assertEqual(reply.status, 401)
        self.assertIn('scope="repository:team/app:pull"', reply.headers["www-authenticate"])
        self.assertEqual((await self.ask("GET", MANIFEST, authorized())).status, 200)

    async def test_lists(self) -> None:
        """Lists are behind the same door."""
        self.backend.doorkeeper = self.house.door(anonymous_pull=False)
        self.assertEqual((await self.ask("GET", "/v2/team/app/tags/list")).status, 401)
        self.assertEqual((await self.ask("GET", "/v2/team/app/tags/list", authorized())).status, 404)

    async def test_too_many(self) -> None:
        """After ten wrong passwords no further one is looked at, and who has logged in goes on."""
        self.assertEqual((await self.ask("GET", MANIFEST, authorized())).status, 200)
        for _ in range(10):
            self.assertEqual((await self.ask("GET", MANIFEST, authorized("bob", "no"))).status, 401)
        for path in (MANIFEST, "/v2/token"):
            reply = await self.ask("GET", path, authorized("bob"))
            self.assertEqual((reply.status, reply.error()["code"]), (429, "TOOMANYREQUESTS"))
            self.assertGreater(int(reply.headers["retry-after"]), 0)
        self.assertEqual((await self.ask("GET", MANIFEST, authorized())).status, 200)
        self.assertEqual((await self.ask("GET", MANIFEST)).status, 200)
        self.assertEqual(self.count("nora_logins_total", outcome="limited"), 2)
        self.assertEqual(self.events.list[-3].status, 429)

    async def test_busy(self) -> None:
        """When too many passwords are being checked, the client comes back a little later."""
        self.patch(passwords, "MAX_WAITING", 0)
        reply = await self.ask("GET", MANIFEST, authorized())
        self.assertEqual((reply.status, reply.headers["retry-after"]), (503, "2"))
        self.assertEqual(self.count("nora_logins_total", outcome="busy"), 1)

    async def test_insufficient(self) -> None:
        """A token for one repository opens no other."""
        token = await self.token("scope=repository:other:pull", authorized())
        reply = await self.ask("GET", MANIFEST, f"Authorization: Bearer {token}")
        self.assertEqual((reply.status, self.pull.calls), (401, []))
        self.assertIn('error="insufficient_scope"', reply.headers["www-authenticate"])

    async def test_users_change(self) -> None:
        """A user who is taken out of the file is out within a second or two, token or not."""
        token = f"Authorization: Bearer {await self.token(SCOPE, authorized())}"
        write_users(self.house.users, "bob")
        while (await self.ask("GET", MANIFEST, authorized())).status != 401:
            await self.turn(0.05)
        self.assertEqual((await self.ask("GET", MANIFEST, token)).status, 401)


class Flowing:
    """A body that streams; what its sink raises is what it fails with."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks

    def deliver(self, sink: Callable[[bytes], None]) -> Deferred[None]:
        """Deliver the chunks."""

        def each() -> None:
            for chunk in self.chunks:
                sink(chunk)

        return execute(each)


class StreamedFormTests(SynchronousTestCase):
    """A form whose request is answered while its body comes."""

    def read(self, *chunks: bytes) -> Deferred[Asked]:
        request: Any = AtTheDoor("POST", "/v2/token")
        request.body = Flowing(*chunks)
        return Deferred.fromCoroutine(_form(request))

    def test_read(self) -> None:
        """It is put together of its pieces, and the password in it is not shown."""
        asked = self.successResultOf(self.read(b"grant_type=password&user", b"name=a%2Bb&password=p%26w"))
        self.assertEqual(asked.basic, Basic("a+b", "p&w"))
        self.assertNotIn("p&w", repr(asked))

    def test_too_long(self) -> None:
        """More than a form has is refused while it comes."""
        self.failureResultOf(self.read(*[b"x" * 1024] * 33), RequestTooLarge)

    def test_not_utf8(self) -> None:
        """What is no text is the client's mistake."""
        self.failureResultOf(self.read(b"\xff"), InvalidRequest)
