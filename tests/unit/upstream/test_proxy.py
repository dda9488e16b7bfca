"""Upstreams behind a proxy, on real sockets, and the rules of which request goes by it."""

from __future__ import annotations

import base64
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Digest, Tag
from nora.oci.errors import TimedOut, Unavailable, Unverified
from nora.upstream.proxy import Exempt, Proxies, Proxy
from nora.upstream.registry import Registry
from tests.support.authority import Authority
from tests.support.connect_proxy import ConnectProxy
from tests.support.fake_upstream import FakeUpstream, Fault
from tests.support.upstreams import IMAGE, LAYER, REACTOR, REPOSITORY, UpstreamTestCase

ONE = Tag("1")
LAYER_DIGEST = Digest.of(LAYER)
HOST = "registry.example"
SECRET = "puller:s3cret-word"


class ProxiedTests(UpstreamTestCase):
    """A registry that only the proxy can reach: its name resolves nowhere here."""

    def proxy(self, target: int) -> ConnectProxy:
        """Start a proxy to that port."""
        proxy = ConnectProxy(REACTOR, target)
        proxy.start()
        self.addCleanup(proxy.stopped)
        return proxy

    def through(self, port: int, url: str, user: str | None = None, **options: Any) -> Registry:
        """Build a client whose requests all go by the proxy at `port`."""
        own = Proxy("127.0.0.1", port, user)
        return self.registry(url, proxies=Proxies(own, own), **options)

    async def behind(self, **options: Any) -> tuple[FakeUpstream, ConnectProxy]:
        """Start a registry and a proxy to it."""
        upstream = await self.filled(host=HOST, **options)
        return upstream, self.proxy(upstream.port)

    async def test_tls(self) -> None:
        """TLS ends at the upstream, verified for its name: the proxy sees where it goes and nothing more."""
        authority = Authority()
        upstream, proxy = await self.behind(authority=authority, certified=HOST, auth=True)
        client = self.through(proxy.port, upstream.url, SECRET, ca_file=self.ca_file(authority))
        self.assertEqual((await client.manifest(REPOSITORY, ONE)).digest, IMAGE.digest)
        self.assertEqual(await self.download(client, LAYER_DIGEST), LAYER)
        self.assertEqual(set(proxy.targets), {f"{HOST}:443"})
        self.assertNotIn(b"/v2/", proxy.through)
        encoded = base64.b64encode(SECRET.encode()).decode()
        self.assertIn(f"Proxy-Authorization: Basic {encoded}\r\n", proxy.heads[0])
        self.assertIn(f"Host: {HOST}:443\r\n", proxy.heads[0])

    async def test_tls_is_verified(self) -> None:
        """A certificate for another host than the upstream's is refused, through a proxy too."""
        authority = Authority()
        upstream, proxy = await self.behind(authority=authority, certified="other.example")
        client = self.through(proxy.port, upstream.url, ca_file=self.ca_file(authority))
        error = await self.fails(client.manifest(REPOSITORY, ONE), Unavailable)
        self.assertIn("not for this host", error.message)

    async def test_plain(self) -> None:
        """http goes by CONNECT as well, and the proxy's credential never goes into the tunnel."""
        upstream, proxy = await self.behind()
        client = self.through(proxy.port, upstream.url, SECRET)
        self.assertEqual(await self.download(client, LAYER_DIGEST), LAYER)
        self.assertEqual(set(proxy.targets), {f"{HOST}:80"})
        self.assertNotIn(b"proxy-authorization", proxy.through.lower())
        self.assertIn(b"GET /v2/", proxy.through)

    async def test_without_credential(self) -> None:
        """Nothing is sent to a proxy that asks for nothing."""
        upstream, proxy = await self.behind()
        await self.through(proxy.port, upstream.url).manifest(REPOSITORY, ONE)
        self.assertNotIn("authorization", proxy.heads[0].lower())

    async def answers(self, answer: bytes, **options: Any) -> Exception:
        """Ask through a proxy that says this, and give the error; nothing stays open."""
        proxy = self.proxy(1)
        proxy.answer, proxy.closes = answer, options.pop("closes", False)
        client = self.through(proxy.port, f"https://{HOST}", SECRET, **options)
        error = await self.failure(client.manifest(REPOSITORY, ONE))
        assert isinstance(error, Exception)
        await self.until(lambda: not proxy.open)
        for secret in (SECRET, "s3cret-word", base64.b64encode(SECRET.encode()).decode()):
            self.assertNotIn(secret, f"{error} {error!r}")
        return error

    async def test_refused(self) -> None:
        """A refusal is told with its status."""
        error = await self.answers(b"HTTP/1.1 407 Who are you\r\nContent-Length: 5\r\n\r\nno no")
        self.assertIs(type(error), Unavailable)
        self.assertIn("the proxy refused: 407", str(error))

    async def test_bad_answers(self) -> None:
        """What is no answer to CONNECT ends the attempt: no HTTP, too long, too much, an early end."""
        for answer, closes, words in (
            (b"SSH-2.0-OpenSSH\r\n\r\n", False, "not HTTP"),
            (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000, False, "too long"),
            (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", False, "too long"),
            (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n", False, "more than its answer"),
            (b"HTTP/1.1 2", True, "closed the connection"),
        ):
            error = await self.answers(answer, closes=closes)
            self.assertIs(type(error), Unavailable)
            self.assertIn(words, str(error))

    async def test_slow(self) -> None:
        """A proxy that does not come to an end is given up after `connect_timeout`."""
        error = await self.answers(b"HTTP/1.1 200 OK\r\n", connect_timeout=0.2)
        self.assertIs(type(error), TimedOut)

    async def test_cancelled(self) -> None:
        """Who runs out of time while the proxy is asked leaves no connection."""
        error = await self.answers(b"HTTP/1.1 200 OK\r\n", proxy_timeout=0.2)
        self.assertIs(type(error), TimedOut)

    async def test_dead(self) -> None:
        """A proxy that is down, or has no address, is named as the culprit."""
        dead = self.proxy(1)
        await dead.stop()
        client = self.through(dead.port, f"https://{HOST}")
        error = await self.fails(client.manifest(REPOSITORY, ONE), Unavailable)
        self.assertIn("no connection to the proxy", error.message)
        own = Proxy("no-such-proxy.invalid", 3128)
        client = self.registry(f"https://{HOST}", proxies=Proxies(own, own))
        error = await self.fails(client.manifest(REPOSITORY, ONE), Unavailable)
        self.assertIn("no connection to the proxy", error.message)

    async def test_redirects_to_the_inside(self) -> None:
        """A redirect to an address that is not public is refused, in any spelling, and never asked of the proxy."""
        upstream, proxy = await self.behind()
        client = self.through(proxy.port, upstream.url)
        for inside in (
            "10.0.0.1",
            "169.254.169.254",
            "127.0.0.1:1",
            "localhost:1",
            "[fd00::1]",
            "[::ffff:10.0.0.1]",
        ):
            upstream.fault("/v2/*/blobs/*", Fault(redirect=f"http://{inside}" + "{path}"))
            await self.fails(client.blob(REPOSITORY, LAYER_DIGEST), Unverified)
        for odd in ("127.1", "0x7f000001", "2130706433", "0177.0.0.1", "10.0.0.1."):
            upstream.fault("/v2/*/blobs/*", Fault(redirect=f"http://{odd}" + "{path}"))
            await self.fails(client.blob(REPOSITORY, LAYER_DIGEST), Unverified)
        self.assertEqual(set(proxy.targets), {f"{HOST}:80"})

    async def test_redirects_elsewhere(self) -> None:
        """A redirect to a name goes by the proxy too."""
        upstream, proxy = await self.behind()
        upstream.fault("/v2/*/blobs/*", Fault(redirect="http://storage.example{path}", times=1))
        client = self.through(proxy.port, upstream.url)
        self.assertEqual(await self.download(client, LAYER_DIGEST), LAYER)
        self.assertEqual(set(proxy.targets), {f"{HOST}:80", "storage.example:80"})

    async def test_private_upstream(self) -> None:
        """An upstream that is private itself may be asked through the proxy, and redirect to its like."""
        upstream = await self.filled()
        proxy = self.proxy(upstream.port)
        upstream.fault("/v2/*/blobs/*", Fault(redirect="http://10.0.0.2{path}", times=1))
        client = self.through(proxy.port, "http://10.0.0.1")
        self.assertEqual(await self.download(client, LAYER_DIGEST), LAYER)
        self.assertEqual(set(proxy.targets), {"10.0.0.1:80", "10.0.0.2:80"})

    async def test_loopback_is_asked_directly(self) -> None:
        """A registry on this very machine is never asked through a proxy."""
        upstream = await self.filled()
        proxy = self.proxy(upstream.port)
        await self.through(proxy.port, upstream.url).manifest(REPOSITORY, ONE)
        self.assertEqual(proxy.heads, [])


class ChoiceTests(SynchronousTestCase):
    """Which proxy a request goes by."""

    def test_schemes(self) -> None:
        """Each scheme has its own."""
        one, two = Proxy("one", 1), Proxy("two", 2)
        proxies = Proxies(one, two)
        self.assertIs(proxies.choose("http", "a.example", 80), one)
        self.assertIs(proxies.choose("https", "a.example", 443), two)
        self.assertIsNone(Proxies(one).choose("https", "a.example", 443))

    def test_loopback(self) -> None:
        """This machine is never proxied."""
        proxies = Proxies(Proxy("one", 1))
        for host in ("localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.8.8.8", "::1"):
            self.assertIsNone(proxies.choose("http", host, 80))

    def test_exempt(self) -> None:
        """`NO_PROXY` names hosts and what is below them, ports, addresses, networks."""
        exempt = Exempt(
            "Example.com, .dot.example *.star.example,port.example:5000 10.0.0.0/8,192.0.2.1,[fd00::1]:5000,"
        )
        for host, port in (
            ("example.com", 443),
            ("a.example.com", 443),
            ("dot.example", 443),
            ("a.dot.example", 443),
            ("b.star.example", 443),
            ("port.example", 5000),
            ("10.1.2.3", 443),
            ("192.0.2.1", 443),
            ("fd00::1", 5000),
        ):
            self.assertTrue(exempt.covers(host, port), host)
        for host, port in (
            ("badexample.com", 443),
            ("example.com.evil", 443),
            ("port.example", 443),
            ("11.1.2.3", 443),
            ("192.0.2.11", 443),
            ("fd00::1", 443),
        ):
            self.assertFalse(exempt.covers(host, port), host)
        self.assertTrue(Exempt("a.example, *").covers("any.example", 1))
        self.assertFalse(Exempt("").covers("any.example", 1))

    def test_repr(self) -> None:
        """The credential is not shown."""
        self.assertNotIn("s3cret", repr(Proxies(Proxy("one", 1, SECRET))))
