"""The endpoints of lists, over real sockets."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

from nora.oci import Digest
from nora.oci.errors import Denied, Limited, NameUnknown, TimedOut, Unavailable
from nora.oci.listing import TagList, compose_referrers
from nora.oci.manifest import OCI_INDEX, OCI_MANIFEST
from nora.pull.interfaces import Cached
from nora.web.listings import MAX_PAGE
from tests.support.web_site import SiteTestCase

TAGS = ["1", "10", "2", "B", "latest"]
SUBJECT = Digest.of(b"subject")


def descriptor(kind: str) -> dict[str, object]:
    return {
        "mediaType": OCI_MANIFEST,
        "digest": str(Digest.of(kind.encode())),
        "size": 1,
        "artifactType": kind,
    }


class TagsTests(SiteTestCase):
    """`tags/list`."""

    def setUp(self) -> None:
        super().setUp()
        self.discovery.tag_lists["hub/x"] = TagList.of(TAGS)

    async def test_whole(self) -> None:
        """Without `n` all tags come, in byte order, under the client's own name, without a Link."""
        reply = await self.ask("GET", "/v2/hub/x/tags/list")
        self.assertEqual((reply.status, json.loads(reply.body)), (200, {"name": "hub/x", "tags": TAGS}))
        self.assertEqual(reply.headers["content-type"], "application/json")
        self.assertEqual(reply.headers["cache-status"], "nora; hit")
        self.assertNotIn("link", reply.headers)
        self.assertEqual(self.discovery.calls, [("tags", "hub/x", (b"", MAX_PAGE))])

    async def test_pages(self) -> None:
        """Links lead through all of it, each with the client's own name, `n` and `ns`."""
        path, seen, replies = "/v2/hub/x/tags/list?n=2&ns=docker.io", list[str](), 0
        while path:
            reply = await self.ask("GET", path)
            replies += 1
            seen += json.loads(reply.body)["tags"]
            self.assertEqual(reply.headers["oci-namespace"], "docker.io")
            link = reply.headers.get("link", "")
            path = ""
            if link:
                self.assertTrue(link.endswith('; rel="next"'), link)
                path = link[1 : link.index(">")]
                query = parse_qs(urlsplit(path).query)
                self.assertEqual((query["n"], query["ns"]), (["2"], ["docker.io"]))
                self.assertEqual(urlsplit(path).path, "/v2/hub/x/tags/list")
        self.assertEqual((seen, replies), (TAGS, 3))

    async def test_last(self) -> None:
        """`last` need not be a tag of the list, nor a tag at all."""
        for last, tags in (
            ("11", ["2", "B", "latest"]),
            ("%2F%FF", ["1", "10", "2", "B", "latest"]),
            ("zz", []),
        ):
            reply = await self.ask("GET", f"/v2/hub/x/tags/list?last={last}")
            self.assertEqual(json.loads(reply.body)["tags"], tags, last)

    async def test_zero(self) -> None:
        """`n=0` is an empty list without a Link, of a repository that is there."""
        reply = await self.ask("GET", "/v2/hub/x/tags/list?n=0")
        self.assertEqual((reply.status, json.loads(reply.body)["tags"]), (200, []))
        self.assertNotIn("link", reply.headers)
        self.assertEqual((await self.ask("GET", "/v2/other/tags/list?n=0")).status, 404)

    async def test_bounded(self) -> None:
        """A page is bounded, whatever is asked for; the Link leads to the rest."""
        self.discovery.tag_lists["big"] = TagList.of(f"{number:06}" for number in range(MAX_PAGE + 5))
        for query in ("", "?n=999999999999"):
            reply = await self.ask("GET", f"/v2/big/tags/list{query}")
            self.assertEqual(len(json.loads(reply.body)["tags"]), MAX_PAGE)
            self.assertIn(f"n={MAX_PAGE}&last=009999>", reply.headers["link"])

    async def test_refused(self) -> None:
        """What has no meaning is refused before anything is asked."""
        for query in ("n=x", "n=-1", "n=", "n=1.5", f"n={'9' * 30}", "last=" + "x" * 600):
            reply = await self.ask("GET", f"/v2/hub/x/tags/list?{query}")
            self.assertEqual((reply.status, reply.error()["code"]), (400, "UNSUPPORTED"), query)
        reply = await self.ask("GET", "/v2/Hub/x/tags/list")
        self.assertEqual((reply.status, reply.error()["code"]), (400, "NAME_INVALID"))
        self.assertEqual(self.discovery.calls, [])

    async def test_methods(self) -> None:
        """Lists are read by GET alone."""
        for method in ("HEAD", "POST", "DELETE"):
            for path in ("/v2/x/tags/list", f"/v2/x/referrers/{SUBJECT}"):
                reply = await self.ask(method, path, "Content-Length: 0")
                self.assertEqual((reply.status, reply.headers["allow"]), (405, "GET"), (method, path))
        self.assertEqual(self.discovery.calls, [])

    async def test_errors(self) -> None:
        """Failures have their status and code."""
        for error, status, code in (
            (NameUnknown("none"), 404, "NAME_UNKNOWN"),
            (Denied("no"), 403, "DENIED"),
            (Limited("slow", 7), 429, "TOOMANYREQUESTS"),
            (Unavailable("down"), 502, "UNAVAILABLE"),
            (TimedOut("down"), 504, "UNAVAILABLE"),
        ):
            self.discovery.error = error
            for path in ("/v2/hub/x/tags/list", f"/v2/hub/x/referrers/{SUBJECT}"):
                reply = await self.ask("GET", path)
                self.assertEqual((reply.status, reply.error()["code"]), (status, code), path)
        self.routing.error = NameUnknown("no such namespace")
        self.assertEqual((await self.ask("GET", "/v2/hub/x/tags/list?ns=other.example")).status, 404)

    async def test_stale(self) -> None:
        """A stale list says so."""
        self.discovery.cached = Cached.STALE
        reply = await self.ask("GET", "/v2/hub/x/tags/list")
        self.assertEqual(reply.headers["cache-status"], "nora; hit; detail=stale")

    async def test_audit_and_metrics(self) -> None:
        """Lists are in the audit log as such, and count as endpoints of their own, not as pulls."""
        await self.ask("GET", "/v2/hub/x/tags/list?ns=docker.io")
        await self.ask("GET", f"/v2/hub/x/referrers/{SUBJECT}")
        await self.eventually(lambda: len(self.events.list) == 2)
        told = [(event.action, event.repository, event.reference, event.cache) for event in self.events.list]
        self.assertEqual(told, [("list", "hub/x", "", "hit"), ("list", "hub/x", str(SUBJECT), "hit")])
        self.assertEqual((self.events.list[0].namespace, self.events.list[0].upstream), ("docker.io", "hub"))
        for endpoint in ("tags", "referrers"):
            self.assertEqual(
                self.count("nora_requests_total", method="GET", endpoint=endpoint, status="200"), 1
            )
        self.assertEqual(self.count("nora_docker_downloads_total"), 0)


class ReferrersTests(SiteTestCase):
    """`referrers`."""

    def setUp(self) -> None:
        super().setUp()
        self.all = [descriptor("a/b"), descriptor("c/d+e"), descriptor("a/b")]
        self.discovery.indexes[str(SUBJECT)] = compose_referrers(self.all)

    async def test_index(self) -> None:
        """All come as an index."""
        reply = await self.ask("GET", f"/v2/hub/x/referrers/{SUBJECT}")
        self.assertEqual((reply.status, reply.headers["content-type"]), (200, OCI_INDEX))
        self.assertEqual(json.loads(reply.body)["manifests"], self.all)
        self.assertNotIn("oci-filters-applied", reply.headers)

    async def test_filter(self) -> None:
        """A type of artifact filters, and the answer says so."""
        for kind, count in (("a%2Fb", 2), ("c%2Fd%2Be", 1), ("c/d+e", 1), ("e%2Ff", 0), ("%FF", 0)):
            reply = await self.ask("GET", f"/v2/hub/x/referrers/{SUBJECT}?artifactType={kind}")
            self.assertEqual(len(json.loads(reply.body)["manifests"]), count, kind)
            self.assertEqual(reply.headers["oci-filters-applied"], "artifactType")

    async def test_pages(self) -> None:
        """A list that is too long for one answer goes on by its Link, filtered as before."""
        self.discovery.following[str(SUBJECT)] = "sha256-00"
        self.discovery.indexes[f"{SUBJECT}sha256-00"] = compose_referrers(self.all[:1])
        reply = await self.ask("GET", f"/v2/x/referrers/{SUBJECT}?artifactType=a%2Fb")
        path = f"/v2/x/referrers/{SUBJECT}?last=sha256-00&artifactType=a%2Fb"
        self.assertEqual(reply.headers["link"], f'<{path}>; rel="next"')
        last = await self.ask("GET", path)
        self.assertEqual(json.loads(last.body)["manifests"], self.all[:1])
        self.assertNotIn("link", last.headers)

    async def test_empty(self) -> None:
        """Nothing that refers is an empty index, and no error."""
        reply = await self.ask("GET", f"/v2/hub/x/referrers/{Digest.of(b'other')}")
        self.assertEqual((reply.status, json.loads(reply.body)["manifests"]), (200, []))

    async def test_bad_digest(self) -> None:
        """What is no digest is refused."""
        for digest in ("latest", "sha256:abc", "md5:0123"):
            reply = await self.ask("GET", f"/v2/hub/x/referrers/{digest}")
            self.assertEqual((reply.status, reply.error()["code"]), (400, "DIGEST_INVALID"))
        self.assertEqual(self.discovery.calls, [])
