"""How the pages write numbers and times, sort sums into steps, draw them, and remember who pulled."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import toml
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.telemetry import Sums
from nora.web.lately import LastPulls
from nora.web.ui import charts, words
from nora.web.ui.periods import PERIODS, Period, Series, hit_rate
from nora.web.ui.rendering import Templates
from nora.web.ui.snippets import Server, Snippet, snippets

NOON = 1_700_000_000 // 86400 * 86400 + 43_200
COUNTS = st.integers(0, 2**62)


class WordsTests(SynchronousTestCase):
    """`words`."""

    def plain(self, text: str) -> str:
        return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")

    def test_size(self) -> None:
        """Sizes have three digits at most, in binary units."""
        for count, shown in (
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (123 * 1024, "123 KiB"),
            (1023 * 1024, "1.0 MiB"),
            (5 << 40, "5.0 TiB"),
            (-5, "0 B"),
        ):
            self.assertEqual(self.plain(words.size(count)), shown)

    def test_number(self) -> None:
        """Counts have their thousands apart."""
        self.assertEqual(self.plain(words.number(1234567)), "1 234 567")

    def test_percent(self) -> None:
        """A part that is not the whole never looks like it."""
        for part, shown in (
            (None, "\N{EN DASH}"),
            (0, "0 %"),
            (0.756, "75.6 %"),
            (0.9999, "99.9 %"),
            (1, "100 %"),
        ):
            self.assertEqual(self.plain(words.percent(part)), shown)

    def test_duration(self) -> None:
        """Times are written in their two largest units."""
        for seconds, shown in (
            (0, "0 s"),
            (59.9, "59 s"),
            (61, "1 min 1 s"),
            (3600, "1 h"),
            (3661, "1 h 1 min"),
            (86_400, "1 d"),
            (90_000, "1 d 1 h"),
            (86_460, "1 d"),
            (-3, "0 s"),
        ):
            self.assertEqual(self.plain(words.duration(seconds)), shown)

    def test_latency(self) -> None:
        """Below a second they are milliseconds."""
        for seconds, shown in (
            (None, "\N{EN DASH}"),
            (0.0004, "0 ms"),
            (0.25, "250 ms"),
            (1, "1.00 s"),
            (12.345, "12.35 s"),
        ):
            self.assertEqual(self.plain(words.latency(seconds)), shown)

    def test_moments(self) -> None:
        """Moments are told as how long ago, or how soon, they are."""
        before, now = "2023-11-14T22:12:05Z", "2023-11-14T22:13:20Z"
        self.assertEqual(self.plain(words.ago(before, now)), "1 min 15 s ago")
        self.assertEqual(self.plain(words.ahead(now, before)), "in 1 min 15 s")
        self.assertEqual(self.plain(words.clock(now)), "2023-11-14 22:13 UTC")
        self.assertEqual(words.iso(1_700_000_000.9), now)

    def test_clip(self) -> None:
        """A long text is cut."""
        self.assertEqual(words.clip("a" * 400), "a" * 400)
        self.assertEqual(words.clip("a" * 10_240), "a" * 400 + "…")


class PeriodTests(SynchronousTestCase):
    """`periods`."""

    def test_lengths(self) -> None:
        """The steps make up what each period is called."""
        self.assertEqual(
            {name: period.step * period.count for name, period in PERIODS.items()},
            {"hour": 3600, "day": 86400, "month": 30 * 86400},
        )

    def test_places(self) -> None:
        """Each sum is in the step that its span is in; what is older, or ahead, is in none."""
        period = Period("x", "X", 60, 120, 3)
        now = NOON + 130
        told = [(NOON - 120 - 60, 1), (NOON - 120, 2), (NOON, 4), (NOON + 60, 8), (NOON + 120, 16)]
        told += [(NOON + 240, 32)]
        series = period.series([(start, Sums(pulls=pulls)) for start, pulls in told], now)
        self.assertEqual(series.begins, NOON - 120)
        self.assertEqual([each.pulls for each in series.steps], [2, 12, 16])
        self.assertEqual(series.total, Sums(pulls=30))

    def test_hit_rate(self) -> None:
        """Without pulls there is none."""
        self.assertEqual((hit_rate(Sums()), hit_rate(Sums(pulls=4, hits=3))), (None, 0.75))


class ChartTests(SynchronousTestCase):
    """`charts`."""

    def series(self, *steps: Sums) -> Series:
        return Series(Period("x", "X", 60, 60, len(steps)), NOON, steps)

    def test_pulls(self) -> None:
        """Hits stand on the ground, misses on them, by one scale."""
        chart = charts.pulls(self.series(Sums(pulls=4, hits=3), Sums()))
        self.assertEqual(chart.scale, ("4", "2", "0"))
        self.assertEqual(chart.times[0], "12:00")
        root = ElementTree.fromstring(chart.svg)
        bars = {each.get("class"): each for each in root.iter("rect") if each.get("class") != "ground"}
        self.assertEqual(
            {kind: float(bar.get("height", "0")) for kind, bar in bars.items()}, {"hit": 180.0, "miss": 60.0}
        )
        self.assertEqual(
            {kind: float(bar.get("y", "0")) for kind, bar in bars.items()}, {"hit": 60.0, "miss": 0.0}
        )
        titles = [each.text for each in root.iter("title")]
        self.assertEqual(titles, ["12:00: 3 of 4 pulls were hits", "12:01: 0 of 0 pulls were hits"])

    def test_traffic(self) -> None:
        """A screen reader hears the sums."""
        chart = charts.traffic(self.series(Sums(served=3 << 20, fetched=1 << 20)))
        label = ElementTree.fromstring(chart.svg).get("aria-label")
        self.assertEqual(label, "Traffic: 3.0\u00a0MiB served, 1.0\u00a0MiB fetched")

    @given(st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=96))
    def test_any_numbers(self, told: list[tuple[int, int]]) -> None:
        """Whatever was counted is drawn within the drawing, and it is well-formed."""
        series = self.series(*(Sums(1, a, min(a, b), a, b, 0) for a, b in told))
        for chart in (charts.pulls(series), charts.traffic(series)):
            for rect in ElementTree.fromstring(chart.svg).iter("rect"):
                y, height = float(rect.get("y", "-1")), float(rect.get("height", "-1"))
                self.assertGreaterEqual(y, 0)
                self.assertLessEqual(y + height, charts.HEIGHT + 1.51)

    @given(st.floats(0, 1e15))
    def test_scales(self, most: float) -> None:
        """A scale reaches what it must show, and at most four times as far."""
        for nice, least in ((charts.nice_count, 2), (charts.nice_size, 1024)):
            top = nice(most)
            self.assertGreaterEqual(top, most)
            self.assertTrue(top == least or top <= 4 * most, (most, top))


class SnippetTests(SynchronousTestCase):
    """`snippets`."""

    def texts(self, server: Server, *namespaces: str) -> dict[str, Snippet]:
        return {each.name: each for each in snippets(server, namespaces)}

    def test_http(self) -> None:
        """Over plain HTTP each client is told that it is."""
        told = self.texts(Server("http", "nora.lan:4000"), "docker.io", "quay.io", "docker.io")
        docker = json.loads(told["docker"].text)
        self.assertEqual(docker["registry-mirrors"], ["http://nora.lan:4000"])
        self.assertEqual(docker["insecure-registries"], ["nora.lan:4000"])
        self.assertEqual(list(toml.loads(told["containerd"].text)["host"]), ["http://nora.lan:4000"])
        registries = toml.loads(told["podman"].text)["registry"]
        self.assertEqual([each["prefix"] for each in registries], ["docker.io", "quay.io"])
        self.assertEqual(registries[1]["mirror"], [{"location": "nora.lan:4000/quay.io", "insecure": True}])
        self.assertIn(told["containerd"].text, told["kubernetes"].text)
        self.assertIn("image: nora.lan:4000/docker.io/library/nginx:latest\n", told["compose"].text)

    def test_https(self) -> None:
        """Over HTTPS nothing is insecure."""
        for each in snippets(Server("https", "nora.lan"), ["ghcr.io"]):
            self.assertNotIn("insecure", each.text)
            self.assertNotIn("http://", each.text)
            self.assertIn("nora.lan", each.text)


class LastPullsTests(SynchronousTestCase):
    """`LastPulls`."""

    def test_last(self) -> None:
        """The last of each address counts."""
        pulls = LastPulls()
        pulls.pulled("::1", 1.0)
        pulls.pulled("::1", 2.0)
        self.assertEqual((pulls.last("::1"), pulls.last("::2")), (2.0, None))

    def test_bounded(self) -> None:
        """Who pulled longest ago is forgotten first."""
        pulls = LastPulls(2)
        for address, at in (("a", 1.0), ("b", 2.0), ("a", 3.0), ("c", 4.0)):
            pulls.pulled(address, at)
        self.assertEqual([pulls.last(each) for each in "abc"], [3.0, None, 4.0])


class TemplateTests(SynchronousTestCase):
    """`Templates`."""

    templates = Templates()

    @given(st.text(max_size=300))
    def test_escapes(self, text: str) -> None:
        """Whatever a text is, no element comes of it."""
        page = self.templates.fill("error", here="", status=404, title=text, message=text).decode()
        bare = self.templates.fill("error", here="", status=404, title="", message="").decode()
        self.assertEqual(len(re.findall("<[a-z/]", page)), len(re.findall("<[a-z/]", bare)))
