"""Quota: what is left of a rate limit, and for how long that counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.upstream.quota import MAX_WINDOW, WINDOW, Quota, parse_window


class QuotaTests(SynchronousTestCase):
    """What one upstream said last."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.quota = Quota(self.clock)

    def test_last_word(self) -> None:
        """The last number told counts; an answer that tells none changes nothing."""
        self.assertIsNone(self.quota.left())
        self.assertEqual(self.quota.hear("20;w=21600"), 20)
        self.assertEqual(self.quota.hear("19;w=21600"), 19)
        for silent in (None, "", "many", "-1"):
            self.assertIsNone(self.quota.hear(silent))
        self.assertEqual(self.quota.left(), 19)

    def test_window(self) -> None:
        """It counts until its window is over, from when it was told; then nothing is known."""
        self.quota.hear("0;w=100")
        self.clock.advance(99)
        self.assertEqual(self.quota.left(), 0)
        self.clock.advance(1)
        self.assertIsNone(self.quota.left())
        self.quota.hear("5")
        self.clock.advance(WINDOW - 1)
        self.assertEqual(self.quota.left(), 5)
        self.clock.advance(1)
        self.assertIsNone(self.quota.left())

    def test_parse(self) -> None:
        """The window is the parameter `w`, bounded, and Docker Hub's where there is none."""
        for value, seconds in (
            ("20;w=21600", 21600),
            ("20 ; w=60 ;burst=1", 60),
            ("20;x=1;w=7", 7),
            ("20;w=999999999", MAX_WINDOW),
            ("20", WINDOW),
            ("20;w=", WINDOW),
            ("20;w=x", WINDOW),
            ("20;ww=5", WINDOW),
            ("20;w=1234567890", WINDOW),
        ):
            self.assertEqual(parse_window(value), seconds, value)

    @given(st.text(max_size=50))
    def test_any_text(self, value: str) -> None:
        """Whatever is told, the number and the window are bounded."""
        quota = Quota(Clock())
        remaining = quota.hear(value)
        self.assertTrue(remaining is None or 0 <= remaining < 10**9)
        self.assertTrue(0 <= parse_window(value) <= MAX_WINDOW)
