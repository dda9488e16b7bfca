"""TLS to upstreams: verified, always."""

from __future__ import annotations

from nora.oci import Digest, Tag
from nora.oci.errors import Broken, Unavailable, Unverified
from tests.support.authority import Authority
from tests.support.fake_upstream import Fault
from tests.support.upstreams import IMAGE, LAYER, REPOSITORY, UpstreamTestCase

ONE = Tag("1")
LAYER_DIGEST = Digest.of(LAYER)


class TLSTests(UpstreamTestCase):
    """TLS is verified, always."""

    async def test_private_authority(self) -> None:
        """With the authority's certificate a private registry is trusted, its token service and blobs too."""
        authority = Authority()
        upstream = await self.filled(authority=authority, auth=True)
        client = self.registry(upstream.url, ca_file=self.ca_file(authority))
        self.assertEqual((await client.manifest(REPOSITORY, ONE)).digest, IMAGE.digest)
        self.assertEqual(await self.download(client, LAYER_DIGEST), LAYER)

    async def test_unknown_authority(self) -> None:
        """A certificate that nobody vouches for is refused, with OpenSSL's reason."""
        authority = Authority()
        upstream = await self.filled(authority=authority)
        for ca_file in (None, self.ca_file(Authority("another"))):
            client = self.registry(upstream.url, ca_file=ca_file)
            error = await self.fails(client.manifest(REPOSITORY, ONE), Unavailable)
            self.assertIn("certificate verify failed", error.message)
        self.assertEqual(upstream.requests, [])

    async def test_wrong_host(self) -> None:
        """A certificate for another host is refused."""
        authority = Authority()
        upstream = await self.filled(authority=authority, certified="registry.example")
        client = self.registry(upstream.url, ca_file=self.ca_file(authority))
        error = await self.fails(client.manifest(REPOSITORY, ONE), Unavailable)
        self.assertIn("not for this host", error.message)
        self.assertEqual(upstream.requests, [])

    async def test_never_down_to_http(self) -> None:
        """Neither a redirect nor a challenge leads from https to http."""
        authority = Authority()
        upstream, plain = await self.filled(authority=authority), await self.filled()
        client = self.registry(upstream.url, ca_file=self.ca_file(authority))
        upstream.fault("/v2/*/blobs/*", Fault(redirect=plain.url + "{path}"))
        await self.fails(client.blob(REPOSITORY, LAYER_DIGEST), Unverified)
        upstream.auth = True
        upstream.challenge = f'Bearer realm="{plain.url}/token"'
        await self.fails(client.manifest(REPOSITORY, ONE), Unavailable)
        self.assertEqual(plain.requests, [])

    async def test_plain_server(self) -> None:
        """A server that speaks no TLS is unavailable."""
        _, url = self.silent(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        client = self.registry(url.replace("http:", "https:"), proxy_timeout=5.0)
        error = await self.fails(client.manifest(REPOSITORY, ONE), Unavailable)
        self.assertIn("TLS", error.message)

    async def test_stalled_transfer_is_closed_for_real(self) -> None:
        """Giving up a transfer over TLS closes the connection, though the other side reads nothing."""
        authority = Authority()
        upstream = await self.filled(authority=authority)
        upstream.fault("*", Fault(stall=5000))
        client = self.registry(upstream.url, ca_file=self.ca_file(authority))
        transfer = await client.blob(REPOSITORY, LAYER_DIGEST)
        done = transfer.deliver(lambda _: None)
        transfer.abort()
        await self.assertFailure(done, Broken)
        await self.until(lambda: upstream.closed == upstream.connections)

    async def test_authority_file(self) -> None:
        """A file without a certificate, or none at all, is told when the client is built."""
        authority = Authority()
        path = self.ca_file(authority)
        self.registry("https://127.0.0.1", ca_file=path)
        with open(path, "wb") as file:
            file.write(b"nothing")
        with self.assertRaises(ValueError):
            self.registry("https://127.0.0.1", ca_file=path)
        with self.assertRaises(OSError):
            self.registry("https://127.0.0.1", ca_file=path + ".missing")
