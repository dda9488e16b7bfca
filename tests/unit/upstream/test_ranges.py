"""What a 206 says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.oci.errors import Unverified
from nora.upstream.ranges import check_partial, parse_content_range


class RangesTests(SynchronousTestCase):
    """RFC 9110 section 14.4."""

    def test_reads(self) -> None:
        """First and last offset and the size, which may be unknown."""
        self.assertEqual(parse_content_range("bytes 5-9/10"), (5, 9, 10))
        self.assertEqual(parse_content_range(" Bytes 0-0/* "), (0, 0, None))

    def test_refuses(self) -> None:
        """Another unit, an unsatisfied range, nonsense and contradictions."""
        for value in (
            None,
            "",
            "bytes */10",
            "items 0-1/2",
            "bytes 5-4/10",
            "bytes 5-10/10",
            "bytes 1-2",
            "bytes=1-2/3",
        ):
            with self.assertRaises(Unverified):
                parse_content_range(value)

    def test_check(self) -> None:
        """It must start where asked and be as long as it says; one that ends early is the reader's to notice."""
        self.assertEqual(check_partial("bytes 5-9/10", 5, 5), 10)
        self.assertEqual(check_partial("bytes 5-9/10", 5, None), 10)
        self.assertEqual(check_partial("bytes 5-7/10", 5, 3), 10)
        self.assertIsNone(check_partial("bytes 5-7/*", 5, 3))
        for value, length in (
            ("bytes 4-9/10", 6),
            ("bytes 6-9/10", 4),
            ("bytes 5-9/10", 4),
            ("bytes 5-9/10", 6),
        ):
            with self.assertRaises(Unverified):
                check_partial(value, 5, length)

    @given(st.text(max_size=40))
    def test_any_text(self, value: str) -> None:
        """Any text is read or refused."""
        try:
            first, last, size = parse_content_range(value)
        except Unverified:
            return
        self.assertTrue(0 <= first <= last and (size is None or last < size))
