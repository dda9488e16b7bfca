"""Connections: their bounds, their deadlines, and how they end."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from nora.web import Limits
from nora.web.requests import MAX_BODY
from tests.support.http_client import RawClient
from tests.support.web_site import SiteTestCase


class BodyTests(SiteTestCase):
    """Bodies of requests that no endpoint wants."""

    async def test_small_bodies_are_dropped(self) -> None:
        """A body within the bound does no harm, and the connection goes on."""
        client = await self.client()
        client.request("GET", "/v2/", f"Content-Length: {MAX_BODY}")
        client.transport.write(b"x" * MAX_BODY)
        self.assertEqual((await client.reply()).status, 200)
        client.request("GET", "/v2/", "Transfer-Encoding: chunked")
        client.transport.write(b"3\r\nabc\r\n0\r\n\r\n")
        self.assertEqual((await client.reply()).status, 200)

    async def test_forms_are_not_parsed(self) -> None:
        """A body that says it is a form is not read as one."""
        client = await self.client()
        client.request("POST", "/v2/", "Content-Type: multipart/form-data; boundary=x", "Content-Length: 3")
        client.transport.write(b"abc")
        self.assertEqual((await client.reply()).status, 405)

    async def refused(self, client: RawClient) -> None:
        reply = await client.reply()
        self.assertEqual((reply.status, reply.error()["code"]), (413, "SIZE_INVALID"))
        self.assertEqual(reply.headers["connection"], "close")
        self.assertIn("x-request-id", reply.headers)
        client.transport.abortConnection()
        await client.closed()
        await self.eventually(lambda: self.site.in_flight == 0)

    async def test_announced(self) -> None:
        """A body that is said to be too long is refused before it is sent, without a 100 Continue."""
        for method in ("GET", "PUT", "POST"):
            client = await self.client()
            client.request(method, "/health", f"Content-Length: {MAX_BODY + 1}", "Expect: 100-continue")
            await self.refused(client)
        self.assertEqual(self.count("nora_requests_total", method="PUT", endpoint="other", status="413"), 1)
        self.assertEqual(self.pull.calls, [])

    async def test_chunked(self) -> None:
        """A chunked body is refused when it grows too long; what still comes is dropped."""
        client = await self.client()
        client.request("PATCH", "/health", "Transfer-Encoding: chunked")
        client.transport.write(
            b"10000\r\n" + b"x" * 65_536 + b"\r\n" + b"1\r\ny\r\n" + b"1\r\ny\r\n0\r\n\r\n"
        )
        await self.refused(client)
        self.assertEqual(self.site.in_flight, 0)


class HeadTests(SiteTestCase):
    """What is no request is answered in JSON, logged, and the last thing on its connection."""

    async def refused(self, status: int, code: str, *headers: str, version: str = "1.1") -> None:
        client = await self.client()
        lines = [f"PATCH /v2/a/blobs/uploads/x HTTP/{version}", "Host: a", *headers, "", ""]
        # A request hides behind it, as one would in what another server takes for a body.
        hidden = "3\r\nabc\r\n0\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n"
        client.transport.write(("\r\n".join(lines) + hidden).encode("latin-1"))
        reply = await client.reply()
        self.assertEqual((reply.status, reply.error()["code"]), (status, code), headers)
        self.assertEqual((reply.headers["connection"], "x-request-id" in reply.headers), ("close", True))
        await client.closed()
        self.assertEqual(client.received, b"", headers)

    async def test_lengths(self) -> None:
        """Lengths and codings that two servers could read in two ways are refused."""
        for headers in (
            ["Content-Length: 3", "Transfer-Encoding: chunked"],
            ["Transfer-Encoding: identity", "Content-Length: 3"],
            ["Transfer-Encoding: gzip, chunked"],
            ["Content-Length: " + "9" * 5000],
            ["Content-Length: 3", "Content-Length: 4"],
            ["Content-Length:", " 3"],
            ["nonsense"],
        ):
            await self.refused(400, "UNSUPPORTED", *headers)
        await self.refused(400, "UNSUPPORTED", "Transfer-Encoding: chunked", version="1.0")

    async def test_too_large(self) -> None:
        """A head has a bound, in one line, in many, and in their number."""
        await self.refused(431, "SIZE_INVALID", "X: " + "y" * 100_000)
        await self.refused(431, "SIZE_INVALID", *(f"X-{n}: {'y' * 990}" for n in range(100)))
        await self.refused(431, "SIZE_INVALID", *(f"X-{n}: y" for n in range(1000)))
        self.assertEqual(self.count("nora_requests_total", method="other", endpoint="other", status="431"), 3)


class LingerTests(SiteTestCase):
    """Refused requests and late ones, by a clock of the test's own."""

    limits = Limits(header_timeout=30, idle_timeout=60)

    def make_clock(self) -> Any:
        self.fake = Clock()
        return self.fake

    async def test_linger_ends(self) -> None:
        """A client that keeps sending a refused body is cut off after two seconds."""
        client = await self.client()
        client.request("PUT", "/health", "Content-Length: 99999999")
        self.assertEqual((await client.reply()).status, 413)
        client.transport.write(b"x" * 100_000)
        self.fake.advance(2)
        await client.closed()

    async def test_silent_connection(self) -> None:
        """A connection that says nothing is closed when its first request is due."""
        client = await self.client()
        await self.eventually(lambda: self.site.connections == 1)
        self.fake.advance(29.9)
        self.assertEqual(self.site.connections, 1)
        self.fake.advance(0.2)
        await client.closed()

    async def trickle(self, client: RawClient, text: bytes) -> None:
        """Send byte by byte, ten seconds apart, until the connection is cut."""
        for position in range(len(text)):
            if client.lost is not None:
                return
            client.transport.write(text[position : position + 1])
            await self.turn(0.01)
            self.fake.advance(10)
            await self.turn(0.01)
        self.fail("a trickle was let through")

    async def test_trickled_headers(self) -> None:
        """A byte now and then does not keep a connection: on a new one, and after a request."""
        client = await self.client()
        await self.trickle(client, b"GET /v2/ HTTP/1.1\r\n")
        client = await self.client()
        self.assertEqual((await client.ask("GET", "/v2/")).status, 200)
        await self.trickle(client, b"GET /v2/ HTTP/1.1\r\n")
        self.assertEqual(self.fake.getDelayedCalls(), [])

    async def test_idle(self) -> None:
        """Between requests a connection is kept as long as idle_timeout says."""
        client = await self.client()
        await client.ask("GET", "/v2/")
        self.fake.advance(59)
        self.assertEqual((await client.ask("GET", "/v2/")).status, 200)
        self.fake.advance(61)
        await client.closed()
        await self.eventually(lambda: self.site.connections == 0)
        self.assertEqual(self.fake.getDelayedCalls(), [])


class GreetingTests(SiteTestCase):
    """The first bytes of a connection."""

    async def test_tls_is_told(self) -> None:
        """A client that speaks TLS to this port reads at once that it should not, and is let go."""
        client = await self.client()
        client.transport.write(bytes.fromhex("16030102000100") + b"x" * 100)
        await client.closed()
        self.assertTrue(client.received.startswith(b"HTTP/1.0 400 "))
        self.assertIn(b"not HTTPS", client.received)

    async def test_garbage(self) -> None:
        """What is no HTTP is refused by the parser, and counted as such."""
        for text in (
            b"hello\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\n\r\n",
            b"\0" * 20_000,
        ):
            client = await self.client()
            client.transport.write(text)
            await client.closed()
        self.assertEqual(self.site.in_flight, 0)
        for status, count in (("400", 3), ("431", 1)):
            counted = self.count("nora_requests_total", method="other", endpoint="other", status=status)
            self.assertEqual(counted, count)


class CapTests(SiteTestCase):
    """The cap on connections."""

    limits = Limits(max_connections=2)

    async def test_cap(self) -> None:
        """Past the cap new connections are closed at once and counted; when one ends there is room again."""
        first, second = await self.client(), await self.client()
        for client in (first, second):
            self.assertEqual((await client.ask("GET", "/v2/")).status, 200)
        third = await self.client()
        await third.closed()
        self.assertEqual(self.count("nora_connections_refused_total"), 1)
        self.assertEqual(self.count("nora_connections"), 2)
        first.transport.loseConnection()
        await self.eventually(lambda: self.site.connections == 1)
        self.assertEqual((await self.ask("GET", "/v2/")).status, 200)


class DrainTests(SiteTestCase):
    """The end of the daemon, seen by connections."""

    async def test_drain(self) -> None:
        """While draining, requests in flight are answered, say that they are the last, and then it is idle."""
        gate: Deferred[None] = Deferred()
        self.pull.gate = lambda: gate
        busy, quiet = await self.client(), await self.client()
        await quiet.ask("GET", "/v2/")
        busy.request("GET", "/v2/x/manifests/1")
        await self.eventually(lambda: self.site.in_flight == 1)
        idle: list[None] = []
        self.site.drain()
        self.site.idle().addCallback(idle.append)
        self.site.close_idle()
        await quiet.closed()
        self.assertEqual((idle, busy.lost), ([], None))
        gate.callback(None)
        reply = await busy.reply()
        self.assertEqual((reply.status, reply.headers["connection"]), (404, "close"))
        await busy.closed()
        self.assertEqual(idle, [None])

    async def test_drain_of_a_body(self) -> None:
        """A body that is going out when the drain begins arrives whole, and its connection closes."""
        data = b"z" * 3_000_000
        digest, content = self.pull.add_blob(data, available=2_000_000)
        client = await self.client()
        client.request("GET", f"/v2/x/blobs/{digest}")
        await client.head()
        self.site.drain()
        self.site.close_idle()
        content.verify()
        await client.has(len(data))
        await client.closed()

    async def test_new_requests_while_draining(self) -> None:
        """A request that arrives while draining is answered, and is the last on its connection."""
        client = await self.client()
        await client.ask("GET", "/v2/")
        self.site.drain()
        reply = await client.ask("GET", "/v2/")
        self.assertEqual((reply.status, reply.headers["connection"]), (200, "close"))
        await client.closed()

    async def test_idle_at_once(self) -> None:
        """With nothing in flight it is idle already."""
        await self.site.idle()

    async def test_abort_all(self) -> None:
        """Whoever is still there at the end is cut off."""
        self.pull.gate = Deferred
        client = await self.client()
        client.request("GET", "/v2/x/manifests/1")
        await self.eventually(lambda: self.site.in_flight == 1)
        self.site.abort_all()
        await client.closed()
        await self.site.idle()
        self.assertEqual(self.pull.cancelled, 1)
