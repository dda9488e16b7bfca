"""An index that cannot be written, read or opened, and one of several processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from nora.oci import Repository
from nora.storage import SqliteIndex
from nora.storage.interfaces import Totals
from tests.support.index_case import DIGEST, OTHER, REPOSITORY, IndexCase


class FailureTests(IndexCase):
    """Files that cannot be used."""

    def spoil(self, content: bytes) -> None:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path + suffix)
        with open(self.path, "wb") as file:
            file.write(content)

    def assert_works(self, index: SqliteIndex) -> None:
        index.stored(DIGEST, 10)
        self.clock.advance(1)
        self.assertEqual(self.rows("SELECT size FROM blobs"), [(10,)])
        self.assertEqual(self.totals(index), Totals(1, 10))

    def test_no_database(self) -> None:
        """A file that is no database is set aside, with a warning, and the index begins anew."""
        self.spoil(b"this is no database" * 100)
        self.assert_works(self.make())
        self.assertEqual(self.logged("begins anew"), 1)
        with open(f"{self.path}.bad", "rb") as file:
            self.assertTrue(file.read().startswith(b"this is no database"))

    def test_lock_that_nobody_frees(self) -> None:
        """A worker that hangs while it makes the file delays the start of another by seconds, not for ever."""
        pauses: list[float] = []
        self.patch(time, "sleep", pauses.append)
        with open(f"{self.path}.lock", "w", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.assert_works(self.make())
        self.assertAlmostEqual(sum(pauses), 5.0)

    def test_other_schema(self) -> None:
        """A file of another version, or that lacks what it should have, is set aside."""
        for script in (
            "CREATE TABLE blobs (x); PRAGMA user_version = 7",
            "CREATE TABLE blobs (x)",
            "CREATE TABLE blobs (x); PRAGMA user_version = 2",
            "CREATE TABLE blobs (size); CREATE TABLE listed (size); CREATE TABLE totals (blobs, bytes);"
            "PRAGMA user_version = 2",
        ):
            self.spoil(b"")
            with contextlib.closing(sqlite3.connect(self.path)) as connection:
                connection.executescript(script)
            index = self.make()
            self.assert_works(index)
            self.successResultOf(index.stop())
        self.assertEqual(self.logged("begins anew"), 4)

    def test_damaged_while_it_runs(self) -> None:
        """Damage that shows only in the middle of the work makes the index begin anew, and loses no new word."""
        index = self.make()
        index.stored(OTHER, 1)
        self.clock.advance(1)
        write, failing = index._written.write, [True]

        def damaged(batch: Any) -> None:
            if failing.pop() if failing else False:
                raise sqlite3.DatabaseError("database disk image is malformed")
            write(batch)

        self.patch(index._written, "write", damaged)
        index.stored(DIGEST, 10)
        self.clock.advance(1)
        self.assertEqual(self.totals(index), Totals(2, 11))
        self.clock.advance(2)
        self.assertEqual(self.rows("SELECT digest, size FROM blobs"), [(str(DIGEST), 10)])
        self.assertEqual(self.totals(index), Totals(1, 10))
        self.assertTrue(os.path.exists(f"{self.path}.bad"))

    def test_damage_found_by_a_question(self) -> None:
        """A question that meets damage is answered as if nothing were stored, and the index begins anew."""
        index = self.make()
        index.stored(OTHER, 1)
        self.clock.advance(1)

        def damaged(*_: object) -> int:
            raise sqlite3.DatabaseError("database disk image is malformed")

        original = index._read.listed_size
        self.patch(index._read, "listed_size", damaged)
        for _ in range(2):
            self.assertIsNone(self.successResultOf(index.listed_size(REPOSITORY, DIGEST)))
        self.assertEqual(self.logged("cannot be read"), 1)
        self.patch(index._read, "listed_size", original)
        self.clock.advance(1)
        self.assertEqual(self.logged("begins anew"), 1)
        self.assertEqual(self.totals(index), Totals(0, 0))
        self.assert_works(index)

    def test_cannot_be_opened(self) -> None:
        """A file that cannot be opened stops nothing; once it can be, all that was told is written."""
        os.mkdir(self.path)
        index = self.make()
        index.stored(DIGEST, 10)
        for _ in range(3):
            self.assertEqual(self.totals(index), Totals(1, 10))
            self.assertIsNone(self.successResultOf(index.listed_size(REPOSITORY, DIGEST)))
            self.clock.advance(5)
        self.assertEqual((self.logged("tried again"), self.logged("cannot be read")), (1, 1))
        os.rmdir(self.path)
        self.clock.advance(60)
        self.assertEqual(self.rows("SELECT size FROM blobs"), [(10,)])
        self.assertEqual(self.totals(index), Totals(1, 10))

    def test_busy(self) -> None:
        """A batch that another worker keeps from being written is tried again, later each time, and not lost."""
        index = self.make()
        self.patch(index._written, "write", self.busy(index._written.write, 3))
        index.stored(DIGEST, 10)
        at = []
        for second in range(20):
            self.clock.advance(1)
            if self.rows("SELECT count(*) FROM blobs") != [(0,)]:
                at.append(second)
                break
            index.stored(OTHER, second)
        self.assertEqual(at, [14])  # after 1, 2, 4 and 8 seconds
        self.assertEqual(self.logged("tried again"), 1)
        self.assertEqual(self.rows("SELECT size FROM blobs ORDER BY size"), [(10,), (13,)])

    def busy(self, write: Callable[[Any], None], times: int) -> Callable[[Any], None]:
        failures = [sqlite3.OperationalError("database is locked")] * times

        def written(batch: Any) -> None:
            if failures:
                raise failures.pop()
            write(batch)

        return written

    def test_refused(self) -> None:
        """A batch that the file refuses for what it says is dropped, and does not stop those after it."""
        index = self.make()
        index._pending.stored[OTHER] = (None, 1.0)  # type: ignore[assignment]
        index.stored(DIGEST, 10)
        self.clock.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(sqlite3.IntegrityError)), 1)
        self.assert_works(index)

    def test_nothing_of_a_failed_batch_is_written(self) -> None:
        """A batch is written whole or not at all."""
        index = self.make()
        index._pending.listed[REPOSITORY, DIGEST] = None  # type: ignore[assignment]
        index.stored(DIGEST, 10)
        self.clock.advance(1)
        self.flushLoggedErrors(sqlite3.IntegrityError)
        self.assertEqual(self.rows("SELECT * FROM blobs"), [])


class WorkerTests(IndexCase):
    """Two workers on one file."""

    def test_both_write(self) -> None:
        """What one wrote the other sees, and both count alike."""
        one, other = self.make(), self.make()
        one.stored(DIGEST, 10)
        other.stored(OTHER, 5)
        other.stored(DIGEST, 10)
        self.clock.advance(1)
        self.assertEqual([self.totals(one), self.totals(other)], [Totals(2, 15)] * 2)

    def test_flush(self) -> None:
        """What is flushed the other sees at once; of a repository that both tell of the last word counts."""
        one, other = self.make(), self.make()
        for told, expected in ((True, [REPOSITORY]), (False, []), (True, [REPOSITORY])):
            (one.appeared if told else one.emptied)(REPOSITORY)
            self.assertNotEqual(self.repositories(other), expected)
            self.successResultOf(one.flush())
            self.assertEqual(self.repositories(other), expected)
            one, other = other, one
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_pages_over_what_is_not_written(self) -> None:
        """Parts of the list are whole, though some of it is written, some told, and some told to be gone."""
        one, other = self.make(), self.make()
        names = [Repository("local", f"r{i}") for i in range(9)]
        for repository in names[::2]:
            other.appeared(repository)
        self.successResultOf(other.flush())
        for repository in names[1::2]:
            one.appeared(repository)
        for repository in names[2:4]:
            one.emptied(repository)
        expected = names[:2] + names[4:]
        for limit in (1, 2, 3, 9):
            found: list[Repository] = []
            while True:
                last = found[-1].name if found else ""
                part = self.successResultOf(one.repositories(last, limit))
                found += part
                if len(part) < limit:
                    break
            self.assertEqual(found, expected)

    def repositories(self, index: SqliteIndex) -> list[Repository]:
        found: list[Repository] = self.successResultOf(index.repositories("", 9))
        return found

    def test_one_begins_anew(self) -> None:
        """When one worker set the damaged file aside the other goes on with the new one, and makes no third."""
        one, other = self.make(), self.make()
        one._damage = other._damage = sqlite3.DatabaseError("malformed")
        one.stored(DIGEST, 10)
        other.stored(OTHER, 5)
        self.clock.advance(1)
        self.assertEqual(self.rows("SELECT count(*) FROM blobs"), [(2,)])
        self.assertEqual(self.logged("begins anew"), 1)
        self.assertEqual([self.totals(one), self.totals(other)], [Totals(2, 15)] * 2)

    def test_the_other_did_not_notice(self) -> None:
        """A worker that saw no damage itself still writes to the file that is there now."""
        one, other = self.make(), self.make()
        one._damage = sqlite3.DatabaseError("malformed")
        one.stored(DIGEST, 10)
        self.clock.advance(1)
        other.stored(OTHER, 5)
        self.clock.advance(1)
        self.assertEqual(self.rows("SELECT count(*) FROM blobs"), [(2,)])
        self.assertEqual(self.totals(other), Totals(2, 15))
