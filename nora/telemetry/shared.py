"""Metrics of several processes, told as one by whichever of them is asked.

Each process counts in files of its own, mapped into its memory, in a directory that all of them read: what a process
counted outlives it. Source: prometheus-client, "Multiprocess Mode".
"""

from __future__ import annotations

import os
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector


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
    MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
