"""An index whose clock and threads a test moves."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Digest, Repository
from nora.storage import SqliteIndex
from nora.storage.interfaces import Totals
from tests.support.storage_fakes import ImmediateDisk, SteppedDisk, temporary_folder

DIGEST, OTHER = Digest.of(b"a"), Digest.of(b"b")
REPOSITORY = Repository("docker.io", "library/nginx")


class StartedSteps(SteppedDisk):
    """A stepped disk that an index can start and stop."""

    def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""


class IndexCase(SynchronousTestCase):
    """An index on a fake clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.now = 1000.0
        self.path = os.path.join(temporary_folder(self), "index.sqlite")
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def make(self, started: bool = True, writer: Any = None) -> SqliteIndex:
        index = SqliteIndex(
            self.path, self.clock, writer or ImmediateDisk(), ImmediateDisk(), lambda: self.now
        )
        if started:
            self.start(index)
        return index

    def start(self, index: SqliteIndex) -> None:
        self.successResultOf(index.start())
        self.addCleanup(lambda: self.successResultOf(index.stop()))

    def totals(self, index: SqliteIndex) -> Totals:
        totals: Totals = self.successResultOf(index.totals())
        return totals

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query).fetchall()

    def logged(self, text: str) -> int:
        return len([event for event in self.events if text in str(event.get("log_format"))])
