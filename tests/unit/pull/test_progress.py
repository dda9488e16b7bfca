"""How far fills are, as several processes tell it, and how fast they go."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Digest, Repository
from nora.pull.fill import Fill
from nora.pull.progress import Pace, Place, Progress, together

HERE = Place(Repository("docker.io", "library/thing"), "hub")
THERE = Place(Repository("ghcr.io", "app/web"), "ghcr")


def progress(**told: Any) -> Progress:
    """Tell of a fill that is half done."""
    return attrs.evolve(Progress("sha256:aa", (HERE,), True, 50, 100, 10.0, 1), **told)


class TogetherTests(SynchronousTestCase):
    """One of what several tell."""

    def test_leader_and_follower(self) -> None:
        """Who is ahead tells bytes and rate; places and followers add up."""
        other = progress(places=(THERE, HERE), written=60, rate=12.0, followers=3)
        (fill,) = together([progress(), other])
        self.assertEqual(fill, progress(places=(HERE, THERE), written=60, rate=12.0, followers=4))
        self.assertEqual(fill.seconds_left, 40 / 12)

    def test_who_is_confirmed_counts(self) -> None:
        """A place that only waits for an answer is left out where another one has it; the size comes from who knows."""
        waiting = progress(places=(THERE,), confirmed=False, written=0, size=None, rate=None, followers=0)
        self.assertEqual(together([waiting, progress()]), [progress()])
        self.assertEqual(together([progress(), waiting]), [progress()])
        both = together([waiting, attrs.evolve(waiting, places=(HERE,))])
        self.assertEqual([(each.places, each.confirmed) for each in both], [((THERE, HERE), False)])

    def test_no_saying(self) -> None:
        """Without a size, a rate, or any movement nobody knows how long it takes."""
        for told in ({"size": None}, {"rate": None}, {"rate": 0.0}):
            self.assertIsNone(progress(**told).seconds_left)
        self.assertEqual(progress(written=100).seconds_left, 0)

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 100), st.integers(0, 5))))
    def test_nobody_is_lost(self, told: list[tuple[str, int, int]]) -> None:
        """Each blob is there once, as far as the one that is farthest, with all followers."""
        found = together(
            progress(digest=digest, written=written, followers=count) for digest, written, count in told
        )
        self.assertEqual([each.digest for each in found], list(dict.fromkeys(each[0] for each in told)))
        for each in found:
            same = [one for one in told if one[0] == each.digest]
            self.assertEqual(each.written, max(one[1] for one in same))
            self.assertEqual(each.followers, sum(one[2] for one in same))


class PaceTests(SynchronousTestCase):
    """Rates."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.pace = Pace(self.clock.seconds)

    def test_beginning(self) -> None:
        """There is no rate before a moment has passed."""
        self.assertIsNone(self.pace.rate(0))
        self.pace.note(0)
        self.clock.advance(0.2)
        self.assertIsNone(self.pace.rate(1000))
        self.clock.advance(0.3)
        self.assertEqual(self.pace.rate(1000), 2000)

    def test_last_seconds(self) -> None:
        """What was long ago does not count: neither a fast beginning nor a slow one."""
        written = 0
        for speed in (100, 10):
            for _ in range(200):
                self.pace.note(written)
                self.clock.advance(0.1)
                written += speed
            self.assertAlmostEqual(self.pace.rate(written) or 0, speed * 10, delta=speed)

    def test_standstill(self) -> None:
        """What stands still has the rate 0 after a while, and is slower and slower until then."""
        self.pace.note(0)
        self.clock.advance(1)
        self.pace.note(100)
        self.assertEqual(self.pace.rate(100), 100)
        self.clock.advance(1)
        self.assertEqual(self.pace.rate(100), 50)
        self.clock.advance(5)
        self.assertEqual(self.pace.rate(100), 0)

    def test_starting_over(self) -> None:
        """What starts over has no rate below 0."""
        self.pace.note(1000)
        self.clock.advance(1)
        self.pace.note(0)
        self.clock.advance(1)
        self.assertEqual(self.pace.rate(10), 10)


class FillTests(SynchronousTestCase):
    """What a fill tells of itself."""

    def test_of_its_life(self) -> None:
        """First whom it asks, then who confirmed it, its size, its bytes and how fast they come."""
        clock = Clock()
        fill = Fill(Digest("sha256", "a" * 64), (), clock.seconds)
        self.assertEqual(fill.told(), Progress("sha256:" + "a" * 64, (), False, 0, None, None, 0))
        fill.confirm(HERE.repository, HERE.upstream)
        fill.describe(1000)
        fill.advance(0)
        clock.advance(2)
        fill.advance(500)
        told = fill.told()
        self.assertEqual((told.places, told.confirmed), ((HERE,), True))
        self.assertEqual((told.written, told.size, told.rate, told.seconds_left), (500, 1000, 250, 2))
