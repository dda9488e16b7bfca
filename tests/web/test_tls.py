"""The site behind TLS, where bodies are copied."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from twisted.internet.protocol import ClientFactory
from twisted.internet.ssl import ClientContextFactory

from nora.oci.errors import Broken
from nora.process import TLSFactory, load_pair
from nora.web import Limits
from tests.support.authority import Authority
from tests.support.http_client import RawClient, connect
from tests.support.storage_fakes import temporary_folder
from tests.support.web_site import SiteTestCase, reactor

BIG = random.Random(2).randbytes(5_000_001)


class OverTLS(SiteTestCase):
    """A site behind TLS, and clients that speak it."""

    def listen(self) -> Any:
        folder = Path(temporary_folder(self))
        names = [folder / "tls.pem", folder / "tls.key"]
        for name, data in zip(names, Authority().pair(), strict=True):
            name.write_bytes(data)
        factory = TLSFactory(load_pair(*map(str, names)), self.site, reactor)
        return reactor.listenTCP(0, factory, interface="127.0.0.1")

    async def client(self) -> RawClient:
        client = RawClient()
        factory = ClientFactory()
        factory.noisy = False
        factory.buildProtocol = lambda address: client  # type: ignore[method-assign,assignment]
        reactor.connectSSL("127.0.0.1", self.port.getHost().port, factory, ClientContextFactory())
        await client.opened()
        self.clients.append(client)
        return client


class TLSTests(OverTLS):
    """The same promises, over TLS."""

    async def test_blobs(self) -> None:
        """Whole blobs and ranges arrive, pipelined on one connection, although the reader has a file."""
        digest, content = self.pull.add_blob(BIG)
        client = await self.client()
        client.request("GET", f"/v2/x/blobs/{digest}")
        client.request("GET", f"/v2/x/blobs/{digest}", "Range: bytes=10-4000000")
        client.request("GET", "/v2/")
        self.assertTrue((await client.reply()).body == BIG)
        self.assertTrue((await client.reply()).body == BIG[10:4_000_001])
        self.assertEqual((await client.reply()).body, b"{}")
        self.assertGreater(content.readers[0].reads, 0)

    async def test_slow_reader(self) -> None:
        """A client that pauses is waited for without the body piling up in memory."""
        digest, content = self.pull.add_blob(BIG * 2)
        client = await self.client()
        client.request("GET", f"/v2/x/blobs/{digest}")
        await client.head()
        client.transport.pauseProducing()
        await self.turn(0.05)
        self.assertLess(content.readers[0].position, len(BIG) * 2)
        client.transport.resumeProducing()
        await client.has(len(BIG) * 2)
        self.assertTrue(client.received == BIG * 2)

    async def test_broken_midway(self) -> None:
        """A blob that breaks ends the connection short."""
        digest, content = self.pull.add_blob(BIG, available=2_000_000)
        client = await self.client()
        client.request("GET", f"/v2/x/blobs/{digest}")
        await client.head()
        await client.has(2_000_000)
        content.break_off(Broken("the upstream left"))
        await client.closed()
        self.assertEqual(len(client.received), 2_000_000)
        self.assertEqual(content.readers[0].closed, 1)

    async def test_too_long_a_body(self) -> None:
        """The early 413 works on TLS too."""
        client = await self.client()
        client.request("PUT", "/health", "Content-Length: 99999999")
        self.assertEqual((await client.reply()).status, 413)

    async def test_leaving(self) -> None:
        """A client that leaves frees its reader."""
        digest, content = self.pull.add_blob(BIG * 8)
        client = await self.client()
        client.request("GET", f"/v2/x/blobs/{digest}")
        await client.head()
        client.transport.abortConnection()
        await client.closed()
        await self.eventually(lambda: self.site.in_flight == 0)
        self.assertEqual((content.closed, content.readers[0].closed), (1, 1))


class SilenceTests(OverTLS):
    """The deadline of a request holds before the handshake too."""

    limits = Limits(header_timeout=0.2)

    async def test_silence(self) -> None:
        """A client that begins no handshake, or leaves it half done, is closed when its time is over."""
        for said in (b"", b"\x16\x03\x01\x02\x00"):
            client = await connect(reactor, self.port.getHost().port)
            client.transport.write(said)
            await client.closed()
            self.assertEqual(client.received, b"")
        await self.eventually(lambda: not self.site.connections)


class CrowdTests(OverTLS):
    """The bound of connections holds before the handshake too."""

    limits = Limits(max_connections=2)

    async def test_too_many(self) -> None:
        """One connection more than may be is closed at once; the others go on."""
        first, _ = await self.client(), await self.client()
        await self.eventually(lambda: self.site.connections == 2)
        third = await connect(reactor, self.port.getHost().port)
        await third.closed()
        self.assertEqual((await first.ask("GET", "/v2/")).status, 200)
