"""The endpoints that take content and remove it, through a real channel without sockets."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

from twisted.internet.defer import Deferred

from nora.access import ANONYMOUS
from nora.oci import Digest
from nora.oci.errors import (
    Denied,
    InvalidDigest,
    MissingContent,
    NoSpace,
    NotAllowed,
    Overloaded,
    Unauthorized,
)
from nora.oci.manifest import OCI_MANIFEST
from nora.push.interfaces import Target
from tests.support.push_site import WireTestCase

DATA = b"some content"
DIGEST = Digest.of(DATA)
UPLOADS = "/v2/a/b/blobs/uploads/"


class SessionTests(WireTestCase):
    """Upload sessions."""

    def begin(self) -> str:
        """Begin a session, and give its place."""
        reply = self.connect().ask("POST", UPLOADS)
        self.assertEqual(reply.status, 202)
        return reply.headers["location"]

    def test_begin(self) -> None:
        """A session begins with a place, an id and a range of nothing; also without the last slash."""
        for path in (UPLOADS, UPLOADS.rstrip("/")):
            reply = self.connect().ask("POST", path)
            id = reply.headers["docker-upload-uuid"]
            self.assertEqual((reply.status, reply.body), (202, b""))
            self.assertEqual(reply.headers["location"], f"/v2/a/b/blobs/uploads/{id}")
            self.assertEqual((reply.headers["range"], reply.headers["content-length"]), ("0-0", "0"))
        self.assertEqual(self.push.calls[0], ("begin", Target("a/b")))

    def test_ns(self) -> None:
        """What the client said as `ns` is handed down, and is in every Location."""
        reply = self.connect().ask("POST", f"{UPLOADS}?ns=docker.io")
        self.assertEqual(self.push.calls, [("begin", Target("a/b", "docker.io"))])
        self.assertTrue(reply.headers["location"].endswith("?ns=docker.io"), reply.headers)
        done = self.connect().ask("PUT", f"{reply.headers['location']}&digest={DIGEST}", body=DATA)
        self.assertEqual(done.headers["location"], f"/v2/a/b/blobs/{DIGEST}?ns=docker.io")

    def test_stream(self) -> None:
        """A PATCH adds, a PUT without a body ends it, and all of it happens on one connection."""
        place = self.begin()
        line = self.connect()
        reply = line.ask("PATCH", place, body=DATA)
        self.assertEqual((reply.status, reply.headers["range"]), (202, f"0-{len(DATA) - 1}"))
        self.assertEqual(reply.headers["location"], place)
        status = line.ask("GET", place)
        self.assertEqual((status.status, status.headers["range"]), (204, f"0-{len(DATA) - 1}"))
        self.assertNotIn("content-length", status.headers)
        done = line.ask("PUT", f"{place}?digest={DIGEST}")
        self.assertEqual((done.status, done.headers["location"]), (201, f"/v2/a/b/blobs/{DIGEST}"))
        self.assertEqual(done.headers["docker-content-digest"], str(DIGEST))
        self.assertEqual(self.push.blobs["a/b", str(DIGEST)], DATA)
        self.assertEqual(line.ask("GET", place).error()["code"], "BLOB_UPLOAD_UNKNOWN")
        self.assertFalse(line.wire.disconnecting)

    def test_chunks(self) -> None:
        """Chunks come in order, in either form of Content-Range; one that does not is told where to go on."""
        place = self.begin()
        line = self.connect()
        self.assertEqual(line.ask("PATCH", place, "Content-Range: 0-3", body=b"some").status, 202)
        for told in ("0-3", "5-8", "x-y", "8-5", "bytes=4-7", "4-7, 8-9", "4-"):
            reply = line.ask("PATCH", place, f"Content-Range: {told}", body=b" con")
            self.assertEqual((reply.status, reply.error()["code"]), (416, "BLOB_UPLOAD_INVALID"), told)
            self.assertEqual((reply.headers["range"], reply.headers["location"]), ("0-3", place), told)
        reply = line.ask("PATCH", place, "Content-Range: bytes 4-7/12", body=b" con")
        self.assertEqual((reply.status, reply.headers["range"]), (202, "0-7"))
        short = line.ask("PATCH", place, "Content-Range: 8-100", body=b"tent")
        self.assertEqual((short.status, short.error()["code"]), (400, "SIZE_INVALID"))
        done = line.ask("PUT", f"{place}?digest={DIGEST}", "Content-Range: 8-11", body=b"tent")
        self.assertEqual(done.status, 201)

    def test_chunked_coding(self) -> None:
        """A body of unknown length is taken as it comes, and the connection goes on."""
        place = self.begin()
        line = self.connect()
        line.request("PATCH", place, "Transfer-Encoding: chunked")
        line.send("5\r\nsome \r\n")
        line.send("7\r\ncont")
        line.send("ent\r\n0\r\n\r\n")
        self.assertEqual((line.reply().status, self.push.sessions), (202, {"s1": DATA}))
        self.assertEqual(line.ask("PUT", f"{place}?digest={DIGEST}").status, 201)

    def test_cancel(self) -> None:
        """A session that is cancelled is gone."""
        place = self.begin()
        line = self.connect()
        self.assertEqual(line.ask("DELETE", place).status, 204)
        gone = line.ask("DELETE", place)
        self.assertEqual((gone.status, gone.error()["code"]), (404, "BLOB_UPLOAD_UNKNOWN"))

    def test_bad_ends(self) -> None:
        """A PUT needs a digest, a right one, of an algorithm that is known."""
        place = self.begin()
        line = self.connect()
        for query in (
            "",
            "?digest=",
            "?digest=md5:00",
            f"?digest={'x' * 2000}",
            "?digest=%00",
            "?digest=%ff",
        ):
            reply = line.ask("PUT", f"{place}{query}", body=DATA)
            self.assertEqual((reply.status, reply.error()["code"]), (400, "DIGEST_INVALID"), query)
        wrong = line.ask("PUT", f"{place}?digest={Digest.of(b'other')}", body=DATA)
        self.assertEqual((wrong.status, wrong.error()["code"]), (400, "DIGEST_INVALID"))
        self.assertEqual(self.push.blobs, {})

    def test_odd_ids(self) -> None:
        """What is no id of a session reaches nothing."""
        for id in ("%00", "..", "a%2fb", "x" * 129, "a%20b"):
            reply = self.connect().ask("PATCH", f"{UPLOADS}{id}", body=DATA)
            self.assertIn(reply.status, (400, 404), id)
        self.assertEqual(self.push.calls, [])

    def test_methods(self) -> None:
        """Each endpoint tells its own methods."""
        for path, allow in (
            (UPLOADS, "POST"),
            (f"{UPLOADS}x", "GET, PATCH, PUT, DELETE"),
            ("/v2/a/manifests/1", "GET, HEAD, PUT, DELETE"),
            (f"/v2/a/blobs/{DIGEST}", "GET, HEAD, DELETE"),
            ("/v2/a/tags/list", "GET"),
            (f"/v2/a/referrers/{DIGEST}", "GET"),
            ("/v2/_catalog", "GET"),
            ("/v2/", "GET, HEAD"),
        ):
            reply = self.connect().ask("BREW", path)
            self.assertEqual((reply.status, reply.headers["allow"]), (405, allow), path)

    def test_sha512(self) -> None:
        """A blob is called as it was pushed."""
        digest = Digest.of(DATA, "sha512")
        reply = self.connect().ask("PUT", f"{self.begin()}?digest={digest}", body=DATA)
        self.assertEqual((reply.status, reply.headers["docker-content-digest"]), (201, str(digest)))


class BlobTests(WireTestCase):
    """Blobs in one request, mounts, deletions."""

    def test_at_once(self) -> None:
        """POST with a digest takes the blob."""
        line = self.connect()
        reply = line.ask("POST", f"{UPLOADS}?digest={DIGEST}", body=DATA)
        self.assertEqual((reply.status, reply.headers["location"]), (201, f"/v2/a/b/blobs/{DIGEST}"))
        empty = Digest.of(b"")
        self.assertEqual(line.ask("POST", f"{UPLOADS}?digest={empty}").status, 201)
        self.assertEqual(set(self.push.blobs), {("a/b", str(DIGEST)), ("a/b", str(empty))})

    def test_mount(self) -> None:
        """A blob is mounted from where it is, or from anywhere; else an upload begins."""
        self.push.blobs["x", str(DIGEST)] = DATA
        line = self.connect()
        reply = line.ask("POST", f"{UPLOADS}?mount={DIGEST}&from=x")
        self.assertEqual((reply.status, reply.headers["docker-content-digest"]), (201, str(DIGEST)))
        self.assertEqual(line.ask("POST", f"/v2/c/blobs/uploads/?mount={DIGEST}").status, 201)
        for source in ("y", "UPPER", "..", "%00"):
            reply = line.ask("POST", f"/v2/d/blobs/uploads/?mount={DIGEST}&from={source}")
            self.assertEqual((reply.status, "docker-upload-uuid" in reply.headers), (202, True), source)
        bad = line.ask("POST", f"{UPLOADS}?mount=sha256:1&from=x")
        self.assertEqual((bad.status, bad.error()["code"]), (400, "DIGEST_INVALID"))
        self.assertEqual({event.action for event in self.events.list[:-1]}, {"mount"})

    def test_delete(self) -> None:
        """A blob is deleted once."""
        self.push.blobs["a/b", str(DIGEST)] = DATA
        line = self.connect()
        first = line.ask("DELETE", f"/v2/a/b/blobs/{DIGEST}")
        self.assertEqual((first.status, first.headers["content-length"]), (202, "0"))
        second = line.ask("DELETE", f"/v2/a/b/blobs/{DIGEST}")
        self.assertEqual((second.status, second.error()["code"]), (404, "BLOB_UNKNOWN"))
        self.assertEqual([event.action for event in self.events.list], ["delete", "delete"])


class ManifestTests(WireTestCase):
    """Manifests."""

    body = b'{"schemaVersion":2}'

    def test_put(self) -> None:
        """A manifest is handed down with its type, bare, and answered with its digest."""
        reply = self.connect().ask(
            "PUT", "/v2/a/manifests/v1", f"Content-Type: {OCI_MANIFEST}; charset=utf-8", body=self.body
        )
        digest = Digest.of(self.body)
        self.assertEqual((reply.status, reply.headers["location"]), (201, f"/v2/a/manifests/{digest}"))
        self.assertEqual(reply.headers["docker-content-digest"], str(digest))
        self.assertEqual(self.push.manifests["a", "v1"], (self.body, OCI_MANIFEST))
        self.assertNotIn("oci-tag", reply.headers)
        self.assertNotIn("oci-subject", reply.headers)

    def test_tags_beside_a_digest(self) -> None:
        """A manifest by its digest gets the tags of the query, each told back once."""
        digest = self.push.subject = Digest.of(self.body, "sha512")
        reply = self.connect().ask("PUT", f"/v2/a/manifests/{digest}?tag=x&tag=y&tag=x", body=self.body)
        self.assertEqual((reply.status, reply.headers["oci-tag"]), (201, "x, y"))
        self.assertEqual(reply.headers["oci-subject"], str(digest))
        self.assertIn(("a", "y"), self.push.manifests)

    def test_bad_tags(self) -> None:
        """Tags that are none, and too many of them, are refused before the body is read."""
        for query, status in (("tag=-x", 400), (f"tag={DIGEST}", 400), ("tag=", 400)):
            reply = self.connect().ask("PUT", f"/v2/a/manifests/v1?{query}", body=self.body)
            self.assertEqual((reply.status, reply.error()["code"]), (status, "TAG_INVALID"), query)
        many = "&".join(f"tag=t{number}" for number in range(101))
        self.assertEqual(self.connect().ask("PUT", f"/v2/a/manifests/v1?{many}", body=self.body).status, 414)
        self.assertEqual(self.push.calls, [])

    def test_too_large(self) -> None:
        """4 MiB are taken, and not a byte more, told or not."""
        most = 4 * 1024 * 1024
        line = self.connect()
        line.request("PUT", "/v2/a/manifests/v1", f"Content-Length: {most + 1}")
        reply = line.reply()
        self.assertEqual((reply.status, reply.error()["code"]), (413, "SIZE_INVALID"))
        self.assertEqual(reply.headers["connection"], "close")
        line = self.connect()
        line.request("PUT", "/v2/a/manifests/v1", "Transfer-Encoding: chunked")
        line.send(b"%x\r\n" % (most + 1))
        for _ in range(64):
            line.send(b"x" * 65_536)
        self.assertEqual(line.replies(), [])
        line.send(b"x\r\n0\r\n\r\n")
        self.assertEqual(line.reply().status, 413)
        self.assertEqual(self.connect().ask("PUT", "/v2/a/manifests/v1", body=b"x" * most).status, 201)

    def test_all_at_once_are_bounded(self) -> None:
        """Manifests in the making have 64 MiB together; who comes then is told to come back."""
        piece = b"x" * 4_000_000
        lines = [self.connect() for _ in range(17)]
        for line in lines:
            line.request("PUT", "/v2/a/manifests/v1", f"Content-Length: {len(piece) + 1}")
            line.send(piece)
        self.assertEqual([line.replies() for line in lines[:16]], [[]] * 16)
        reply = lines[16].reply()
        self.assertEqual((reply.status, reply.headers["retry-after"]), (503, "5"))
        for line in lines[:16]:
            line.leave()
        self.assertEqual(self.connect().ask("PUT", "/v2/a/manifests/v1", body=piece).status, 201)

    def test_refusals(self) -> None:
        """What push raises is told with its code; the connection goes on."""
        line = self.connect()
        for error, status, code in (
            (MissingContent("x"), 400, "MANIFEST_BLOB_UNKNOWN"),
            (InvalidDigest("x"), 400, "DIGEST_INVALID"),
            (Denied("x"), 403, "DENIED"),
            (NoSpace("x"), 503, "UNAVAILABLE"),
            (Overloaded("x", 7), 503, "TOOMANYREQUESTS"),
        ):
            self.push.error = error
            reply = line.ask("PUT", "/v2/a/manifests/v1", body=self.body)
            self.assertEqual((reply.status, reply.error()["code"]), (status, code))
        self.assertFalse(line.wire.disconnecting)

    def test_delete(self) -> None:
        """A tag is deleted alone, a digest with its tags."""
        line = self.connect()
        digest = Digest.of(self.body)
        line.ask("PUT", f"/v2/a/manifests/{digest}?tag=x&tag=y", body=self.body)
        self.assertEqual(line.ask("DELETE", "/v2/a/manifests/x").status, 202)
        self.assertEqual(set(self.push.manifests), {("a", str(digest)), ("a", "y")})
        self.assertEqual(line.ask("DELETE", f"/v2/a/manifests/{digest}").status, 202)
        self.assertEqual(self.push.manifests, {})
        gone = line.ask("DELETE", "/v2/a/manifests/y")
        self.assertEqual((gone.status, gone.error()["code"]), (404, "MANIFEST_UNKNOWN"))


class CatalogTests(WireTestCase):
    """The list of repositories."""

    def test_pages(self) -> None:
        """Pages lead on by their Link, to the end."""
        self.contents.names = ["b", "a/x", "c"]
        line = self.connect()
        first = line.ask("GET", "/v2/_catalog?n=2")
        self.assertEqual(first.body, b'{"repositories":["a/x","b"]}')
        self.assertEqual(first.headers["link"], '</v2/_catalog?n=2&last=b>; rel="next"')
        second = line.ask("GET", "/v2/_catalog?n=2&last=b")
        self.assertEqual((second.body, "link" in second.headers), (b'{"repositories":["c"]}', False))
        self.assertEqual(line.ask("GET", "/v2/_catalog?n=x").status, 400)


class DoorTests(WireTestCase):
    """Who is let in."""

    def test_asked_once(self) -> None:
        """The doorkeeper is asked once a request, and its rights are what push sees."""
        self.connect().ask("POST", UPLOADS)
        self.assertEqual((self.door.asked, self.push.users), (1, ["kim"]))
        self.assertEqual(self.events.list[0].user, "kim")

    def test_asked_first(self) -> None:
        """An unknown client learns nothing, not of names that are none and of endpoints that are not there either."""
        self.door.error = Unauthorized("who?", 'Bearer realm="x"')
        for method, path in (
            ("GET", "/v2/"),
            ("PUT", "/v2/A/manifests/1"),
            ("GET", "/v2/x"),
            ("PATCH", UPLOADS),
        ):
            reply = self.connect().ask(method, path)
            self.assertEqual(
                (reply.status, reply.headers["www-authenticate"]), (401, 'Bearer realm="x"'), path
            )
        self.assertEqual((self.push.calls, self.pull.calls), ([], []))

    def test_denied(self) -> None:
        """Who may not push is told before the body, in the doorkeeper's words, and the audit log knows."""
        self.door.rights = ANONYMOUS
        self.door.instead = Unauthorized("who?", "Bearer x")
        for method, path in (
            ("POST", UPLOADS),
            ("PUT", "/v2/a/b/manifests/1"),
            ("DELETE", f"/v2/a/b/blobs/{DIGEST}"),
        ):
            line = self.connect()
            line.request(method, path, "Content-Length: 60000")
            if method == "DELETE":
                line.send(b"x" * 60_000)
            self.assertEqual(line.reply().status, 401, method)
        self.fake.advance(2)
        for exchange in self.exchanges:
            exchange.leave()
        self.assertEqual(
            [(event.action, event.status, event.repository) for event in self.events.list],
            [("delete", 401, "a/b"), ("push", 401, "a/b"), ("push", 401, "a/b")],
        )

    def test_not_at_once(self) -> None:
        """A doorkeeper that needs time gets it; the body stays outside meanwhile."""
        gate: Deferred[None] = Deferred()
        self.door.gate = lambda: gate
        line = self.connect()
        line.request(
            "POST", f"{UPLOADS}?digest={DIGEST}", f"Content-Length: {len(DATA)}", "Expect: 100-continue"
        )
        self.assertTrue(line.wire.paused)
        self.assertEqual((line.wire.value(), self.push.calls), (b"", []))
        gate.callback(None)
        self.assertEqual(line.wire.value(), b"HTTP/1.1 100 Continue\r\n\r\n")
        line.wire.clear()
        line.send(DATA)
        self.assertEqual(line.reply().status, 201)

    def test_late_refusal(self) -> None:
        """A doorkeeper's late no goes out as well as an early one."""
        gate: Deferred[None] = Deferred()
        self.door.gate = lambda: gate
        line = self.connect()
        line.request("GET", "/v2/")
        gate.errback(NotAllowed("no"))
        self.assertEqual((line.reply().status, line.wire.disconnecting), (403, False))

    def test_left_at_the_door(self) -> None:
        """A client that leaves meanwhile is not let in."""
        cancelled: list[object] = []
        self.door.gate = lambda: Deferred(cancelled.append)
        line = self.connect()
        line.request("POST", UPLOADS, "Content-Length: 0")
        line.leave()
        self.assertEqual((len(cancelled), self.push.calls), (1, []))

    def test_a_defect_at_the_door(self) -> None:
        """A doorkeeper that breaks lets nobody in."""
        gate: Deferred[None] = Deferred()
        self.door.gate = lambda: gate
        line = self.connect()
        line.request("GET", "/v2/")
        gate.errback(RuntimeError("x"))
        self.assertEqual(line.reply().status, 500)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
