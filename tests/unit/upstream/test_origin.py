"""Reading the URLs that upstreams give."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import URI

from nora.upstream.origin import BadURL, Origin, follow, path_of

_BAD = [
    "",
    "ftp://h/",
    "file:///etc/passwd",
    "https:///x",
    "https://user:secret@h/",
    "https://h@evil/",
    "https://h\\@evil/",
    "https://h:0/",
    "https://h:65536/",
    "https://h:/",
    "https://h x/",
    "https://h/\u00e4",
    "https://[::1/",
    "https://[1.2.3.4]/",
    "https://-/",
    "https://h/\r\nX: y",
    "https://h/" + "x" * 20_000,
]


class OriginTests(SynchronousTestCase):
    """One strict reading of whom a URL is for."""

    def test_reads(self) -> None:
        """Scheme and host are compared lower-case, the port is always there."""
        self.assertEqual(Origin.of("HTTPS://Ghcr.IO/v2/?x#y"), Origin("https", "ghcr.io", 443))
        self.assertEqual(Origin.of("http://h"), Origin("http", "h", 80))
        self.assertEqual(Origin.of("http://h:8080?x"), Origin("http", "h", 8080))
        self.assertEqual(Origin.of("http://[2001:DB8::1]:5000/"), Origin("http", "2001:db8::1", 5000))

    def test_refuses(self) -> None:
        """Whatever another parser might read differently is refused, and not quoted in the refusal."""
        for url in _BAD:
            with self.assertRaises(BadURL) as caught:
                Origin.of(url)
            self.assertNotIn("secret", str(caught.exception))

    def test_long_hosts(self) -> None:
        """A host that no name can be is refused: it would fill logs and errors."""
        self.assertEqual(Origin.of(f"https://{'a' * 253}./").host, "a" * 253 + ".")
        with self.assertRaises(BadURL):
            Origin.of(f"https://{'a' * 255}/")

    def test_netloc(self) -> None:
        """It is written as people write it: without a default port, IPv6 in brackets."""
        self.assertEqual(str(Origin.of("https://h:443/x")), "https://h")
        self.assertEqual(Origin.of("http://h:443").netloc, "h:443")
        self.assertEqual(str(Origin.of("http://[::1]:5000")), "http://[::1]:5000")

    @given(st.text(alphabet="htps:/@[]\\?#.0189ax%", max_size=30))
    def test_agrees_with_twisted(self, text: str) -> None:
        """What is taken, Twisted's client reads as leading to the same host and port."""
        url = f"http://{text}"
        try:
            origin = Origin.of(url)
        except BadURL:
            return
        uri = URI.fromBytes(url.encode("ascii"))
        self.assertEqual((uri.host.decode("ascii").lower(), uri.port), (origin.host, origin.port))


class FollowTests(SynchronousTestCase):
    """Where a redirect leads."""

    def test_absolute_stays_as_it_is(self) -> None:
        """A signed URL is not rewritten; only its fragment goes."""
        signed = "https://cdn.example/a%2Fb//c?X-Sig=a%2bb+c&d&e=;"
        self.assertEqual(follow("https://h/v2/", signed + "#part"), signed)

    def test_relative(self) -> None:
        """A relative Location is resolved against the URL that gave it."""
        base = "https://h:8443/v2/a/blobs/x?y"
        self.assertEqual(follow(base, "/artifacts/x?sig=1"), "https://h:8443/artifacts/x?sig=1")
        self.assertEqual(follow(base, "z"), "https://h:8443/v2/a/blobs/z")
        self.assertEqual(follow(base, "//cdn.example/z"), "https://cdn.example/z")

    def test_never_down_to_http(self) -> None:
        """https leads to https only; http may lead to either."""
        with self.assertRaises(BadURL):
            follow("https://h/", "http://h/")
        self.assertEqual(follow("http://h/", "http://g/"), "http://g/")
        self.assertEqual(follow("http://h/", "https://g/"), "https://g/")

    def test_refuses(self) -> None:
        """No user information, no other scheme, nothing empty."""
        for location in ["", "#x", "ftp://h/", "javascript:x", "https://a:b@h/", "//a@h/", "/ x", "/\u00e4"]:
            with self.assertRaises(BadURL):
                follow("https://h/", location)

    @given(st.text(max_size=40) | st.text(alphabet="htps:/[]1.@?#%a", max_size=30))
    def test_any_location(self, location: str) -> None:
        """Any text is followed to an http or https URL, or refused in the one way."""
        try:
            url = follow("https://h/v2/x", location)
        except BadURL:
            return
        self.assertEqual(Origin.of(url).scheme, "https")

    def test_brackets(self) -> None:
        """What another parser would trip over is refused like the rest."""
        for location in ["//[::1", "//[x]/", "//]["]:
            with self.assertRaises(BadURL):
                follow("https://h/", location)

    def test_path(self) -> None:
        """The path has its slash, and neither query nor fragment."""
        self.assertEqual(path_of("https://h/v2/a?x=/b#c"), "/v2/a")
        self.assertEqual(path_of("https://h?x/y"), "/")
