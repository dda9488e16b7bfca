"""Hosts and origins: one spelling for each, and nothing else gets through."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.config import hosts
from nora.config.hosts import Malformed


class HostTests(SynchronousTestCase):
    """`parse_host` and `parse_name`."""

    def test_spellings(self) -> None:
        """Hosts come out in lower case and addresses in their shortest form."""
        for text, host in {
            "Nora.Internal": "nora.internal",
            "127.0.0.1": "127.0.0.1",
            "0:0::1": "::1",
            "::": "::",
            "a_b-c.d": "a_b-c.d",
        }.items():
            self.assertEqual(hosts.parse_host(text), host)

    def test_no_hosts(self) -> None:
        """What is neither a name nor an address is refused."""
        for text in (
            "",
            "a b",
            "1.2.3.256",
            "1.2.3",
            "[::1]",
            "-a",
            "a-.b",
            "a..b",
            "a.",
            "ä",
            "a/b",
            "a" * 64,
            "a." * 127 + "ab",
            "a\n",
            "::g",
        ):
            with self.assertRaises(Malformed, msg=text):
                hosts.parse_host(text)

    def test_names(self) -> None:
        """A name may have a port; the default ones of both schemes go."""
        for text, name in {
            "GHCR.io": "ghcr.io",
            "ghcr.io:443": "ghcr.io",
            "nora:80": "nora",
            "nora:4000": "nora:4000",
            "[0::1]:5000": "[::1]:5000",
            "nora:08443": "nora:8443",
        }.items():
            self.assertEqual(hosts.parse_name(text), name)

    def test_no_names(self) -> None:
        """Ports out of range and addresses without brackets are refused."""
        for text in (
            "",
            ":1",
            "a:",
            "a:0",
            "a:65536",
            "a:b",
            "::1",
            "[a]",
            "[::1",
            "a:1:2",
            "[fe80::1%eth0]:1",
            "[]",
        ):
            with self.assertRaises(Malformed, msg=text):
                hosts.parse_name(text)

    def test_docker_hub_has_one_name(self) -> None:
        """All hosts of Docker Hub are one namespace."""
        for host in ("docker.io", "index.docker.io", "registry-1.docker.io"):
            self.assertEqual(hosts.canonical_namespace(host), "docker.io")
        self.assertEqual(hosts.canonical_namespace("ghcr.io"), "ghcr.io")


class OriginTests(SynchronousTestCase):
    """`parse_origin`."""

    def test_spellings(self) -> None:
        """Scheme and host are lower case, a slash and the scheme's own port go."""
        for text, origin, namespace in (
            ("HTTPS://Registry-1.docker.io/", "https://registry-1.docker.io", "docker.io"),
            ("https://ghcr.io:443", "https://ghcr.io", "ghcr.io"),
            ("http://ghcr.io:443", "http://ghcr.io:443", "ghcr.io"),
            ("http://localhost:5000", "http://localhost:5000", "localhost:5000"),
            ("http://[::1]:80", "http://[::1]", "[::1]"),
        ):
            parsed = hosts.parse_origin(text)
            self.assertEqual((str(parsed), parsed.namespace), (origin, namespace))

    def test_reasons(self) -> None:
        """What is too much or too little is said, and nothing of the URL is."""
        for text, reason in {
            "ghcr.io": "be a URL that begins with http:// or https://",
            "ftp://ghcr.io": "be a URL that begins with http:// or https://",
            "https://bob:secret@ghcr.io": "not carry a user name or a password",
            "https://ghcr.io/?token=secret": "not have a query or a fragment",
            "https://ghcr.io#secret": "not have a query or a fragment",
            "https://ghcr.io/v2/": "not have a path",
            "https:///": "be host or host:port after https://",
            "https://ghcr.io:99999": "have a port from 1 to 65535 after https://",
        }.items():
            with self.assertRaises(Malformed) as caught:
                hosts.parse_origin(text)
            self.assertEqual(str(caught.exception), reason)

    @given(
        st.one_of(st.text(max_size=40), st.text("htps:/@[]:.?#-019aé\n ", max_size=40).map("http://".__add__))
    )
    def test_anything(self, text: str) -> None:
        """Any text is either refused or has one spelling, which reads as itself."""
        try:
            origin = hosts.parse_origin(text)
        except Malformed:
            return
        self.assertEqual(hosts.parse_origin(str(origin)), origin)
        self.assertEqual(hosts.parse_name(origin.namespace), origin.namespace)
        self.assertRegex(str(origin), r"\Ahttps?://[a-z0-9._:\[\]-]+\Z")
