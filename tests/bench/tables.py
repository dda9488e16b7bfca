"""What a run found: rows of a table, a value for each server and round, told as medians and as ratios to NORA's."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable

import attrs


@attrs.define
class Row:
    """One thing that is measured. `better` is `more` or `less`; `unit` is for the reader."""

    title: str
    unit: str
    better: str
    values: dict[str, list[float]] = attrs.Factory(lambda: defaultdict(list))
    note: str = ""

    def add(self, server: str, value: float) -> None:
        """Note one round's value."""
        self.values[server].append(value)

    def median(self, server: str) -> float | None:
        """Tell the median of a server's rounds; None when it was not measured."""
        found = self.values.get(server)
        return statistics.median(found) if found else None

    def ratio(self, server: str, other: str) -> float | None:
        """Tell how many times better `server` is than `other`; None when one was not measured or is 0."""
        mine, theirs = self.median(server), self.median(other)
        if not mine or not theirs:
            return None
        return mine / theirs if self.better == "more" else theirs / mine


def table(rows: Iterable[Row], servers: list[str]) -> str:
    """Write rows as a Markdown table: medians, and how many times better NORA is than each other server."""
    others = servers[1:]
    head = ["", *servers, *(f"{servers[0]} is better than {other}" for other in others)]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        cells = [f"{row.title} ({row.unit})"]
        cells += [_number(row.median(server)) for server in servers]
        cells += [_times(row.ratio(servers[0], other)) for other in others]
        lines.append(_line(cells))
    notes = [f"- {row.title}: {row.note}" for row in rows if row.note]
    return "\n".join(lines + (["", *notes] if notes else []))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} x"
