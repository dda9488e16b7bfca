"""The file of the index: SQLite, blocking, for the threads of `nora.storage.index` alone.

Everything in it but the sums can be told again, and those are only looked at; so a file that is damaged or of another
schema is set aside and begun anew, and commits are not synced: a power failure costs the last of them. Several workers
open one file; making and setting aside are under a lock of the file beside it, so that no two of them begin anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import attrs
from twisted.logger import Logger

from nora.access.rights import full_name
from nora.oci import Digest, Repository
from nora.oci.reference import LOCAL
from nora.storage import overview, summing
from nora.storage.interfaces import Totals
from nora.telemetry.pulls import Key
from nora.telemetry.sums import Sums

_VERSION = 2
_BUSY = 5.0
"""Seconds that a write waits for another worker's."""
_CACHE, _LARGE_CACHE = -2_000, -128_000
"""KiB of the file that a connection keeps in memory: always, and while it is filled anew."""
_SCHEMA = """
CREATE TABLE blobs (
    digest TEXT PRIMARY KEY, size INTEGER NOT NULL, stored_at REAL NOT NULL, used_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE listed (
    namespace TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (namespace, name, digest)
) WITHOUT ROWID;
CREATE TABLE links (
    digest TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (digest, namespace, name)
) WITHOUT ROWID;
CREATE TABLE repositories (
    full TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (full, namespace)
) WITHOUT ROWID;
CREATE TABLE totals (blobs INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO totals VALUES (0, 0);
CREATE TRIGGER blob_stored AFTER INSERT ON blobs
    BEGIN UPDATE totals SET blobs = blobs + 1, bytes = bytes + new.size; END;
CREATE TRIGGER blob_removed AFTER DELETE ON blobs
    BEGIN UPDATE totals SET blobs = blobs - 1, bytes = bytes - old.size; END;
CREATE TRIGGER blob_resized AFTER UPDATE OF size ON blobs
    BEGIN UPDATE totals SET bytes = bytes - old.size + new.size; END;
"""
_STORE = """
INSERT INTO blobs (digest, size, stored_at, used_at) VALUES (?, ?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET size = excluded.size
"""
_LIST = """
INSERT INTO listed (namespace, name, digest, size) VALUES (?, ?, ?, ?)
ON CONFLICT (namespace, name, digest) DO UPDATE SET size = excluded.size
"""

_UNLINK = "DELETE FROM links WHERE digest = ? AND namespace = ? AND name = ?"
_HOLDERS = """
SELECT namespace, name FROM links WHERE digest = ? AND namespace = ?
UNION ALL SELECT namespace, name FROM links WHERE digest = ? AND namespace <> ? LIMIT ?
"""

R = TypeVar("R")

Sizes = Mapping[Digest, "tuple[int, float] | None"]
"""Blobs and the size and time they were stored with; None for a removed one."""


@attrs.define
class Batch:
    """What was told and is not written yet; of several words on one thing only the last counts."""

    stored: dict[Digest, tuple[int, float] | None] = attrs.Factory(dict)
    used: dict[Digest, float] = attrs.Factory(dict)
    listed: dict[tuple[Repository, Digest], int] = attrs.Factory(dict)
    linked: dict[tuple[Repository, Digest], bool] = attrs.Factory(dict)
    """False for a right that was lost."""
    repositories: dict[Repository, bool] = attrs.Factory(dict)
    """False for one that has no manifest any more."""
    sums: dict[int, Sums] = attrs.Factory(dict)
    """What is to be added, by the minute's beginning in seconds since the epoch: here all words count."""
    pulled: dict[Key, tuple[int, float]] = attrs.Factory(dict)
    """Pulls to be added, and when the last was: here too."""

    def __len__(self) -> int:
        told = len(self.stored) + len(self.used) + len(self.listed) + len(self.linked)
        return told + len(self.repositories) + len(self.sums) + len(self.pulled)


def is_damage(error: Exception) -> bool:
    """Tell whether `error` means that the file is damaged, not that it is busy, full or unreachable."""
    return type(error) is sqlite3.DatabaseError


class IndexDatabase:
    """One connection to the index at `path`. Every method blocks and may raise `sqlite3.Error` and `OSError`."""

    _log = Logger()

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Connect, making the file when it is missing and beginning anew when it cannot be used."""
        if self._connection is not None:
            return
        with self._alone():
            try:
                self._connection = self._connect(make=True)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self._set_aside(error)
                self._connection = self._connect(make=True)

    def join(self) -> None:
        """Connect to the file that another connection has made."""
        if self._connection is None:
            self._connection = self._connect(make=False)

    def begin_anew(self, reason: Exception, inode: int | None) -> None:
        """Disconnect, and set the damaged file of that `inode` aside unless another worker did already."""
        self.close()
        with self._alone():
            if inode is not None and inode == self.inode():
                self._set_aside(reason)

    def inode(self) -> int | None:
        """Tell which file is at the path now."""
        try:
            return os.stat(self._path).st_ino
        except FileNotFoundError:
            return None

    def close(self) -> None:
        """Disconnect; a second call does nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def write(self, batch: Batch) -> None:
        """Write all of `batch`, or nothing. In the order of the tables, a page at a time."""
        removed = [(str(digest),) for digest, found in batch.stored.items() if found is None]
        stored = [
            (str(d), found[0], found[1], found[1]) for d, found in batch.stored.items() if found is not None
        ]
        used = [(at, str(digest)) for digest, at in batch.used.items()]
        listed = [(r.namespace, r.name, str(digest), size) for (r, digest), size in batch.listed.items()]
        linked = [(str(digest), r.namespace, r.name) for (r, digest), held in batch.linked.items() if held]
        unlinked = [
            (str(digest), r.namespace, r.name) for (r, digest), held in batch.linked.items() if not held
        ]
        named = [(full_name(r), r.namespace, r.name) for r, there in batch.repositories.items() if there]
        empty = [(full_name(r), r.namespace) for r, there in batch.repositories.items() if not there]
        with self._transaction() as connection:
            connection.executemany("INSERT OR IGNORE INTO repositories VALUES (?, ?, ?)", named)
            connection.executemany("DELETE FROM repositories WHERE full = ? AND namespace = ?", empty)
            connection.executemany(_UNLINK, unlinked)
            overview.forget_pulls(connection, unlinked)
            connection.executemany("INSERT OR IGNORE INTO links VALUES (?, ?, ?)", sorted(linked))
            connection.executemany("DELETE FROM blobs WHERE digest = ?", removed)
            connection.executemany(_STORE, sorted(stored))
            connection.executemany("UPDATE blobs SET used_at = max(used_at, ?) WHERE digest = ?", used)
            connection.executemany(_LIST, sorted(listed))
            summing.add(connection, batch.sums)
            overview.add_pulls(connection, batch.pulled)

    def ask(self, question: Callable[[sqlite3.Connection], R]) -> R:
        """Put a question of `nora.storage.overview`."""
        return question(self._connected())

    def listed_size(self, repository: Repository, digest: Digest) -> int | None:
        """Tell the size that is listed for `digest` in `repository`."""
        found = self._connected().execute(
            "SELECT size FROM listed WHERE namespace = ? AND name = ? AND digest = ?",
            (repository.namespace, repository.name, str(digest)),
        )
        row = found.fetchone()
        return None if row is None else int(row[0])

    def holders(self, digest: Digest, limit: int) -> list[Repository]:
        """List up to `limit` repositories that have a link to `digest`, the local ones first."""
        found = self._connected().execute(_HOLDERS, (str(digest), LOCAL, str(digest), LOCAL, limit))
        return [Repository(namespace, name) for namespace, name in found]

    def repositories(self, last: str, limit: int) -> list[Repository]:
        """List up to `limit` repositories after `last`, in the byte order of their full names."""
        found = self._connected().execute(
            "SELECT namespace, name FROM repositories WHERE full > ? ORDER BY full, namespace LIMIT ?",
            (last, limit),
        )
        return [Repository(namespace, name) for namespace, name in found]

    def sums(self, span: int, since: int) -> list[tuple[int, Sums]]:
        """List the sums of the spans, in seconds, that begin at `since` or later, by their beginnings."""
        return summing.read(self._connected(), span, since)

    def totals(self, unwritten: Sizes) -> Totals:
        """Count what is stored, as it will be when `unwritten` is written."""
        connection = self._connected()
        connection.execute("BEGIN")  # one moment for all that follows
        try:
            blobs, total = connection.execute("SELECT blobs, bytes FROM totals").fetchone()
            for digest, found in unwritten.items():
                row = connection.execute("SELECT size FROM blobs WHERE digest = ?", (str(digest),)).fetchone()
                blobs += (found is not None) - (row is not None)
                total += (found[0] if found else 0) - (row[0] if row else 0)
        finally:
            connection.execute("COMMIT")
        return Totals(blobs, total)

    def replace(self, batches: Iterable[Batch]) -> None:
        """Make the tables hold what `batches` tell, and what others tell meanwhile; all else goes.

        The uses that are known stay. What was there before is noted first, and what of it was not told again is
        deleted at the end, so that a daemon may run beside this.
        """
        connection = self._connected()
        connection.execute("CREATE TEMP TABLE old_blobs AS SELECT digest FROM blobs")
        connection.execute("CREATE TEMP TABLE old_listed AS SELECT namespace, name, digest FROM listed")
        connection.execute("CREATE TEMP TABLE old_links AS SELECT digest, namespace, name FROM links")
        connection.execute("CREATE TEMP TABLE old_repositories AS SELECT full, namespace FROM repositories")
        connection.execute("CREATE UNIQUE INDEX temp.old_names_key ON old_repositories (full, namespace)")
        connection.execute("CREATE UNIQUE INDEX temp.old_links_key ON old_links (digest, namespace, name)")
        connection.execute("CREATE UNIQUE INDEX temp.old_blobs_key ON old_blobs (digest)")
        connection.execute("CREATE UNIQUE INDEX temp.old_listed_key ON old_listed (namespace, name, digest)")
        connection.execute(f"PRAGMA cache_size = {_LARGE_CACHE}")
        try:
            for batch in batches:
                self.write(batch)
                self._told_again(batch)
            with self._transaction():
                connection.execute(
                    "DELETE FROM repositories WHERE (full, namespace) IN "
                    "(SELECT full, namespace FROM old_repositories)"
                )
                connection.execute(
                    "DELETE FROM links WHERE (digest, namespace, name) IN "
                    "(SELECT digest, namespace, name FROM old_links)"
                )
                connection.execute("DELETE FROM blobs WHERE digest IN (SELECT digest FROM old_blobs)")
                connection.execute(
                    "DELETE FROM listed WHERE (namespace, name, digest) IN "
                    "(SELECT namespace, name, digest FROM old_listed)"
                )
                overview.forget_orphans(connection)
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            connection.execute("DROP TABLE old_blobs")
            connection.execute("DROP TABLE old_listed")
            connection.execute("DROP TABLE old_links")
            connection.execute("DROP TABLE old_repositories")
            connection.execute(f"PRAGMA cache_size = {_CACHE}")

    def _told_again(self, batch: Batch) -> None:
        """Take what `batch` tells from what is to be deleted at the end of `replace`."""
        connection = self._connected()
        connection.execute("BEGIN")  # of the temporary tables alone: it holds up nobody
        connection.executemany("DELETE FROM old_blobs WHERE digest = ?", [(str(d),) for d in batch.stored])
        connection.executemany(
            "DELETE FROM old_listed WHERE namespace = ? AND name = ? AND digest = ?",
            [(r.namespace, r.name, str(digest)) for r, digest in batch.listed],
        )
        connection.executemany(
            "DELETE FROM old_links WHERE digest = ? AND namespace = ? AND name = ?",
            [(str(digest), r.namespace, r.name) for r, digest in batch.linked],
        )
        connection.executemany(
            "DELETE FROM old_repositories WHERE full = ? AND namespace = ?",
            [(full_name(r), r.namespace) for r in batch.repositories],
        )
        connection.execute("COMMIT")

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.OperationalError("the index is not open")
        return self._connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connected()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _connect(self, *, make: bool) -> sqlite3.Connection:
        if not make:
            os.stat(self._path)
        # The one thread of a pool can be followed by another, but never has one beside it.
        connection = sqlite3.connect(self._path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if make and empty:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version = {_VERSION};COMMIT;")
            elif version != _VERSION:
                raise sqlite3.DatabaseError(f"its schema is {version}, not {_VERSION}")
            if make:
                connection.execute(summing.TABLE)
                connection.execute(overview.PULLED)
            connection.execute("PRAGMA synchronous = NORMAL")
            _check(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside(self, reason: Exception) -> None:
        self._log.warn("the index {path} begins anew: {reason}", path=self._path, reason=str(reason))
        with contextlib.suppress(FileNotFoundError):
            os.replace(self._path, f"{self._path}.bad")
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path + suffix)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock beside the file; after a few seconds go on without, for an index must not stop a start."""
        descriptor = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            for _ in range(100):
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(_BUSY / 100)
                else:
                    break
            yield
        finally:
            os.close(descriptor)


def _check(connection: sqlite3.Connection) -> None:
    """Raise what `is_damage` knows unless the tables are there: at the price of eight pages, whatever their size."""
    tables = {
        "blobs": "digest",
        "listed": "digest",
        "links": "digest",
        "repositories": "full",
        "sums": "start",
        "pulled": "digest",
    }
    for table, column in tables.items():
        try:
            connection.execute(f"SELECT {column} FROM {table} LIMIT 1").fetchone()  # noqa: S608
        except sqlite3.OperationalError as error:
            if str(error).startswith("no such"):
                raise sqlite3.DatabaseError(str(error)) from error
            raise
    if connection.execute("SELECT blobs, bytes FROM totals").fetchone() is None:
        raise sqlite3.DatabaseError("it lacks its totals")
