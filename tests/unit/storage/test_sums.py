"""The sums of minutes and hours in the index: added up, bounded, and there after a restart."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.storage import SqliteIndex
from nora.telemetry.sums import HOUR, KEPT, MINUTE, Sums
from tests.support.storage_fakes import ImmediateDisk, temporary_folder

NOON = 1_700_000_000 // 86400 * 86400 + 12 * 3600
PULL = Sums(requests=3, pulls=1, hits=1, served=100, fetched=0, pushed=0)
MISS = Sums(requests=5, pulls=1, hits=0, served=100, fetched=90, pushed=7)


class SumsTests(SynchronousTestCase):
    """`SqliteIndex` as a `History`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.now = float(NOON)
        self.path = os.path.join(temporary_folder(self), "index.sqlite")
        self.index = self.make()

    def make(self) -> SqliteIndex:
        index = SqliteIndex(self.path, self.clock, ImmediateDisk(), ImmediateDisk(), lambda: self.now)
        self.successResultOf(index.start())
        self.addCleanup(lambda: self.successResultOf(index.stop()))
        return index

    def sums(self, span: int, since: int = 0, index: SqliteIndex | None = None) -> list[tuple[int, Sums]]:
        told: list[tuple[int, Sums]] = self.successResultOf((index or self.index).sums(span, since))
        return told

    def test_empty(self) -> None:
        """Where nothing was counted there is nothing, and counting nothing leaves nothing."""
        self.index.counted(Sums())
        self.assertEqual(self.sums(MINUTE), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_by_minute_and_hour(self) -> None:
        """What is counted belongs to its minute and its hour, told in order, at once."""
        for seconds, told in ((0, PULL), (59.9, MISS), (60, PULL), (3600, MISS)):
            self.now = NOON + seconds
            self.index.counted(told)
        self.assertEqual(self.sums(MINUTE), [(NOON, PULL + MISS), (NOON + 60, PULL), (NOON + 3600, MISS)])
        self.assertEqual(self.sums(HOUR), [(NOON, PULL + MISS + PULL), (NOON + 3600, MISS)])

    def test_since(self) -> None:
        """Only the spans that begin then or later are told."""
        self.index.counted(PULL)
        self.assertEqual(self.sums(MINUTE, NOON), [(NOON, PULL)])
        self.assertEqual(self.sums(MINUTE, NOON + 1), [])

    def test_several_workers(self) -> None:
        """Each adds its own; all see the sum."""
        other = self.make()
        for index, told in ((self.index, PULL), (other, MISS), (self.index, MISS), (other, PULL)):
            index.counted(told)
            self.clock.advance(1)
        self.index.counted(PULL)
        expected = [(NOON, PULL + MISS + MISS + PULL + PULL)]
        self.assertEqual(self.sums(MINUTE), expected)
        self.assertEqual(self.sums(MINUTE, index=other), expected)

    def test_restart(self) -> None:
        """They are there after a restart, and go on."""
        self.index.counted(PULL)
        self.successResultOf(self.index.stop())
        after = self.make()
        after.counted(MISS)
        self.assertEqual(self.sums(MINUTE, index=after), [(NOON, PULL + MISS)])

    def test_bounded(self) -> None:
        """Minutes are kept for a day, hours for 31; nothing is in the file beyond that."""
        for hour in range(0, 40 * 24):
            self.now = NOON + hour * 3600
            self.index.counted(PULL)
            self.clock.advance(1)
        last = int(self.now)
        minutes, hours = self.sums(MINUTE), self.sums(HOUR)
        self.assertEqual([len(minutes), len(hours)], [24, 31 * 24])
        self.assertEqual((minutes[0][0], hours[0][0]), (last - 23 * 3600, last - KEPT[HOUR] + 3600))
        with closing(sqlite3.connect(self.path)) as connection:
            self.assertEqual(connection.execute("SELECT count(*) FROM sums").fetchone(), (24 + 31 * 24,))

    def test_clock_put_right(self) -> None:
        """Sums of a time that has yet to come are dropped when the clock is put back."""
        self.now = NOON + 5 * 86400
        self.index.counted(PULL)
        self.clock.advance(1)
        self.now = NOON
        self.index.counted(MISS)
        self.assertEqual(self.sums(MINUTE), [(NOON, MISS)])
        self.assertEqual(self.sums(HOUR), [(NOON, MISS)])

    def test_file_of_before(self) -> None:
        """A file without the table gets it, and keeps what it has."""
        self.successResultOf(self.index.stop())
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("DROP TABLE sums")
            connection.execute("INSERT INTO blobs VALUES ('sha256:0', 5, 0, 0)")
            connection.commit()
        after = self.make()
        after.counted(PULL)
        self.assertEqual(self.sums(MINUTE, index=after), [(NOON, PULL)])
        self.assertEqual(self.successResultOf(after.totals()).bytes, 5)

    def test_busy_file(self) -> None:
        """While the file cannot be written nothing is lost and nothing counted twice."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            self.index._written._connected().execute("PRAGMA busy_timeout = 1")
            self.index.counted(PULL)
            self.assertEqual(self.sums(MINUTE), [])
            self.index.counted(MISS)
            self.now += 60
            self.index.counted(PULL)
            other.execute("ROLLBACK")
        self.assertEqual(self.sums(MINUTE), [(NOON, PULL + MISS), (NOON + 60, PULL)])

    def test_reindex_leaves_them(self) -> None:
        """Building the index anew does not touch what no file could tell again."""
        self.index.counted(PULL)
        self.clock.advance(1)
        self.successResultOf(self.index.replace([]))
        self.assertEqual(self.sums(MINUTE), [(NOON, PULL)])

    def test_not_running(self) -> None:
        """An index that does not run tells of nothing."""
        self.successResultOf(self.index.stop())
        self.assertEqual(self.sums(MINUTE), [])
