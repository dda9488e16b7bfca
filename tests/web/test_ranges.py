"""Ranges and conditions, as pure rules."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.oci.errors import InvalidRange
from nora.web.ranges import choose, none_match, parse_range

SIZES = st.integers(0, 10**12)
OFFSETS = st.integers(0, 10**12)


class RangeTests(SynchronousTestCase):
    """`parse_range` against the words of RFC 9110 section 14.1.2."""

    @given(OFFSETS, OFFSETS, SIZES)
    def test_first_and_last(self, first: int, last: int, size: int) -> None:
        """Both offsets are inclusive; the last one is cut to the size, and is not before the first."""
        header = f"bytes={first}-{last}"
        if last < first or first >= size:
            error = self.assertRaises(InvalidRange, parse_range, header, size)
            self.assertEqual(error.size, size)
        else:
            self.assertEqual(parse_range(header, size), (first, min(last, size - 1) + 1))

    @given(OFFSETS, SIZES)
    def test_open(self, first: int, size: int) -> None:
        """Without a last offset it reaches the end."""
        if first >= size:
            self.assertRaises(InvalidRange, parse_range, f"bytes={first}-", size)
        else:
            self.assertEqual(parse_range(f"bytes={first}-", size), (first, size))

    @given(OFFSETS, SIZES)
    def test_suffix(self, length: int, size: int) -> None:
        """A suffix counts from the end; none of nothing can be told of."""
        header = f"bytes=-{length}"
        if length == 0:
            self.assertRaises(InvalidRange, parse_range, header, size)
        elif size == 0:
            self.assertIsNone(parse_range(header, size))
        else:
            self.assertEqual(parse_range(header, size), (max(0, size - length), size))

    @given(st.text(), st.integers(1, 100))
    def test_anything(self, text: str, size: int) -> None:
        """No text makes it raise anything but `InvalidRange`, or give bytes that are not there."""
        for header in (text, f"bytes={text}", f"bytes={text}-", f"bytes=0-{text}"):
            try:
                found = parse_range(header, size)
            except InvalidRange:
                continue
            if found is not None:
                self.assertTrue(0 <= found[0] < found[1] <= size, found)

    def test_forms(self) -> None:
        """The unit is of any case and spaces may stand around; other digits are none."""
        for header, found in (
            ("Bytes=1-2", (1, 3)),
            (" bytes = 1 - 2 ", (1, 3)),
            ("bytes=\u0661-\u0662", None),
            ("bytes=" + "9" * 5000 + "-", None),
            ("bytes=1-2\n", None),
            ("bytes=+1-2", None),
        ):
            self.assertEqual(parse_range(header, 10), found, header)

    def test_if_range(self) -> None:
        """If-Range that is not the very tag voids the range, even one that cannot be satisfied."""
        self.assertIsNone(choose("bytes=99-", '"b"', '"a"', 10))
        self.assertEqual(choose("bytes=1-", ' "a" ', '"a"', 10), (1, 10))
        self.assertEqual(choose("bytes=1-", None, '"a"', 10), (1, 10))
        self.assertIsNone(choose(None, '"a"', '"a"', 10))


class NoneMatchTests(SynchronousTestCase):
    """`none_match` against RFC 9110 section 13.1.2."""

    def test_forms(self) -> None:
        """Lists, weak tags and the star match; other tags and what is no tag do not."""
        for header, found in (
            (None, False),
            ("", False),
            ("*", True),
            (' "a" ', True),
            ('W/"a"', True),
            ('"b", W/"c","a"', True),
            ('"b"', False),
            ("a", False),
            ('"ab"', False),
            ('"', False),
        ):
            self.assertEqual(none_match(header, '"a"'), found, header)

    @given(st.text())
    def test_anything(self, text: str) -> None:
        """Whatever is sent, only the tag itself or a star matches."""
        if none_match(text, '"tag"'):
            self.assertTrue('"tag"' in text or text.strip(" \t") == "*")
