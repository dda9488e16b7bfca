"""Blobs over real sockets: whole, in ranges, growing, and broken."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import random
from unittest import mock

from twisted.internet.error import ConnectionDone

from nora.oci.errors import Broken, Unverified
from nora.pull.interfaces import Cached
from nora.web.registry import WHOLE
from tests.support.web_site import SiteTestCase

BIG = random.Random(1).randbytes(3 * 1024 * 1024 + 17)
SMALL = b"0123456789"


class WholeTests(SiteTestCase):
    """Whole blobs."""

    async def test_get(self) -> None:
        """Blobs arrive whole with all headers: by sendfile and by copying, small, large and empty."""
        for on_disk in (True, False):
            for data in (b"", SMALL, BIG):
                digest, content = self.pull.add_blob(data, on_disk=on_disk)
                reply = await self.ask("GET", f"/v2/x/blobs/{digest}")
                self.assertEqual((reply.status, reply.body == data), (200, True))
                self.assertEqual(reply.headers["content-length"], str(len(data)))
                self.assertEqual(reply.headers["content-type"], "application/octet-stream")
                self.assertEqual(reply.headers["accept-ranges"], "bytes")
                self.assertEqual(reply.headers["docker-content-digest"], str(digest))
                self.assertEqual(reply.headers["etag"], f'"{digest}"')
                self.assertEqual(reply.headers["cache-control"], "max-age=31536000, immutable")
                self.assertEqual(reply.headers["cache-status"], "nora; hit")
                self.assertEqual((content.closed, content.readers[0].closed), (1, 1))
                self.assertEqual(content.readers[0].reads > 0, not on_disk and bool(data))

    async def test_head(self) -> None:
        """HEAD tells the size, ignores ranges and moves nothing."""
        digest, content = self.pull.add_blob(BIG)
        self.pull.cached = Cached.MISS
        client = await self.client()
        reply = await client.ask("HEAD", f"/v2/x/blobs/{digest}", "Range: bytes=0-1")
        self.assertEqual((reply.status, reply.headers["content-length"]), (200, str(len(BIG))))
        self.assertEqual(reply.headers["cache-status"], "nora; fwd=miss")
        self.assertEqual((client.received, content.readers), (b"", []))
        self.assertEqual(self.pull.calls, [("describe_blob", "x", str(digest))])

    async def test_not_modified(self) -> None:
        """A client that has the blob is told so, without a reader being made."""
        digest, content = self.pull.add_blob(BIG)
        head = await self.ask("HEAD", f"/v2/x/blobs/{digest}", f'If-None-Match: "{digest}"')
        self.assertEqual(head.status, 304)
        reply = await self.ask("GET", f"/v2/x/blobs/{digest}", f'If-None-Match: "{digest}"')
        self.assertEqual((reply.status, content.readers, content.closed), (304, [], 1))

    async def test_pipelining(self) -> None:
        """Two requests sent at once are answered in order, sendfile and copying alike."""
        first, _ = self.pull.add_blob(BIG)
        second, _ = self.pull.add_blob(BIG[1:], on_disk=False)
        client = await self.client()
        for digest in (first, second, first):
            client.request("GET", f"/v2/x/blobs/{digest}")
        self.assertTrue((await client.reply()).body == BIG)
        self.assertTrue((await client.reply()).body == BIG[1:])
        self.assertTrue((await client.reply()).body == BIG)
        self.assertEqual(client.received, b"")

    async def test_keep_alive(self) -> None:
        """A hundred requests on one connection, bodies of all sizes between them."""
        digests = [self.pull.add_blob(BIG[:size])[0] for size in (1, 65_536, 262_144, 262_145, 1_500_000)]
        client = await self.client()
        for number in range(100):
            digest = digests[number % len(digests)]
            reply = await client.ask("GET", f"/v2/x/blobs/{digest}")
            self.assertEqual(reply.status, 200)
            self.assertTrue(reply.body == self.pull.blobs[str(digest)].data)

    async def test_many_at_once(self) -> None:
        """Clients at once all get all bytes."""
        digest, _ = self.pull.add_blob(BIG)
        clients = [await self.client() for _ in range(20)]
        for client in clients:
            client.request("GET", f"/v2/x/blobs/{digest}")
        for client in clients:
            self.assertTrue((await client.reply()).body == BIG)

    async def test_http_1_0(self) -> None:
        """An old client waits for the verified whole, and gets it."""
        digest, content = self.pull.add_blob(BIG, available=1000)
        client = await self.client()
        client.request("GET", f"/v2/x/blobs/{digest}", version="1.0")
        await self.eventually(lambda: bool(self.pull.calls))
        content.grow(len(BIG))
        self.assertEqual(content.readers, [])
        content.verify()
        self.assertTrue((await client.reply()).body == BIG)
        self.assertIsNotNone((await client.closed()).check(ConnectionDone))

    async def test_http_1_0_broken(self) -> None:
        """An old client never sees a part of a blob that broke."""
        digest, content = self.pull.add_blob(BIG, available=1000)
        client = await self.client()
        client.request("GET", f"/v2/x/blobs/{digest}", version="1.0")
        await self.eventually(lambda: bool(self.pull.calls))
        content.break_off(Unverified("the digest is another"))
        self.assertEqual((await client.reply()).status, 502)


class RangeTests(SiteTestCase):
    """Ranges."""

    async def test_ranges(self) -> None:
        """One range gives 206 with its bytes, on both ways of sending."""
        for on_disk in (True, False):
            digest, content = self.pull.add_blob(BIG, on_disk=on_disk)
            size = len(BIG)
            for told, start, stop in (
                ("bytes=0-0", 0, 1),
                ("bytes=100-", 100, size),
                ("bytes=0-", 0, size),
                ("bytes=-5", size - 5, size),
                ("bytes=5-999999999999", 5, size),
                (f"bytes=-{size * 2}", 0, size),
            ):
                reply = await self.ask("GET", f"/v2/x/blobs/{digest}", f"Range: {told}")
                self.assertEqual(reply.status, 206, told)
                self.assertEqual(reply.headers["content-range"], f"bytes {start}-{stop - 1}/{size}")
                self.assertTrue(reply.body == BIG[start:stop], told)
                self.assertEqual(content.readers[-1].closed, 1)

    async def test_ignored(self) -> None:
        """What is not one range of bytes gives the whole."""
        digest, _ = self.pull.add_blob(SMALL)
        for told in ("bytes=0-1,3-4", "bytes=", "bytes=-", "bytes=a-b", "items=0-1", "0-1"):
            reply = await self.ask("GET", f"/v2/x/blobs/{digest}", f"Range: {told}")
            self.assertEqual((reply.status, reply.body), (200, SMALL), told)

    async def test_unsatisfiable(self) -> None:
        """A range past the end is 416 and tells the size; the connection and the content are all right."""
        digest, content = self.pull.add_blob(SMALL)
        client = await self.client()
        for told in ("bytes=10-", "bytes=10-20", "bytes=-0"):
            reply = await client.ask("GET", f"/v2/x/blobs/{digest}", f"Range: {told}")
            self.assertEqual((reply.status, reply.error()["code"]), (416, "RANGE_INVALID"))
            self.assertEqual(reply.headers["content-range"], "bytes */10")
            self.assertNotIn("etag", reply.headers)
        self.assertEqual(content.closed, 3)

    async def test_if_range(self) -> None:
        """If-Range with our tag keeps the range; a date, a weak tag or another tag gives the whole."""
        digest, _ = self.pull.add_blob(SMALL)
        for told, status in (
            (f'"{digest}"', 206),
            (f'W/"{digest}"', 200),
            ('"other"', 200),
            ("Mon, 23 Nov 2026 00:00:00 GMT", 200),
        ):
            reply = await self.ask("GET", f"/v2/x/blobs/{digest}", "Range: bytes=0-1", f"If-Range: {told}")
            self.assertEqual(reply.status, status, told)


class GrowingTests(SiteTestCase):
    """Blobs that are still coming in."""

    async def test_following(self) -> None:
        """A client gets what is there at once, and the last byte only when the whole is verified."""
        for on_disk in (True, False):
            digest, content = self.pull.add_blob(BIG, available=1000, on_disk=on_disk)
            self.pull.cached = Cached.FOLLOWED
            client = await self.client()
            client.request("GET", f"/v2/x/blobs/{digest}")
            head = await client.head()
            self.assertEqual(head.headers["cache-status"], "nora; fwd=miss; collapsed; stored")
            await client.has(1000)
            content.grow(500_000)
            await client.has(501_000)
            content.grow(len(BIG))
            await client.has(len(BIG) - 1)
            content.verify()
            await client.has(len(BIG))
            self.assertTrue(client.received == BIG)
            client.received = b""
            self.assertEqual((await client.ask("GET", "/v2/")).status, 200)

    async def test_small_growing(self) -> None:
        """Nothing of a small blob goes out before it is verified; a lie is then an error, not a short body."""
        digest, content = self.pull.add_blob(BIG[:WHOLE], available=100)
        client = await self.client()
        client.request("GET", f"/v2/x/blobs/{digest}")
        await self.eventually(lambda: bool(self.pull.calls))
        content.break_off(Unverified("the digest is another"))
        reply = await client.reply()
        self.assertEqual((reply.status, reply.error()["code"]), (502, "UNAVAILABLE"))
        self.assertEqual((content.closed, content.readers), (1, []))

    async def test_broken_midway(self) -> None:
        """A blob that breaks after its first byte ends the connection short, and never looks whole."""
        for on_disk in (True, False):
            digest, content = self.pull.add_blob(BIG, available=2_000_000, on_disk=on_disk)
            client = await self.client()
            client.request("GET", f"/v2/x/blobs/{digest}")
            client.request("GET", "/v2/")
            await client.head()
            await client.has(2_000_000)
            content.break_off(Broken("the upstream left"))
            await client.closed()
            self.assertTrue(client.received == BIG[:2_000_000])
            self.assertEqual((content.closed, content.readers[0].closed), (1, 1))
            await self.eventually(lambda: self.site.in_flight == 0)
            self.assertTrue(self.events.list[-1].aborted)
            self.assertEqual(self.events.list[-1].sent, 2_000_000)

    async def test_no_file_any_more(self) -> None:
        """A reader that loses its file under way is copied from; the client notices nothing."""
        digest, content = self.pull.add_blob(BIG, available=1_000_000)
        client = await self.client()
        client.request("GET", f"/v2/x/blobs/{digest}")
        await client.head()
        await client.has(1_000_000)
        self.assertEqual(content.readers[0].reads, 0)
        content.readers[0].descriptor = None
        content.verify()
        await client.has(len(BIG))
        self.assertTrue(client.received == BIG)
        self.assertGreater(content.readers[0].reads, 0)

    async def test_no_sendfile_here(self) -> None:
        """A file system without sendfile is read instead."""
        digest, content = self.pull.add_blob(BIG)
        with mock.patch("os.sendfile", side_effect=OSError(22, "Invalid argument")):
            reply = await self.ask("GET", f"/v2/x/blobs/{digest}")
        self.assertTrue(reply.body == BIG)
        self.assertGreater(content.readers[0].reads, 0)

    async def test_disk_error(self) -> None:
        """A disk that fails breaks the answer off."""
        digest, content = self.pull.add_blob(BIG)
        with mock.patch("os.sendfile", side_effect=OSError(5, "Input/output error")):
            client = await self.client()
            client.request("GET", f"/v2/x/blobs/{digest}")
            await client.closed()
        self.assertEqual(content.readers[0].closed, 1)

    async def test_client_gone_in_sendfile(self) -> None:
        """A connection that the kernel says is gone ends the answer, whatever Twisted still believes."""
        digest, content = self.pull.add_blob(BIG)
        with mock.patch("os.sendfile", side_effect=BrokenPipeError(32, "Broken pipe")):
            client = await self.client()
            client.request("GET", f"/v2/x/blobs/{digest}")
            await client.closed()
        await self.eventually(lambda: self.site.in_flight == 0)
        self.assertEqual((content.readers[0].closed, content.closed), (1, 1))

    async def test_reader_gives_nothing(self) -> None:
        """A reader that ends before its stop breaks the answer off."""
        digest, content = self.pull.add_blob(BIG, available=1_000_000, on_disk=False)
        client = await self.client()
        client.request("GET", f"/v2/x/blobs/{digest}")
        await client.head()
        await client.has(1_000_000)
        content.data = content.data[:1_000_000]
        content.verify()
        await client.closed()
        self.assertEqual(len(client.received), 1_000_000)

    async def test_leaving_while_waiting(self) -> None:
        """A client that leaves while its reader waits for bytes frees the reader; the waiting is given up."""
        for on_disk in (True, False):
            digest, content = self.pull.add_blob(BIG, available=1_000_000, on_disk=on_disk)
            client = await self.client()
            client.request("GET", f"/v2/x/blobs/{digest}")
            await client.head()
            await client.has(1_000_000)
            client.transport.abortConnection()
            await self.eventually(lambda: self.site.in_flight == 0)
            self.assertEqual((content.readers[0].closed, content.closed), (1, 1))
            content.verify()

    async def test_short_file(self) -> None:
        """A file that is shorter than promised breaks the answer off."""
        digest, content = self.pull.add_blob(BIG, available=1_000_000)
        client = await self.client()
        client.request("GET", f"/v2/x/blobs/{digest}")
        await client.head()
        await client.has(1_000_000)
        content.readers[0].truncate(1_200_000)
        content.verify()
        await client.closed()
        self.assertLessEqual(len(client.received), 1_200_000)

    async def test_defect_midway(self) -> None:
        """A defect of a reader breaks the answer off too."""
        digest, _ = self.pull.add_blob(BIG, available=1_000_000, on_disk=False)
        client = await self.client()
        client.request("GET", f"/v2/x/blobs/{digest}")
        await client.head()
        await client.has(1_000_000)
        self.pull.blobs[str(digest)].break_off(ZeroDivisionError("a defect"))
        await client.closed()
        self.assertEqual(len(client.received), 1_000_000)
