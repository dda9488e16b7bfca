"""Who is asking: what is believed of a request."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from nora.web import Trusted, Visitor, visitor
from nora.web.forwarded import parse_address
from nora.web.requests import RegistryRequest
from tests.support.web_site import SiteTestCase

UNIX = UNIXAddress(None)


class _Channel:
    version = b"HTTP/1.1"
    transport = None
    _parsePOSTFormSubmission = False

    def __init__(self, client: object, uri: bytes, trusted: tuple[str, ...], secure: bool) -> None:
        self.client = client
        self.uri = uri
        self.trusted = Trusted.parse(trusted)
        self.secure = secure
        self.site = self

    def asked(self) -> tuple[bytes, bytes, bytes]:
        return b"GET", self.uri, self.version

    def isSecure(self) -> bool:
        return self.secure

    def getPeer(self) -> object:
        return self.client

    getHost = getPeer


def peer(address: str) -> object:
    """Make an address as Twisted tells it."""
    made = IPv6Address if ":" in address else IPv4Address
    return made("TCP", address, 50000)


def request(
    client: object, *headers: str, trusted: tuple[str, ...] = (), secure: bool = False, uri: bytes = b"/v2/"
) -> RegistryRequest:
    """Make a request from `client`, with lines of headers, as it is when these are there."""
    channel: Any = _Channel(client, uri, trusted, secure)
    made = RegistryRequest(channel)
    for line in headers:
        name, _, value = line.partition(": ")
        made.requestHeaders.addRawHeader(name.encode(), value.encode("utf-8"))
    return made


class DirectTests(SynchronousTestCase):
    """Requests that come from the client itself, or seem to."""

    def test_plain(self) -> None:
        """The peer's address, the connection's scheme, the Host header."""
        told = visitor(request(peer("192.0.2.1"), "Host: Nora:4000"))
        self.assertEqual(told, Visitor("192.0.2.1", "http", "nora:4000", False))
        told = visitor(request(peer("2001:db8::1"), "Host: nora", secure=True))
        self.assertEqual(told, Visitor("2001:db8::1", "https", "nora", False))
        self.assertEqual(visitor(request(peer("::ffff:192.0.2.1"))), Visitor("192.0.2.1", "http", "", False))

    def test_headers_of_strangers(self) -> None:
        """Nobody but a trusted proxy can say who or where it is."""
        lies = (
            "X-Forwarded-For: 1.1.1.1",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: bank",
            "Forwarded: for=1.1.1.1",
        )
        for trusted in ((), ("10.0.0.0/8", "unix")):
            told = visitor(request(peer("192.0.2.1"), "Host: nora", *lies, trusted=trusted))
            self.assertEqual(told, Visitor("192.0.2.1", "http", "nora", False))
        told = visitor(request(UNIX, "Host: nora", *lies, trusted=("0.0.0.0/0",)))
        self.assertEqual(told, Visitor("", "http", "nora", False))

    def test_host(self) -> None:
        """A hostile host is none; two are none; one in the target wins."""
        self.assertEqual(visitor(request(peer("192.0.2.1"), "Host: a/b")).host, "")
        self.assertEqual(visitor(request(peer("192.0.2.1"), "Host: a", "Host: a")).host, "")
        told = visitor(request(peer("127.0.0.1"), "Host: localhost", uri=b"HTTP://evil.example/v2/"))
        self.assertEqual((told.host, told.local), ("evil.example", False))

    def test_kept(self) -> None:
        """It is found out once, and stays when the connection is gone."""
        asked = request(peer("192.0.2.1"), secure=True)
        asked.uri, asked.site = b"http://nora/v2/", asked.channel.site
        told = visitor(asked)
        self.assertEqual(told, Visitor("192.0.2.1", "https", "nora", False))
        asked.channel = None  # type: ignore[assignment]
        self.assertIs(visitor(asked), told)


class LocalTests(SynchronousTestCase):
    """What counts as a program on this machine."""

    def test_local(self) -> None:
        """A loopback peer that says a loopback name."""
        for client in (*map(peer, ("127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1")), UNIX):
            for host in ("localhost", "localhost:4000", "127.0.0.1:4000", "[::1]:4000", "nora.localhost"):
                self.assertTrue(visitor(request(client, f"Host: {host}")).local, (client, host))

    def test_silent_proxy(self) -> None:
        """HTTP/1.0 from here is nginx without settings: it says the name that it was told to ask, and no more."""
        asked = request(peer("127.0.0.1"), "Host: 127.0.0.1:4000")
        asked.channel.version = b"HTTP/1.0"  # type: ignore[attr-defined]
        self.assertFalse(visitor(asked).local)
        known = request(peer("127.0.0.1"), "Host: 127.0.0.1:4000")
        known.clientproto = b"HTTP/1.0"
        self.assertFalse(visitor(known).local)

    def test_elsewhere(self) -> None:
        """Another peer, or another name."""
        for client in map(peer, ("192.0.2.1", "128.0.0.1", "::2", "::ffff:10.0.0.1", "0.0.0.0", "::")):
            self.assertFalse(visitor(request(client, "Host: localhost")).local, client)
        for host in (
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.0.2.1",
            "",
            "nora",
        ):
            self.assertFalse(visitor(request(peer("127.0.0.1"), f"Host: {host}")).local, host)
        self.assertFalse(visitor(request(peer("127.0.0.1"))).local)

    def test_proxies(self) -> None:
        """A header of a proxy, in any case and even empty: the client may be anywhere, whether or not it is trusted."""
        for name in (
            "Forwarded",
            "X-Forwarded-For",
            "x-forwarded-proto",
            "X-FORWARDED-ANYTHING",
            "X-Real-IP",
            "Via",
        ):
            for trusted in ((), ("127.0.0.1", "unix")):
                for client in (peer("127.0.0.1"), UNIX):
                    told = visitor(request(client, "Host: localhost", f"{name}: ", trusted=trusted))
                    self.assertFalse(told.local, name)


class ProxiedTests(SynchronousTestCase):
    """Requests that a trusted proxy passed on."""

    def ask(
        self, *headers: str, client: object = None, trusted: tuple[str, ...] = ("10.0.0.0/8", "unix")
    ) -> Visitor:
        """Come through the proxy 10.0.0.1 as `http://nora`."""
        return visitor(request(client or peer("10.0.0.1"), "Host: nora", *headers, trusted=trusted))

    def test_x_forwarded(self) -> None:
        """Address, scheme and host are what the proxy says."""
        told = self.ask(
            "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: Hub.example:8443"
        )
        self.assertEqual(told, Visitor("192.0.2.1", "https", "hub.example:8443", False))
        self.assertEqual(
            self.ask("X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 192.0.2.1, 10.9.9.9").address, "192.0.2.1"
        )
        self.assertEqual(self.ask("X-Forwarded-For: 192.0.2.1", client=UNIX).address, "192.0.2.1")
        self.assertEqual(
            self.ask("X-Forwarded-For: 192.0.2.1", client=peer("::ffff:10.0.0.1")).address, "192.0.2.1"
        )

    def test_forwarded(self) -> None:
        """The standard's header says the same; scheme and host are those of the proxy next to the client."""
        told = self.ask(
            "Forwarded: for=6.6.6.6;host=lie, for=192.0.2.1;proto=https;host=hub, for=10.0.0.2;proto=http"
        )
        self.assertEqual(told, Visitor("192.0.2.1", "https", "hub", False))

    def test_nothing_said(self) -> None:
        """A proxy that says nothing, or nothing that can be read, is the visitor itself."""
        own = Visitor("10.0.0.1", "http", "nora", False)
        self.assertEqual(self.ask(), own)
        self.assertEqual(
            self.ask("X-Forwarded-For: unknown", "X-Forwarded-Proto: gopher", "X-Forwarded-Host: a b"), own
        )
        self.assertEqual(self.ask("Forwarded: x"), own)
        self.assertEqual(self.ask(client=UNIX).address, "")

    def test_disagreement(self) -> None:
        """Two headers that disagree are both disbelieved: a proxy sets one of them and passes the client's other on."""
        self.assertEqual(
            self.ask("X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1").address, "192.0.2.1"
        )
        told = self.ask(
            "X-Forwarded-For: 192.0.2.1", "Forwarded: for=6.6.6.6;proto=https", "X-Forwarded-Proto: http"
        )
        self.assertEqual(told, Visitor("10.0.0.1", "http", "nora", False))
        self.assertEqual(self.ask("X-Forwarded-For: 192.0.2.1", 'Forwarded: for="').address, "10.0.0.1")

    @given(
        st.lists(st.tuples(
            st.sampled_from(["X-Forwarded-For", "Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto", "Host"]),
            st.text(st.characters(exclude_characters="\r\n\0", codec="utf-8"), max_size=60),
        ), max_size=6)
    )  # fmt: skip
    def test_any_headers(self, headers: list[tuple[str, str]]) -> None:
        """No headers break it: what comes out is an address, one of two schemes, and never a local client by them."""
        lines = [f"{name}: {value}" for name, value in headers]
        told = visitor(request(peer("10.0.0.1"), *lines, trusted=("10.0.0.0/8",)))
        self.assertIsNotNone(parse_address(told.address))
        self.assertIn(told.scheme, {"http", "https"})
        self.assertFalse(told.local)


class AuditTests(SiteTestCase):
    """The audit log tells the visitor's address."""

    async def test_client(self) -> None:
        """What a proxy says counts once it is trusted, also when that changes while the site runs."""
        for trusted, expected in ((), "127.0.0.1"), (("127.0.0.0/8",), "192.0.2.1"):
            self.site.trusted = Trusted.parse(trusted)
            await self.ask("GET", "/v2/x/manifests/1", "X-Forwarded-For: 6.6.6.6, 192.0.2.1")
            await self.eventually(lambda: bool(self.events.list))
            self.assertEqual(self.events.list.pop().client, expected)

    async def test_refused_body(self) -> None:
        """A request that is refused before it is there has an address too."""
        self.site.trusted = Trusted.parse(["127.0.0.1"])
        reply = await self.ask(
            "DELETE", "/v2/x/manifests/1", "Content-Length: 99999999", "X-Forwarded-For: 192.0.2.1"
        )
        self.assertEqual((reply.status, json.loads(reply.body)["errors"][0]["code"]), (413, "SIZE_INVALID"))
