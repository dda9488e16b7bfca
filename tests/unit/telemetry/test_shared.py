"""Metrics of several processes, told as one."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from nora.telemetry.shared import shared_text
from tests.support.programs import environment

_ROOT = Path(__file__).parents[3]
_WORKER = """
import sys
from prometheus_client import CollectorRegistry
from nora.telemetry import Metrics
from nora.telemetry.shared import share_metrics
directory, number = sys.argv[1], int(sys.argv[2])
share_metrics(directory, number)
metrics = Metrics(CollectorRegistry(), "1.2.3", directory)
metrics.watch_store(lambda: 10 * number, lambda: 0, lambda: 0)
metrics.connected()
metrics.pulled(True)
metrics.requested("GET", "blob", 200, 0.01, 5)
metrics.circuit("hub", number == 1)
metrics.quota("hub", 50 - number)
if len(sys.argv) > 3:
    import shutil
    shutil.rmtree(directory)
sys.stdout.buffer.write(metrics.text())
"""


class SharedTests(SynchronousTestCase):
    """Processes one after the other: the kernel does not care, the files stay."""

    def setUp(self) -> None:
        """Have a directory."""
        made = tempfile.TemporaryDirectory(prefix="nora-")
        self.addCleanup(made.cleanup)
        self.directory = made.name

    def count(self, number: int, *options: str) -> dict[str, float]:
        """Let a process count as that number, and give what it then tells of all."""
        ran = subprocess.run(
            [sys.executable, "-c", _WORKER, self.directory, str(number), *options],
            env=environment(_ROOT, PYTHONPATH=str(_ROOT)),
            check=True,
            capture_output=True,
            timeout=60,
        )
        return self.values(ran.stdout)

    def values(self, text: bytes) -> dict[str, float]:
        """Read what was told: the value of each sample, by name and labels."""
        return {
            f"{sample.name}{sorted(sample.labels.items())}": sample.value
            for family in text_string_to_metric_families(text.decode())
            for sample in family.samples
        }

    def test_told_as_one(self) -> None:
        """Counters and what is open are sums, circuits the worst, quotas and the store what was told last."""
        self.count(1)
        told = self.count(2)
        for name, value in (
            ("nora_docker_downloads_total[]", 2),
            ("nora_connections[]", 2),
            ("nora_workers[]", 2),
            ("nora_sent_bytes_total[]", 10),
            ("nora_request_seconds_count[('endpoint', 'blob')]", 2),
            ("nora_upstream_circuit_open[('upstream', 'hub')]", 1),
            ("nora_upstream_quota_remaining[('upstream', 'hub')]", 48),
            ("nora_store_blobs[]", 20),
            ("nora_build_info[('version', '1.2.3')]", 1),
        ):
            self.assertEqual(told[name], value, name)
        self.assertFalse([name for name in told if "_created" in name or "'pid'" in name])

    def test_counts_outlive_a_process(self) -> None:
        """A process with the number of an earlier one goes on counting where that stopped."""
        self.count(1)
        self.assertEqual(self.count(1)["nora_docker_downloads_total[]"], 2)
        self.assertEqual(self.values(shared_text(self.directory))["nora_docker_downloads_total[]"], 2)

    def test_file_in_the_making(self) -> None:
        """The file of a process that is just starting, which has no size yet, hides nothing of the others."""
        self.count(1)
        Path(self.directory, "counter_2.db").touch()
        self.assertEqual(self.values(shared_text(self.directory))["nora_docker_downloads_total[]"], 1)

    def test_directory_that_is_cleared_away(self) -> None:
        """A process whose directory is gone tells at least of itself."""
        self.count(1)
        self.assertEqual(self.count(2, "gone")["nora_docker_downloads_total[]"], 1)
