"""What proxies say of clients: hostile headers, read from the right end."""

from __future__ import annotations

import ipaddress
import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.web.forwarded import (
    MAX_HOPS,
    Hop,
    Trusted,
    farthest,
    hops,
    hosts_loopback,
    listed,
    parse_address,
    parse_host,
    parse_node,
    parse_scheme,
)

ADDRESSES = st.ip_addresses()
LINES = st.one_of(
    st.text(max_size=200),
    st.lists(
        st.sampled_from(
            ["for", "proto", "host", "=", '"', "\\", ";", ",", " ", "1.2.3.4", "[::1]", "x", "http", ":8"]
        ),
        max_size=20,
    ).map("".join),
)


class AddressTests(SynchronousTestCase):
    """Addresses, in all the clothes they come in."""

    def test_node(self) -> None:
        """Ports and brackets are taken off; what is no address is None."""
        for text, expected in (
            ("1.2.3.4", "1.2.3.4"),
            ("1.2.3.4:80", "1.2.3.4"),
            ("2001:DB8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:443", "2001:db8::7"),
            ("[::1]:_port", "::1"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("[::ffff:1.2.3.4]:9", "1.2.3.4"),
        ):
            self.assertEqual(str(parse_node(text)), expected)
        for text in (
            *("", "unknown", "_hidden", "1.2.3", "01.2.3.4", "1.2.3.4:", "1.2.3.4:x", "256.1.1.1"),
            *(
                "fe80::1%eth0",
                "[fe80::1%25eth0]",
                "[1.2.3.4",
                "1.2.3.4 ",
                "1.2.3.4\n",
                "[::1]:99999x",
                "\uff11.2.3.4",
            ),
        ):
            self.assertIsNone(parse_node(text), text)

    @given(ADDRESSES, st.none() | st.integers(0, 65535))
    def test_any_address(
        self, address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int | None
    ) -> None:
        """Every address is read from every form that it may have."""
        expected = parse_address(str(address))
        bare = f"[{address}]" if address.version == 6 else str(address)
        self.assertEqual(parse_node(bare if port is None else f"{bare}:{port}"), expected)

    @given(st.text(max_size=60))
    def test_any_text(self, text: str) -> None:
        """No text breaks the reading, and what it gives is an address."""
        found = parse_node(text)
        if found is not None:
            self.assertEqual(parse_address(str(found)), found)


class HostTests(SynchronousTestCase):
    """What a client calls this server."""

    def test_hosts(self) -> None:
        """Names and addresses, with a port or without; in lower case."""
        for text in (
            "localhost",
            "nora.internal:4000",
            "127.0.0.1:1",
            "[::1]:65535",
            "[2001:db8::1]",
            "my_nora",
            "a",
        ):
            self.assertEqual(parse_host(text.upper()), text)
        for text in (
            *(
                "",
                ":80",
                "a:0",
                "a:65536",
                "a:123456",
                "a b",
                "a/b",
                "a@b",
                "a,b",
                "a\n",
                "a:80\n",
                "a..b",
                ".a",
            ),
            *(
                "a.",
                "-a",
                "a-",
                "::1",
                "[::1",
                "[1.2.3.4]x",
                "[fe80::1%25e]",
                "127.1",
                "1.2.3.4.5",
                "a%",
                "é",
                "<a>",
            ),
            *("a" * 64, ".".join(["a" * 60] * 5), "localhost#", "localhost\0"),
        ):
            self.assertEqual(parse_host(text), "", text)

    def test_loopback(self) -> None:
        """Only what names this machine to itself is a loopback name."""
        for text in (
            *(
                "localhost",
                "localhost:4000",
                "nora.localhost:1",
                "127.0.0.1",
                "127.9.8.7:80",
                "[::1]",
                "[::1]:5",
            ),
            "[::ffff:127.0.0.1]:80",
        ):
            self.assertTrue(hosts_loopback(parse_host(text)), text)
        for text in (
            *(
                "",
                "localhost.example",
                "127.0.0.1.example:80",
                "xlocalhost",
                "128.0.0.1",
                "0.0.0.0",
                "[::2]:1",
                "[::]",
            ),
            *("nora", "127.0.0.1@example.com", "10.0.0.1:127"),
        ):
            self.assertFalse(hosts_loopback(parse_host(text)), text)

    @given(LINES)
    def test_any_text(self, text: str) -> None:
        """What is taken for a host can be put into a URL: nothing in it ends the host."""
        found = parse_host(text)
        self.assertLess(len(found), 260)
        self.assertTrue(
            found == "" or re.fullmatch(r"[a-z0-9_.-]+(:\d+)?|\[[0-9a-f:.]+\](:\d+)?", found), found
        )

    def test_scheme(self) -> None:
        """Only the two schemes are."""
        self.assertEqual(
            [parse_scheme(text) for text in ("HTTPS", " http ", "ftp", "", "https,http")],
            [*("https", "http", "", "", "")],
        )


class ForwardedTests(SynchronousTestCase):
    """The `Forwarded` header of RFC 7239."""

    def one(self, line: str) -> Hop | None:
        """Read a line with one element."""
        (hop,) = hops([line])
        return hop

    def test_elements(self) -> None:
        """The RFC's own examples, and what they have in common with practice."""
        self.assertEqual(self.one('for="_gazonk"'), Hop(None))
        self.assertEqual(
            self.one('For="[2001:db8:cafe::17]:4711"'), Hop(ipaddress.ip_address("2001:db8:cafe::17"))
        )
        self.assertEqual(
            self.one('for=192.0.2.60;proto=HTTPS;by=203.0.113.43 ; host="nora.internal:4000"'),
            Hop(ipaddress.ip_address("192.0.2.60"), "https", "nora.internal:4000"),
        )
        found = hops(["for=192.0.2.43, for=198.51.100.17", "proto=http"])
        self.assertEqual([str(hop and hop.address) for hop in found], ["192.0.2.43", "198.51.100.17", "None"])
        self.assertEqual(self.one('for="1.2.3.\\4";;'), Hop(ipaddress.ip_address("1.2.3.4")))
        self.assertEqual(hops([]), [])

    def test_malformed(self) -> None:
        """A line that cannot be read whole is not read in part; the lines after it are."""
        for line in (
            *(
                "",
                "x",
                "for",
                "for=",
                "=1.2.3.4",
                'for="1.2.3.4',
                "for=1.2.3.4 x",
                'for=1.2.3.4;by="',
                "for=1;for=2",
            ),
            *("for=[::1]x y", "for = 1.2.3.4", 'for=9.9.9.9;by=", for="[2001:db8::1]"', "x=" + "y" * 8192),
        ):
            self.assertEqual(hops([line, "for=1.2.3.4"]), [None, Hop(ipaddress.ip_address("1.2.3.4"))], line)

    def test_bound(self) -> None:
        """Of too many elements the last are read."""
        many = ", ".join(f"for=10.0.0.{number}" for number in range(200))
        found = hops([many[:2000].rpartition(",")[0]])
        self.assertEqual(len(found), MAX_HOPS)

    @given(LINES, LINES)
    def test_any_line(self, first: str, second: str) -> None:
        """No line breaks the reading, and none reaches into the next one."""
        self.assertEqual(hops([first, second])[-1:], hops([second])[-1:])


class ListTests(SynchronousTestCase):
    """Lists such as `X-Forwarded-For`, and how far they are believed."""

    def believed(self, said: str, *trusted: str) -> str | None:
        """Tell which address of a list is believed in the end."""
        addresses = [parse_node(word) for word in listed([said])]
        count = farthest(addresses, Trusted.parse(trusted))
        return str(addresses[-count]) if count else None

    def test_from_the_right(self) -> None:
        """The first address from the right that is no trusted proxy is the client; what is left of it is its own."""
        self.assertEqual(self.believed("6.6.6.6, 1.2.3.4"), "1.2.3.4")
        self.assertEqual(self.believed("6.6.6.6, 1.2.3.4, 10.0.0.9", "10.0.0.0/8"), "1.2.3.4")
        self.assertEqual(self.believed("10.0.0.1, 10.0.0.9", "10.0.0.0/8"), "10.0.0.1")
        self.assertEqual(self.believed("1.2.3.4, ::ffff:10.0.0.9", "10.0.0.0/8"), "1.2.3.4")
        self.assertEqual(self.believed("1.2.3.4, 2001:db8::9", "10.0.0.0/8", "2001:db8::/32"), "1.2.3.4")

    def test_unreadable(self) -> None:
        """What cannot be read ends the reading."""
        self.assertEqual(self.believed("1.2.3.4, unknown, 10.0.0.9", "10.0.0.0/8"), "10.0.0.9")
        self.assertIsNone(self.believed("1.2.3.4, unknown", "10.0.0.0/8"))

    def test_listed(self) -> None:
        """Lines are one list; empty words are none; of too many the last are taken, each whole."""
        self.assertEqual(listed(["a, b", " ,c,"]), ["a", "b", "c"])
        self.assertEqual(listed([]), [])
        words = [f"10.0.0.{number}" for number in range(100)]
        self.assertEqual(listed([",".join(words)]), words[-MAX_HOPS:])

    @given(st.lists(ADDRESSES, max_size=6), st.lists(ADDRESSES, min_size=1, max_size=6), ADDRESSES)
    def test_nobody_can_lie(self, invented: list[object], proxies: list[object], client: object) -> None:
        """Whatever a client sends, its own address is what comes out, as long as it is no proxy."""
        trusted = Trusted.parse(map(str, proxies))
        mine = parse_address(str(client))
        assert mine is not None
        if trusted.has(mine):
            return
        chain = [
            *invented,
            client,
            *(proxy for proxy in proxies if getattr(proxy, "ipv4_mapped", None) is None),
        ]
        said = [parse_node(word) for word in listed([", ".join(map(str, chain))])]
        self.assertEqual(said[-farthest(said, trusted)], mine)
