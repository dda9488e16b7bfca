"""What the pages ask of the index: right, bounded, and by plans that read no table whole."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Descriptor, Digest, Repository
from nora.storage import overview
from nora.storage.database import Batch
from nora.storage.index import SqliteIndex
from nora.storage.overview import PLANNED, Held, Overview, Pulled
from tests.support.storage_fakes import ImmediateDisk, temporary_folder

ONE, OTHER = Repository("docker.io", "library/nginx"), Repository("local", "team/app")
A, B, C = (Digest.of(bytes([n])) for n in range(3))
NOW = 1_700_000_000.0


class OverviewTests(SynchronousTestCase):
    """The questions."""

    def setUp(self) -> None:
        self.path = os.path.join(temporary_folder(self), "index.sqlite")
        self.now = NOW
        self.index = self.open()
        self.overview = Overview(self.index)

    def open(self) -> SqliteIndex:
        index = SqliteIndex(self.path, Clock(), ImmediateDisk(), ImmediateDisk(), lambda: self.now)
        self.successResultOf(Deferred.fromCoroutine(index.start()))
        self.addCleanup(lambda: self.successResultOf(Deferred.fromCoroutine(index.stop())))
        return index

    def flush(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.index.flush()))

    def pulls(self, repository: Repository = ONE) -> dict[Digest, Pulled]:
        found: dict[Digest, Pulled] = self.successResultOf(
            Deferred.fromCoroutine(self.overview.pulls(repository, [A, B, C]))
        )
        return found

    def pulled(self, repository: Repository, digest: Digest, count: int) -> None:
        self.index.pulled({(repository.namespace, repository.name, str(digest)): count})

    def search(self, text: str, last: str = "", limit: int = 10) -> tuple[list[str], str | None]:
        found = self.successResultOf(Deferred.fromCoroutine(self.overview.search(text, last, limit)))
        return [each.name for each in found.repositories], found.end

    def held(self, *repositories: Repository, each: int = 100, together: int = 100) -> list[Held]:
        found: list[Held] = self.successResultOf(
            Deferred.fromCoroutine(self.overview.held(repositories, each, together))
        )
        return found

    def test_pulls_add_up(self) -> None:
        """Pulls of one manifest add up over batches and restarts, by repository, and the last is remembered."""
        for repository, digest in ((ONE, A), (ONE, B), (OTHER, A)):
            self.index.linked(repository, digest)
        self.pulled(ONE, A, 2)
        self.pulled(ONE, A, 1)
        self.pulled(OTHER, A, 5)
        self.flush()
        self.now += 60
        self.pulled(ONE, A, 4)
        self.flush()
        self.assertEqual(self.pulls(), {A: Pulled(7, NOW + 60)})
        self.assertEqual(self.pulls(OTHER), {A: Pulled(5, NOW)})
        self.overview = Overview(self.open())
        self.assertEqual(self.pulls(), {A: Pulled(7, NOW + 60)})

    def test_pulls_of_nothing(self) -> None:
        """What a repository may not read is not counted, and what it may not read any more is forgotten."""
        self.pulled(ONE, A, 2)
        self.flush()
        self.assertEqual(self.pulls(), {})
        self.index.linked(ONE, A)
        self.pulled(ONE, A, 2)
        self.flush()
        self.index.unlinked(ONE, A)
        self.flush()
        self.index.linked(ONE, A)
        self.flush()
        self.assertEqual(self.pulls(), {})

    def test_pulls_that_fail_to_be_written(self) -> None:
        """A write that fails is joined with what came after it: nothing counts twice, or not at all."""
        self.index.linked(ONE, A)
        self.flush()
        with closing(sqlite3.connect(self.path)) as other:
            other.execute("BEGIN IMMEDIATE")
            self.index._written._connected().execute("PRAGMA busy_timeout = 0")
            self.pulled(ONE, A, 2)
            self.flush()
        self.pulled(ONE, A, 3)
        self.flush()
        self.assertEqual(self.pulls(), {A: Pulled(5, NOW)})

    def test_reindex_keeps_pulls(self) -> None:
        """Building the index anew keeps the pulls of what is still linked, and no others."""
        for digest in (A, B):
            self.index.linked(ONE, digest)
            self.pulled(ONE, digest, 2)
        self.flush()
        batch = Batch()
        batch.linked[ONE, A] = True
        self.successResultOf(Deferred.fromCoroutine(self.index.replace([batch])))
        self.assertEqual(self.pulls(), {A: Pulled(2, NOW)})

    def test_file_from_before(self) -> None:
        """A file without the table gets it, and keeps what it has."""
        self.index.linked(ONE, A)
        self.successResultOf(Deferred.fromCoroutine(self.index.stop()))
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("DROP TABLE pulled")
            connection.commit()
        self.index = self.open()
        self.overview = Overview(self.index)
        self.pulled(ONE, A, 2)
        self.flush()
        self.assertEqual(self.pulls(), {A: Pulled(2, NOW)})

    def test_search(self) -> None:
        """A text is found anywhere in full names, in their order, in parts that go on after a name."""
        for name in ("team/app", "team/other", "x/team", "zoo"):
            self.index.appeared(Repository("local", name))
        self.index.appeared(ONE)
        self.flush()
        self.assertEqual(self.search("team"), (["team/app", "team/other", "x/team"], None))
        self.assertEqual(self.search("docker.io/lib"), (["library/nginx"], None))
        self.assertEqual(self.search("team", limit=2), (["team/app", "team/other"], "team/other"))
        self.assertEqual(self.search("team", "team/other"), (["x/team"], None))
        self.assertEqual(self.search("TEAM"), ([], None))
        self.assertEqual(self.search("%"), ([], None))

    def test_bounded_search(self) -> None:
        """One step looks at so many names and tells where it ended, whether or not it found anything."""
        self.patch(overview, "STEP", 3)
        for number in range(8):
            self.index.appeared(Repository("local", f"a{number}"))
        self.flush()
        self.assertEqual(self.search("a7"), ([], "a2"))
        self.assertEqual(self.search("a7", "a2"), ([], "a5"))
        self.assertEqual(self.search("a7", "a5"), (["a7"], None))
        self.assertEqual(self.search("a", "a2", 2), (["a3", "a4"], "a4"))

    def test_held(self) -> None:
        """What is listed, stored and linked counts; where there is more than may be looked at that is said."""
        self.index.listed(ONE, [Descriptor("x/y", digest, 10) for digest in (A, B, C)])
        self.index.linked(ONE, A)
        self.index.linked(ONE, B)
        self.index.linked(OTHER, C)
        for digest in (A, C):
            self.index.stored(digest, 10)
        self.flush()
        self.assertEqual(self.held(ONE, OTHER), [Held(1, 10, True), Held(0, 0, True)])
        self.patch(overview, "_LEAST", 1)
        self.assertFalse(self.held(ONE, each=2)[0].whole)
        self.assertEqual([each.whole for each in self.held(ONE, ONE, each=4, together=4)], [True, False])

    def test_plans(self) -> None:
        """No question reads a table whole, or sorts what it found: each goes from a key on."""
        with closing(sqlite3.connect(self.path)) as connection:
            for statement, count in PLANNED.items():
                plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", [None] * count).fetchall()
                steps = [str(row[3]) for row in plan]
                self.assertTrue(any("SEARCH" in step for step in steps), statement)
                for step in steps:
                    read = step.startswith("SCAN") and step != "SCAN parts"
                    self.assertFalse(read or "TEMP B-TREE" in step, (statement, steps))

    def test_plan_of_the_list(self) -> None:
        """Nor does the list of repositories."""
        with closing(sqlite3.connect(self.path)) as connection:
            statements: list[str] = []
            connection.set_trace_callback(statements.append)
            self.index._read._connection = connection
            self.index._read.repositories("docker.io", 10)
            self.index._read._connection = None
            connection.set_trace_callback(None)
            (plan,) = connection.execute(f"EXPLAIN QUERY PLAN {statements[0]}").fetchall()
        self.assertIn("SEARCH repositories USING PRIMARY KEY (full>?)", plan[3])

    def test_without_a_file(self) -> None:
        """An index that cannot be read knows of nothing, and fails nobody."""
        self.successResultOf(Deferred.fromCoroutine(self.index.stop()))
        self.assertEqual(self.search("a"), ([], None))
        self.assertEqual(self.held(ONE), [Held(0, 0, False)])
        self.assertEqual(self.pulls(), {})
