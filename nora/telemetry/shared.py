"""Metrics of several processes, told as one by whichever of them is asked.

Each process counts in files of its own, mapped into its memory, in a directory that all of them read: what a process
counted outlives it. Source: prometheus-client, "Multiprocess Mode".
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector


def share_metrics(directory: str, number: int) -> None:
    """Have every metric that this process makes from now on counted in `directory`, as process `number`.

    Once in a process, before the first metric: the library keeps it for all of them.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    mapped: Any = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]

    class Mapped(mapped):  # type: ignore[misc]
        """A value that only the reactor's thread of a process that never forks counts.

        Without the library's lock, and its look whether the process is still the same, counting costs a half.
        """

        def inc(self, amount: float) -> None:
            self._value += amount
            self._file.write_value(self._key, self._value, 0.0)

    values.ValueClass = Mapped


def shared_text(directory: str) -> bytes:
    """Tell the metrics of all processes that count in `directory`, in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Counted(directory))
    return generate_latest(registry)


class _Counted(Collector):
    """Reads what is counted in a directory, but for the files that a process is just making."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        """Add up all files; a file has no size until its maker gave it one, and then nothing is in it yet."""
        with os.scandir(self._directory) as entries:
            files = [entry.path for entry in entries if entry.name.endswith(".db") and entry.stat().st_size]
        found: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return found
