"""Long uploads over real sockets: memory stays flat, and a refusal reaches a client that is still sending."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import deferLater
from zope.interface import implementer

from nora.concurrency import Pump
from nora.oci import Digest
from nora.oci.errors import Denied, NoSpace
from nora.push.interfaces import Body, Target
from tests.support.http_client import RawClient
from tests.support.push_fakes import FakePush
from tests.support.push_site import PushSiteTestCase
from tests.web.test_tls import OverTLS

reactor: Any = _reactor
MIB = 1024 * 1024
PIECE = bytes(range(256)) * 4096


def resident() -> int:
    """Tell how many bytes of memory this process has now."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@implementer(IPushProducer)
class Pouring:
    """Writes `total` bytes as fast as the socket takes them."""

    def __init__(self, client: RawClient, total: int) -> None:
        self._client = client
        self._left = total
        client.transport.registerProducer(self, True)
        self._running = True
        self._go()

    def _go(self) -> None:
        while self._running and self._left:
            piece = PIECE[: self._left]
            self._left -= len(piece)
            self._client.transport.write(piece)
        if not self._left:
            self._client.transport.unregisterProducer()
            self._running = False

    def pauseProducing(self) -> None:
        """Stop."""
        self._running = False

    def resumeProducing(self) -> None:
        """Go on."""
        self._running = True
        self._go()

    def stopProducing(self) -> None:
        """End: the connection is lost."""
        self._running = False
        self._left = 0


class SlowPush(FakePush):
    """A push that hashes what comes and keeps nothing, half a millisecond a hop; `limit` is where the disk is full."""

    limit: int | None = None
    largest = 0
    resident = 0

    async def upload(self, target: Target, digest: Digest, body: Body, rights: Any) -> int:
        """Take a blob through a pump, as the real one does."""
        hasher = hashlib.sha256()
        size = 0

        def append(chunks: Any) -> Any:
            nonlocal size
            data = b"".join(chunks)
            self.largest = max(self.largest, len(data))
            self.resident = max(self.resident, resident())
            size += len(data)
            if self.limit is not None and size > self.limit:
                raise NoSpace("full")
            hasher.update(data)

        def later(chunks: Any) -> Any:
            return deferLater(reactor, 0.0005, append, chunks)

        await Pump(body, later, 0, lambda: None).run()
        self.blobs[target.name, f"sha256:{hasher.hexdigest()}"] = b""
        return size


class StreamTests(PushSiteTestCase):
    """Long bodies, in cleartext."""

    def setUp(self) -> None:
        """Push slowly."""
        super().setUp()
        self.push = self.slow = SlowPush()
        self.backend.push = self.push

    async def test_memory_is_flat(self) -> None:
        """200 MiB, fixed length, to a disk slower than the socket: whole, right, and never in memory."""
        total = 200 * MIB
        hasher = hashlib.sha256()
        for _ in range(200):
            hasher.update(PIECE)
        digest = f"sha256:{hasher.hexdigest()}"
        before = resident()
        client = await self.client()
        client.request("POST", f"/v2/a/blobs/uploads/?digest={digest}", f"Content-Length: {total}")
        Pouring(client, total)
        reply = await client.reply()
        self.assertEqual((reply.status, list(self.push.blobs)), (201, [("a", digest)]))
        self.assertLess(self.slow.largest, 2 * MIB)
        self.assertLess(self.slow.resident - before, 24 * MIB)
        self.assertEqual(self.count("nora_uploaded_bytes_total"), total)
        self.assertEqual((await client.ask("GET", "/v2/")).status, 200)

    async def test_large_reads(self) -> None:
        """While a body streams, one read of the socket may bring much of it; between requests no more than usual."""
        client = await self.client()
        await client.ask("GET", "/v2/")
        (channel,) = self.site._channels
        connection = getattr(channel.transport, "transport", channel.transport)
        seen: set[int] = set()
        push = FakePush()
        push.taken = lambda body, chunk: seen.add(connection.bufferSize)
        self.backend.push = push
        client.request("POST", f"/v2/a/blobs/uploads/?digest={Digest.of(PIECE)}", f"Content-Length: {MIB}")
        client.transport.write(PIECE)
        self.assertEqual((await client.reply()).status, 201)
        self.assertEqual((seen, connection.bufferSize), ({512 * 1024}, 64 * 1024))

    async def test_refused_while_sending(self) -> None:
        """A client that sends without waiting still reads why it was refused."""
        denying = FakePush()
        denying.error = Denied("no")
        self.slow.limit = 3 * MIB
        for push, status in ((denying, 403), (self.slow, 503)):
            self.backend.push = push
            client = await self.client()
            client.request(
                "POST", f"/v2/a/blobs/uploads/?digest={Digest.of(b'')}", f"Content-Length: {200 * MIB}"
            )
            Pouring(client, 200 * MIB)
            reply = await client.reply()
            self.assertEqual((reply.status, reply.headers["connection"]), (status, "close"))
            await client.closed()
            await self.eventually(lambda: self.site.in_flight == 0)
            self.assertFalse(self.events.list[-1].aborted)

    async def test_abort_in_the_middle(self) -> None:
        """A client that goes frees everything, and leaves nothing behind."""
        client = await self.client()
        client.request(
            "POST", f"/v2/a/blobs/uploads/?digest={Digest.of(b'')}", f"Content-Length: {200 * MIB}"
        )
        client.transport.write(PIECE * 4)
        await self.eventually(lambda: self.site.in_flight == 1)
        client.transport.abortConnection()
        await client.closed()
        await self.eventually(lambda: self.site.in_flight == 0 and not len(self.background))
        self.assertEqual(self.push.blobs, {})


class TLSStreamTests(OverTLS, StreamTests):
    """The same, over TLS, whose layer has buffers of its own."""
