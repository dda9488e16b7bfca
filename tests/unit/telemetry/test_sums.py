"""What a process counts for the sums, and how asking its upstreams went."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from twisted.trial.unittest import SynchronousTestCase

from nora.telemetry import Metrics, Sums
from nora.telemetry.exchanges import RECENT, Exchanges, Told, percentile


class TallyTests(SynchronousTestCase):
    """`Tally`, as `Metrics` tells it."""

    def setUp(self) -> None:
        self.metrics = Metrics(CollectorRegistry())

    def test_counts(self) -> None:
        """Everything that metrics are told is counted along, and counted once."""
        self.metrics.pulled(True)
        self.metrics.pulled(False)
        self.metrics.requested("GET", "blob", 200, 0.1, 100)
        self.metrics.requested("PUT", "upload", 201, 0.1, 0, 50)
        self.metrics.received("hub", 70)
        self.assertEqual(self.metrics.tally.take(), Sums(2, 2, 1, 100, 70, 50))
        self.assertEqual(self.metrics.tally.take(), Sums())

    def test_pages_do_not_count(self) -> None:
        """Whoever watches the pages, or scrapes metrics, is not what is watched."""
        for endpoint in ("page", "metrics", "health", "ready", "other"):
            self.metrics.requested("GET", endpoint, 200, 0.1, 1000, 10)
        self.assertEqual(self.metrics.tally.take(), Sums())

    def test_sum(self) -> None:
        """Sums add up field by field."""
        self.assertEqual(Sums(1, 2, 3, 4, 5, 6) + Sums(10, 20, 30, 40, 50, 60), Sums(11, 22, 33, 44, 55, 66))


class ExchangesTests(SynchronousTestCase):
    """`Exchanges`."""

    def test_unknown(self) -> None:
        """Of an upstream that was never asked nothing is told."""
        self.assertEqual(Exchanges().told("hub"), Told({}))

    def test_told(self) -> None:
        """Outcomes are counted; what was given up does not count for the times."""
        metrics = Metrics(CollectorRegistry())
        for seconds in (0.3, 0.1, 0.2):
            metrics.answered("hub", "head", "found", seconds)
        metrics.answered("hub", "manifest", "absent", 0.4)
        metrics.answered("hub", "manifest", "cancelled", 60.0)
        metrics.answered("quay", "manifest", "limited", 5.0)
        told = metrics.exchanges.told("hub")
        self.assertEqual(told, Told({"absent": 1, "cancelled": 1, "found": 3}, 0.2, 0.4))

    def test_bounded(self) -> None:
        """Only the recent exchanges count for the times."""
        exchanges = Exchanges()
        exchanges.answered("hub", "found", 1000.0)
        for _ in range(RECENT):
            exchanges.answered("hub", "found", 1.0)
        self.assertEqual(exchanges.told("hub"), Told({"found": RECENT + 1}, 1.0, 1.0))

    def test_percentile(self) -> None:
        """Of a hundred the 50th and the 95th; of one, that one."""
        hundred = [float(n) for n in range(1, 101)]
        self.assertEqual((percentile(hundred, 0.5), percentile(hundred, 0.95)), (50.0, 95.0))
        self.assertEqual((percentile([7.0], 0.5), percentile([7.0], 0.95)), (7.0, 7.0))
        self.assertIsNone(percentile([], 0.5))
