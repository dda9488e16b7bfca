"""Where a list goes on, and where a question about one may be led."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some
from twisted.trial.unittest import SynchronousTestCase

from nora.oci.errors import Unverified
from nora.upstream.links import leads_to_list, next_query

HOST = "registry.example"


class NextTests(SynchronousTestCase):
    """`Link` headers."""

    def test_forms(self) -> None:
        """Every way to write that there is a next page is understood, and only its query counts."""
        for line in (
            '</v2/a/tags/list?n=2&last=b>; rel="next"',
            "</v2/a/tags/list?n=2&last=b>;rel=next",
            '<https://registry.example/other/v2/a/tags/list?n=2&last=b>; rel="next"',
            '<http://registry.example:5000/v2/a/tags/list?n=2&last=b>; rel="next"',
            '<//REGISTRY.example/v2/a/tags/list?n=2&last=b>; rel="prev next"',
            '<?n=2&last=b#x>; title="a, b"; REL="next"',
            '</v2/?n=1>; rel="first", </v2/a/tags/list?n=2&last=b>; rel="next"',
        ):
            self.assertEqual(next_query([line], HOST), "n=2&last=b", line)
        self.assertEqual(next_query(['<?n=1>; rel="prev"', '<?n=2>; rel="next"'], HOST), "n=2")

    def test_last(self) -> None:
        """Without a next there is none."""
        for lines in (
            [],
            [""],
            ['<?n=1>; rel="prev"'],
            ["<?n=1>"],
            ['<?n=1>; rel="nextish"'],
            ["?n=1; rel=next"],
        ):
            self.assertIsNone(next_query(lines, HOST), lines)

    def test_refused(self) -> None:
        """A page at another host, or one that cannot be asked for, is no end: the list cannot be had whole."""
        for target in (
            "https://evil.example/v2/a/tags/list?n=2",
            "//evil.example/?n=2",
            "https://registry.example@evil.example/?n=2",
            "ftp://registry.example/?n=2",
            "/v2/a/tags/list",
            "?n=2 x",
            "?n=\x7f",
            "?" + "x" * 5000,
            "?" + "x" * 20_000,
        ):
            self.assertRaises(Unverified, next_query, [f'<{target}>; rel="next"'], HOST)

    @given(some.lists(some.text("<>;,?#/ relnxt=\"'a:1", max_size=40), max_size=4))
    def test_anything(self, lines: list[str]) -> None:
        """Whatever is sent, the answer is a query, none or `Unverified`."""
        try:
            query = next_query(lines, HOST)
        except Unverified:
            return
        self.assertTrue(query is None or (query and " " not in query and "#" not in query))


class LeadsTests(SynchronousTestCase):
    """Redirects."""

    def test_lists(self) -> None:
        """The same kind of list elsewhere is gone to, anything else is not, and 303 never is."""
        for url, followed in (
            ("https://eu.pkg.example/v2/k8s/images/pause/tags/list?n=1", True),
            ("https://eu.pkg.example/v2/k8s/pause/referrers/sha256:00", True),
            ("https://eu.pkg.example/api/v2/pause/tags/list", True),
            ("https://github.com/orgs/packages", False),
            ("https://github.com/login?return_to=/v2/a/tags/list", False),
            ("https://github.com/v2/tags/list", False),
            ("https://eu.pkg.example/v2/a/tags/list/more", False),
            (f"https://eu.pkg.example/v2/{'a' * 2000}/tags/list", False),
        ):
            self.assertEqual(leads_to_list(307, url), followed, url)
            self.assertFalse(leads_to_list(303, url))
