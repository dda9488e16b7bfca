"""Metrics: names, meaning, and bounds of labels."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from nora.telemetry import Metrics

DOCS = Path(__file__).parents[3] / "docs"


class MetricsTests(SynchronousTestCase):
    """`Metrics`."""

    def setUp(self) -> None:
        self.collector = CollectorRegistry()
        self.metrics = Metrics(self.collector, "1.2.3")

    def value(self, name: str, **labels: str) -> float | None:
        return self.collector.get_sample_value(name, labels)

    def test_pulls(self) -> None:
        """Each pull is a download, and either a hit or a miss."""
        self.metrics.pulled(True)
        self.metrics.pulled(True)
        self.metrics.pulled(False)
        self.assertEqual(self.value("nora_docker_downloads_total"), 3)
        self.assertEqual(self.value("nora_cache_hits_total"), 2)
        self.assertEqual(self.value("nora_cache_misses_total"), 1)

    def test_requests(self) -> None:
        """Requests are counted by method, endpoint and status, timed by endpoint, and their bytes summed."""
        self.metrics.requested("GET", "blob", 206, 0.2, 100)
        self.metrics.requested("GET", "blob", 206, 0.2, 0)
        self.metrics.requested("GET", "manifest", None, 0.2, 0)
        self.assertEqual(self.value("nora_requests_total", method="GET", endpoint="blob", status="206"), 2)
        self.assertEqual(
            self.value("nora_requests_total", method="GET", endpoint="manifest", status="none"), 1
        )
        self.assertEqual(self.value("nora_request_seconds_count", endpoint="blob"), 2)
        self.assertEqual(self.value("nora_sent_bytes_total"), 100)

    def test_labels_are_bounded(self) -> None:
        """Whatever method or endpoint comes, the number of time series stays what it is."""
        for number in range(50):
            self.metrics.requested(f"M{number}", f"e{number}", 405, 0, 0)
            self.metrics.answered("hub", f"k{number}", "found", 0)
        self.assertEqual(
            self.value("nora_requests_total", method="other", endpoint="other", status="405"), 50
        )
        self.assertEqual(
            self.value("nora_upstream_requests_total", upstream="hub", kind="other", outcome="found"), 50
        )
        self.assertEqual(self.value("nora_request_seconds_count", endpoint="other"), 50)

    def test_upstreams(self) -> None:
        """What the upstream room tells is counted under the upstream's name."""
        self.metrics.answered("hub", "manifest", "found", 0.3)
        self.metrics.answered("hub", "manifest", "found", 0.3)
        self.metrics.received("hub", 5)
        self.metrics.received("hub", 6)
        self.metrics.token("hub")
        self.metrics.quota("hub", 42)
        self.metrics.circuit("hub", True)
        self.assertEqual(self.value("nora_upstream_circuit_open", upstream="hub"), 1)
        self.metrics.circuit("hub", False)
        for name, value, labels in (
            ("nora_upstream_requests_total", 2, {"kind": "manifest", "outcome": "found"}),
            ("nora_upstream_seconds_count", 2, {"kind": "manifest"}),
            ("nora_received_bytes_total", 11, {}),
            ("nora_upstream_tokens_total", 1, {}),
            ("nora_upstream_quota_remaining", 42, {}),
            ("nora_upstream_circuit_open", 0, {}),
        ):
            self.assertEqual(self.value(name, upstream="hub", **labels), value, name)

    def test_fills(self) -> None:
        """Fills are counted while they run and by how they ended."""
        self.metrics.fill_started()
        self.metrics.fill_started()
        self.metrics.fill_resumed("hub")
        self.metrics.fill_ended("stored")
        self.assertEqual(self.value("nora_fills_running"), 1)
        self.assertEqual(self.value("nora_fills_total", result="stored"), 1)
        self.assertEqual(self.value("nora_fill_resumes_total", upstream="hub"), 1)

    def test_the_rest(self) -> None:
        """Stale and provisional answers, lost lines, connections and the store."""
        self.metrics.stale()
        self.metrics.spared()
        self.metrics.provisional()
        self.metrics.negative_hit()
        self.metrics.audit_dropped(7)
        self.metrics.connected()
        self.metrics.connected()
        self.metrics.disconnected()
        self.metrics.refused()
        self.metrics.watch_store(lambda: 1, lambda: 2, lambda: 3)
        self.metrics.restarted()
        self.metrics.text()  # what is watched is asked then
        for name, value in (
            ("nora_stale_total", 1),
            ("nora_spared_total", 1),
            ("nora_provisional_total", 1),
            ("nora_negative_hits_total", 1),
            ("nora_audit_dropped_total", 7),
            ("nora_connections", 1),
            ("nora_connections_refused_total", 1),
            ("nora_workers", 1),
            ("nora_worker_restarts_total", 1),
            ("nora_store_blobs", 1),
            ("nora_store_bytes", 2),
            ("nora_store_free_bytes", 3),
        ):
            self.assertEqual(self.value(name), value, name)
        self.assertEqual(self.value("nora_build_info", version="1.2.3"), 1)

    def test_text(self) -> None:
        """The text is the collector's, and holds no `_created` series."""
        self.metrics.pulled(True)
        text = self.metrics.text().decode()
        self.assertIn("\nnora_docker_downloads_total 1.0\n", text)
        self.assertNotIn("_created", text)

    def test_documented(self) -> None:
        """Each metric, with its labels, stands in docs/metrics.md; and nothing else does."""
        documented = (DOCS / "metrics.md").read_text("utf-8")
        names = set()
        for family in text_string_to_metric_families(self.metrics.text().decode()):
            names.add(family.name + ("_total" if family.type == "counter" else ""))
        self.assertIn("nora_cache_hits_total", names)
        told = {line.split("`")[1].partition("{")[0] for line in documented.splitlines() if line[:3] == "| `"}
        self.assertEqual(told, names)
