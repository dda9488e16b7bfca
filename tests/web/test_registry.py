"""The endpoints of the registry, over real sockets."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from nora.oci.errors import (
    Denied,
    Limited,
    NameUnknown,
    NoSpace,
    Overloaded,
    TooLarge,
    Unavailable,
    Unverified,
)
from nora.oci.manifest import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST
from nora.pull.interfaces import Cached
from nora.upstream.outcomes import Absent
from tests.support.web_site import SiteTestCase

BODY = b'{"schemaVersion":2,  "config":{}, "layers":[]}\n'
ABSENT = f"sha256:{'0' * 64}"


class BaseTests(SiteTestCase):
    """`/v2/`, and what is no endpoint."""

    async def test_base(self) -> None:
        """Both spellings of the base say that this is a registry."""
        for path in ("/v2/", "/v2"):
            reply = await self.ask("GET", path)
            self.assertEqual((reply.status, reply.body), (200, b"{}"))
            self.assertEqual(reply.headers["docker-distribution-api-version"], "registry/2.0")
            self.assertTrue(reply.headers["server"].startswith("nora/"))

    async def test_base_head(self) -> None:
        """HEAD of the base has the length of GET's body and no body."""
        reply = await self.ask("HEAD", "/v2/")
        self.assertEqual((reply.status, reply.headers["content-length"]), (200, "2"))

    async def test_base_method(self) -> None:
        """Nothing can be posted to the base."""
        reply = await self.ask("POST", "/v2/", "Content-Length: 0")
        self.assertEqual((reply.status, reply.error()["code"]), (405, "UNSUPPORTED"))
        self.assertEqual(reply.headers["allow"], "GET, HEAD")

    async def test_not_offered(self) -> None:
        """What is no endpoint here is 404."""
        for path in (
            "_catalog/x",
            "x/y",
            "%61",
            "x/manifests",
            "x/tags",
            "x/tags/other",
            "tags/list",
            "x/referrers",
        ):
            reply = await self.ask("GET", f"/v2/{path}")
            self.assertEqual((reply.status, reply.error()["code"]), (404, "UNSUPPORTED"), path)
        self.assertEqual(self.pull.calls, [])

    async def test_odd_method(self) -> None:
        """A method that nobody knows is 405 and does not become a label of its own."""
        reply = await self.ask("BREW", "/v2/x/manifests/1")
        self.assertEqual(reply.status, 405)
        await self.eventually(
            lambda: self.count("nora_requests_total", method="other", endpoint="manifest", status="405") == 1
        )

    async def test_loop(self) -> None:
        """A request that came through this very server is a loop of upstreams."""
        reply = await self.ask("GET", "/v2/x/manifests/1", "Via: 1.1 a, 1.1 nora-0123456789abcdef (x)")
        self.assertEqual((reply.status, reply.error()["code"]), (502, "UNAVAILABLE"))
        self.assertIn("loop", reply.error()["message"])
        other = await self.ask("GET", "/v2/x/manifests/1", "Via: 1.1 nora-other, x")
        self.assertEqual(other.status, 404)

    async def test_authorization_is_ignored(self) -> None:
        """Credentials mean nothing yet, and are no error."""
        reply = await self.ask("GET", "/v2/", "Authorization: Bearer nonsense")
        self.assertEqual(reply.status, 200)

    async def test_absolute_form(self) -> None:
        """A target in absolute form means its path."""
        reply = await self.ask("GET", "http://nora.example/v2/")
        self.assertEqual(reply.body, b"{}")

    async def test_hostile_host(self) -> None:
        """A Host that no router can parse changes nothing."""
        for host in ("\xff\xfe", "a" * 300, "..", "[::", ""):
            client = await self.client()
            client.transport.write(f"GET /v2/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1"))
            self.assertEqual((await client.reply()).status, 200, repr(host))


class NameTests(SiteTestCase):
    """What is refused before any code below sees it."""

    async def test_bad_names(self) -> None:
        """Names outside the grammar, however they are spelt, are NAME_INVALID and reach nothing."""
        for name in (
            "UPPER",
            "a..b",
            "../x",
            "a/../b",
            "%2e%2e/%2e%2e/etc",
            "a%2Fb",
            "a%00b",
            "a%0Ab",
            "a%ff",
            "a%C3%A9",
            "a%252Fb",
            "a//b",
            "/a",
            "a/",
            "-a",
            "a" * 256,
            "a/" * 900 + "a",
            "a" * 3000,
        ):
            for rest in ("manifests/1", f"blobs/{ABSENT}"):
                reply = await self.ask("GET", f"/v2/{name}/{rest}")
                self.assertEqual((reply.status, reply.error()["code"]), (400, "NAME_INVALID"), name[:40])
        self.assertEqual(self.pull.calls, [])
        self.assertEqual(self.routing.asked, [])

    async def test_good_names(self) -> None:
        """Names of many parts, also those that look like endpoints, arrive as they are."""
        for name in ("a", "library/nginx", "a/b/c/d", "a__b/c.d-e", "x/manifests/y", "a/blobs/b", "a" * 255):
            await self.ask("GET", f"/v2/{name}/manifests/1")
            self.assertEqual(self.pull.calls[-1], ("manifest", name, "1"))

    async def test_bad_references(self) -> None:
        """Tags and digests outside the grammar are told apart."""
        for reference, code in (
            ("", "TAG_INVALID"),
            (".x", "TAG_INVALID"),
            ("a" * 129, "TAG_INVALID"),
            ("a%20b", "TAG_INVALID"),
            ("sha256:abc", "DIGEST_INVALID"),
            ("md5:" + "0" * 32, "DIGEST_INVALID"),
            ("sha256:" + "A" * 64, "DIGEST_INVALID"),
        ):
            reply = await self.ask("GET", f"/v2/x/manifests/{reference}")
            self.assertEqual((reply.status, reply.error()["code"]), (400, code), reference)
        reply = await self.ask("GET", "/v2/x/blobs/latest")
        self.assertEqual((reply.status, reply.error()["code"]), (400, "DIGEST_INVALID"))
        self.assertEqual(self.pull.calls, [])

    async def test_escaped_colon(self) -> None:
        """A client that escapes the colon of a digest is understood."""
        digest = self.pull.add_manifest(BODY, OCI_MANIFEST)
        reply = await self.ask("GET", f"/v2/x/manifests/sha256%3A{digest.hex}")
        self.assertEqual(reply.body, BODY)

    async def test_namespace(self) -> None:
        """`ns` is handed to the routing and echoed."""
        self.pull.add_manifest(BODY, OCI_MANIFEST, "1")
        reply = await self.ask("GET", "/v2/x/manifests/1?ns=docker.io")
        self.assertEqual(self.routing.asked, [("x", "docker.io")])
        self.assertEqual(reply.headers["oci-namespace"], "docker.io")
        self.assertNotIn("oci-namespace", (await self.ask("GET", "/v2/x/manifests/1")).headers)

    async def test_bad_namespace(self) -> None:
        """`ns` has a bound, and is ASCII."""
        for ns in ("a" * 256, "%ff"):
            reply = await self.ask("GET", f"/v2/x/manifests/1?ns={ns}")
            self.assertEqual((reply.status, reply.error()["code"]), (400, "NAME_INVALID"))

    async def test_unknown_namespace(self) -> None:
        """What the routing refuses is told as it says."""
        self.routing.error = NameUnknown("no upstream for that registry")
        reply = await self.ask("GET", f"/v2/x/blobs/{ABSENT}?ns=evil.example")
        self.assertEqual((reply.status, reply.error()["code"]), (404, "NAME_UNKNOWN"))


class ManifestTests(SiteTestCase):
    """Manifests."""

    async def test_get(self) -> None:
        """A manifest arrives byte for byte with all its headers, whatever Accept says."""
        digest = self.pull.add_manifest(BODY, OCI_MANIFEST, "latest")
        reply = await self.ask("GET", "/v2/library/x/manifests/latest", "Accept: text/html")
        self.assertEqual((reply.status, reply.body), (200, BODY))
        self.assertEqual(reply.headers["content-type"], OCI_MANIFEST)
        self.assertEqual(reply.headers["content-length"], str(len(BODY)))
        self.assertEqual(reply.headers["docker-content-digest"], str(digest))
        self.assertEqual(reply.headers["etag"], f'"{digest}"')
        self.assertEqual(reply.headers["docker-distribution-api-version"], "registry/2.0")
        self.assertEqual(reply.headers["cache-status"], "nora; hit")
        self.assertEqual(len(reply.headers["x-request-id"]), 16)

    async def test_head(self) -> None:
        """HEAD asks for the descriptor alone, tells the length, and is no pull."""
        digest = self.pull.add_manifest(BODY, OCI_MANIFEST, "latest")
        client = await self.client()
        for cached, told in (
            (Cached.HIT, "nora; hit"),
            (Cached.QUOTA, "nora; hit; detail=quota"),
            (Cached.MISS, "nora; fwd=miss"),
        ):
            self.pull.cached = cached
            reply = await client.ask("HEAD", "/v2/x/manifests/latest")
            self.assertEqual((reply.status, reply.headers["content-length"]), (200, str(len(BODY))))
            self.assertEqual(reply.headers["docker-content-digest"], str(digest))
            self.assertEqual(reply.headers["cache-status"], told)
        self.assertEqual({call[0] for call in self.pull.calls}, {"describe"})
        self.assertEqual(client.received, b"")
        self.assertEqual(self.count("nora_docker_downloads_total"), 0)

    async def test_cache_status(self) -> None:
        """Each way an answer came has its words, and counts as a hit or as a miss."""
        self.pull.add_manifest(BODY, OCI_MANIFEST, "1")
        for cached, told in (
            (Cached.HIT, "nora; hit"),
            (Cached.STALE, "nora; hit; detail=stale"),
            (Cached.QUOTA, "nora; hit; detail=quota"),
            (Cached.MISS, "nora; fwd=miss; stored"),
            (Cached.FOLLOWED, "nora; fwd=miss; collapsed; stored"),
            (Cached.BYPASS, "nora; fwd=miss; detail=bypass"),
        ):
            self.pull.cached = cached
            reply = await self.ask("GET", "/v2/x/manifests/1")
            self.assertEqual(reply.headers["cache-status"], told)
        self.assertEqual(self.count("nora_docker_downloads_total"), 6)
        self.assertEqual(self.count("nora_cache_hits_total"), 3)
        self.assertEqual(self.count("nora_cache_misses_total"), 3)

    async def test_an_index_is_no_pull(self) -> None:
        """Indexes of both forms are served and not counted."""
        for kind in (OCI_INDEX, DOCKER_LIST):
            self.pull.add_manifest(BODY, kind, "1")
            self.assertEqual((await self.ask("GET", "/v2/x/manifests/1")).body, BODY)
        self.assertEqual(self.count("nora_docker_downloads_total"), 0)

    async def test_not_modified(self) -> None:
        """If-None-Match with the digest gives 304, on a connection that stays right."""
        digest = self.pull.add_manifest(BODY, OCI_MANIFEST, "1")
        client = await self.client()
        reply = await client.ask("GET", "/v2/x/manifests/1", f'If-None-Match: W/"a", "{digest}"')
        self.assertEqual(reply.status, 304)
        self.assertEqual(reply.headers["etag"], f'"{digest}"')
        self.assertNotIn("content-length", reply.headers)
        self.assertNotIn("transfer-encoding", reply.headers)
        self.assertEqual((await client.ask("GET", "/v2/")).body, b"{}")
        other = await client.ask("GET", "/v2/x/manifests/1", 'If-None-Match: "a"')
        self.assertEqual(other.body, BODY)
        self.assertEqual(self.count("nora_docker_downloads_total"), 1)


class ErrorTests(SiteTestCase):
    """Errors from below, as clients see them."""

    async def test_errors(self) -> None:
        """Each kind has its status, its code and its headers."""
        for error, status, code in (
            (Denied("no"), 403, "DENIED"),
            (Overloaded("full", 3), 503, "TOOMANYREQUESTS"),
            (Limited("slow", 7), 429, "TOOMANYREQUESTS"),
            (Limited("slow"), 429, "TOOMANYREQUESTS"),
            (Unavailable("down", [{"upstream": "a"}]), 502, "UNAVAILABLE"),
            (Unverified("lie"), 502, "UNAVAILABLE"),
            (TooLarge("big"), 403, "DENIED"),
            (NoSpace("full"), 503, "UNAVAILABLE"),
            (Absent("gone"), 404, "MANIFEST_UNKNOWN"),
        ):
            self.pull.error = error
            reply = await self.ask("GET", "/v2/x/manifests/1")
            entry = reply.error()
            self.assertEqual((reply.status, entry["code"]), (status, code), error)
            self.assertEqual(entry["message"], error.message)
            self.assertEqual(entry.get("detail"), error.detail)
            wait = getattr(error, "retry_after", None)
            self.assertEqual(reply.headers.get("retry-after"), None if wait is None else str(wait))
        reply = await self.ask("GET", f"/v2/x/blobs/{ABSENT}")
        self.assertEqual(reply.error()["code"], "BLOB_UNKNOWN")

    async def test_head_error(self) -> None:
        """HEAD of what is not there has the headers of the error and no body."""
        client = await self.client()
        reply = await client.ask("HEAD", f"/v2/x/blobs/{ABSENT}")
        self.assertEqual(reply.status, 404)
        self.assertGreater(int(reply.headers["content-length"]), 0)
        self.assertEqual((await client.ask("GET", "/v2/")).body, b"{}")

    async def test_defect(self) -> None:
        """A defect shows nothing of itself, is logged with the request's id, and spares the connection."""
        self.pull.error = RuntimeError("the secret inside")
        client = await self.client()
        reply = await client.ask("GET", "/v2/x/manifests/1", "X-Request-ID: my-id.1")
        self.assertEqual((reply.status, reply.error()["code"]), (500, "UNKNOWN"))
        self.assertNotIn(b"secret", reply.body)
        self.assertEqual(reply.headers["x-request-id"], "my-id.1")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual((await client.ask("GET", "/v2/")).status, 200)

    async def test_request_id(self) -> None:
        """A client's id is taken only when it is short and plain."""
        for told in ("a b", "a" * 65, "x\xe9", ""):
            reply = await self.ask("GET", "/v2/", f"X-Request-ID: {told}")
            self.assertNotEqual(reply.headers["x-request-id"], told)


class PatienceTests(SiteTestCase):
    """How long a client waits."""

    def make_clock(self) -> Clock:
        self.fake = Clock()
        self.fake.advance(1_700_000_000)
        return self.fake

    async def test_answer_timeout(self) -> None:
        """After 25 seconds a client is told to come back; only its own wait was given up."""
        self.pull.gate = Deferred
        client = await self.client()
        client.request("GET", "/v2/x/manifests/1")
        await self.eventually(lambda: bool(self.pull.calls))
        self.fake.advance(24.9)
        self.assertEqual(self.pull.cancelled, 0)
        self.fake.advance(0.2)
        reply = await client.reply()
        self.assertEqual((reply.status, reply.error()["code"]), (504, "UNAVAILABLE"))
        self.assertEqual(self.pull.cancelled, 1)
        self.pull.gate = self._now
        self.assertEqual((await client.ask("GET", "/v2/x/manifests/1")).status, 404)

    @staticmethod
    def _now() -> Deferred[None]:
        fired: Deferred[None] = Deferred()
        fired.callback(None)
        return fired

    async def test_small_blob_is_waited_for(self) -> None:
        """A small blob is verified before its headers, and in time; then it is 504 and everything is closed."""
        digest, content = self.pull.add_blob(b"x" * 100, available=100)
        content.is_verified = False
        client = await self.client()
        client.request("GET", f"/v2/x/blobs/{digest}")
        await self.eventually(lambda: bool(self.pull.calls))
        self.assertEqual(client.received, b"")
        self.fake.advance(25)
        self.assertEqual((await client.reply()).status, 504)
        self.assertEqual(content.closed, 1)
        self.assertEqual(content.readers, [])

    async def test_client_leaves(self) -> None:
        """A client that leaves while it waits cancels its own wait, and is audited as aborted."""
        self.pull.gate = Deferred
        client = await self.client()
        client.request("GET", "/v2/x/manifests/1")
        await self.eventually(lambda: bool(self.pull.calls))
        client.transport.abortConnection()
        await self.eventually(lambda: bool(self.events.list))
        self.assertEqual(self.pull.cancelled, 1)
        (event,) = self.events.list
        self.assertEqual((event.aborted, event.status, event.sent), (True, None, 0))
        self.assertEqual(
            self.count("nora_requests_total", method="GET", endpoint="manifest", status="none"), 1
        )
