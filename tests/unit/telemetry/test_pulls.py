"""Pulls by manifest, counted in one process."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nora.telemetry import pulls
from nora.telemetry.pulls import Pulls


class PullsTests(SynchronousTestCase):
    """Counting."""

    def test_taken_once(self) -> None:
        """What was counted is given once."""
        counted = Pulls()
        for name in ("a", "a", "b"):
            counted.pulled(("local", name, "sha256:0"))
        self.assertEqual(counted.take(), {("local", "a", "sha256:0"): 2, ("local", "b", "sha256:0"): 1})
        self.assertEqual(counted.take(), {})

    def test_bound(self) -> None:
        """Beyond the bound only what is counted already goes on."""
        self.patch(pulls, "MOST", 1)
        counted = Pulls()
        for name in ("a", "b", "a"):
            counted.pulled(("local", name, "sha256:0"))
        self.assertEqual(counted.take(), {("local", "a", "sha256:0"): 2})
