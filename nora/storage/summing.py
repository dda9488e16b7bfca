"""The sums that the pages show, as the index keeps them, by the minute and by the hour, as long as they are shown.

Apart from the schema, so that a file from before there were sums gets the table and keeps all else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

import attrs

from nora.telemetry.sums import HOUR, KEPT, Sums

TABLE = """
CREATE TABLE IF NOT EXISTS sums (
    span INTEGER NOT NULL, start INTEGER NOT NULL, requests INTEGER NOT NULL, pulls INTEGER NOT NULL,
    hits INTEGER NOT NULL, served INTEGER NOT NULL, fetched INTEGER NOT NULL, pushed INTEGER NOT NULL,
    PRIMARY KEY (span, start)
) WITHOUT ROWID
"""
_COUNT = """
INSERT INTO sums (span, start, requests, pulls, hits, served, fetched, pushed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (span, start) DO UPDATE SET
    requests = requests + excluded.requests, pulls = pulls + excluded.pulls, hits = hits + excluded.hits,
    served = served + excluded.served, fetched = fetched + excluded.fetched, pushed = pushed + excluded.pushed
"""
_READ = """
SELECT start, requests, pulls, hits, served, fetched, pushed FROM sums WHERE span = ? AND start >= ? ORDER BY start
"""


def add(connection: sqlite3.Connection, sums: Mapping[int, Sums]) -> None:
    """Add to the sums of minutes and hours, and drop what is too old, or lies ahead since a clock was put right."""
    if not sums:
        return
    rows = [
        (span, start - start % span, *attrs.astuple(each)) for start, each in sums.items() for span in KEPT
    ]
    connection.executemany(_COUNT, rows)
    last = max(sums)
    for span, kept in KEPT.items():
        connection.execute(
            "DELETE FROM sums WHERE span = ? AND (start <= ? OR start > ?)", (span, last - kept, last + HOUR)
        )


def read(connection: sqlite3.Connection, span: int, since: int) -> list[tuple[int, Sums]]:
    """List the sums of the spans, in seconds, that begin at `since` or later, by their beginnings."""
    return [(row[0], Sums(*row[1:])) for row in connection.execute(_READ, (span, since))]
