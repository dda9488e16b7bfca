"""The site behind TLS, where bodies are copied."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import random
import tempfile
from datetime import datetime, timedelta, timezone
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet.protocol import ClientFactory
from twisted.internet.ssl import ClientContextFactory, DefaultOpenSSLContextFactory

from nora.oci.errors import Broken
from tests.support.http_client import RawClient
from tests.support.web_site import SiteTestCase, reactor

BIG = random.Random(2).randbytes(5_000_001)


def certificate() -> bytes:
    """Make a key and a certificate that signs itself, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nora.example")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem + made.public_bytes(serialization.Encoding.PEM)


class OverTLS(SiteTestCase):
    """A site behind TLS, and clients that speak it."""

    def listen(self) -> Any:
        with tempfile.NamedTemporaryFile() as file:
            file.write(certificate())
            file.flush()
            context = DefaultOpenSSLContextFactory(file.name, file.name)
        return reactor.listenSSL(0, self.site, context, interface="127.0.0.1")

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
        digest, content = self.pull.add_blob(BIG * 4)
        client = await self.client()
        client.request("GET", f"/v2/x/blobs/{digest}")
        await client.head()
        client.transport.pauseProducing()
        await self.turn(0.05)
        self.assertLess(content.readers[0].position, len(BIG) * 4)
        client.transport.resumeProducing()
        await client.has(len(BIG) * 4)
        self.assertTrue(client.received == BIG * 4)

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
