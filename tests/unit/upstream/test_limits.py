"""What upstreams say of how often they may be asked."""

from __future__ import annotations

from email.utils import formatdate

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.oci.errors import Limited
from nora.upstream.limits import Limits, parse_remaining, parse_retry_after

NOW = 1_700_000_000.0


class RetryAfterTests(SynchronousTestCase):
    """RFC 9110 section 10.2.3."""

    def test_seconds(self) -> None:
        """A number of seconds is taken, an hour at most."""
        self.assertEqual(parse_retry_after(" 17 ", None, NOW), 17)
        self.assertEqual(parse_retry_after("0", None, NOW), 0)
        self.assertEqual(parse_retry_after("999999999", None, NOW), 3600)

    def test_date(self) -> None:
        """A date is a time from now, never in the past, an hour at most."""
        self.assertEqual(parse_retry_after(formatdate(NOW + 90, usegmt=True), None, NOW), 90)
        self.assertEqual(parse_retry_after(formatdate(NOW - 90, usegmt=True), None, NOW), 0)
        self.assertEqual(parse_retry_after(formatdate(NOW + 9e6, usegmt=True), None, NOW), 3600)

    def test_date_is_by_the_servers_clock(self) -> None:
        """Where the answer has a Date, the difference counts, whatever our clock says; a bad one is left aside."""
        theirs = NOW + 5000
        date = formatdate(theirs, usegmt=True)
        self.assertEqual(parse_retry_after(formatdate(theirs + 30, usegmt=True), date, NOW), 30)
        self.assertEqual(parse_retry_after(formatdate(NOW + 30, usegmt=True), "yesterday", NOW), 30)

    def test_nothing(self) -> None:
        """Missing or meaningless says nothing."""
        for value in (None, "", "soon", "-1", "1.5", "1" * 10, "Mon, 99 Foo 2020 99:99:99 GMT"):
            self.assertIsNone(parse_retry_after(value, None, NOW))

    @given(st.text(max_size=80), st.none() | st.text(max_size=80))
    def test_any_text(self, value: str, date: str | None) -> None:
        """Any text gives None or 0 to 3600."""
        seconds = parse_retry_after(value, date, NOW)
        self.assertTrue(seconds is None or 0 <= seconds <= 3600)


class RemainingTests(SynchronousTestCase):
    """Docker Hub's header."""

    def test_reads(self) -> None:
        """The number before the window is what is left."""
        self.assertEqual(parse_remaining("20;w=21600"), 20)
        self.assertEqual(parse_remaining("0"), 0)
        for value in (None, "", "many", "20 pulls", ";w=1"):
            self.assertIsNone(parse_remaining(value))


class LimitsTests(SynchronousTestCase):
    """The memory of a 429."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.limits = Limits(self.clock)

    def test_remembers_by_kind(self) -> None:
        """Only the kind that was refused is held back, with the whole seconds left, until the time is up."""
        self.limits.remember("manifest", 10)
        self.limits.check("head")
        self.clock.advance(2.5)
        with self.assertRaises(Limited) as caught:
            self.limits.check("manifest")
        self.assertEqual(caught.exception.retry_after, 8)
        self.clock.advance(7.5)
        self.limits.check("manifest")
        self.limits.check("manifest")

    def test_nothing_told_is_nothing_remembered(self) -> None:
        """Without a time nothing is held back."""
        self.limits.remember("blob", None)
        self.limits.remember("blob", 0)
        self.limits.check("blob")
