"""The overview: what the pages ask of the index beside what the registry asks, and how often what was pulled.

Each question has a bound on the rows that it looks at, whatever is in the file, and goes from a key on: nothing is
skipped by counting, and no table is read whole. `PLANNED` has every statement, for the test that looks at their plans.

Pulls are sums as those of `nora.telemetry.sums`: nothing else has them, so they begin anew with a new file. They are
kept for what a repository may read, and go with that right, so there are never more of them than links.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, TypeVar

import attrs

from nora.oci import Digest, Repository
from nora.telemetry.pulls import Key

R = TypeVar("R")

STEP = 50_000
"""Names that one question compares with what is searched for: some ten milliseconds."""
_NAMES = 1000
_LEAST = 50
"""Entries of a repository that are looked at, whatever was looked at before."""

PULLED = """
CREATE TABLE IF NOT EXISTS pulled (
    namespace TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, pulls INTEGER NOT NULL, last_at REAL NOT NULL,
    PRIMARY KEY (namespace, name, digest)
) WITHOUT ROWID
"""
"""Apart from the schema, as the sums are: an older file gets the table and keeps all else."""
_ADD = """
INSERT INTO pulled (namespace, name, digest, pulls, last_at)
SELECT namespace, name, digest, ?, ? FROM links WHERE digest = ? AND namespace = ? AND name = ?
ON CONFLICT (namespace, name, digest) DO UPDATE SET
    pulls = pulls + excluded.pulls, last_at = max(last_at, excluded.last_at)
"""
_FORGET = "DELETE FROM pulled WHERE namespace = ? AND name = ? AND digest = ?"
_FORGET_ORPHANS = """
DELETE FROM pulled WHERE NOT EXISTS (
    SELECT 1 FROM links
    WHERE links.digest = pulled.digest AND links.namespace = pulled.namespace AND links.name = pulled.name
)
"""
_PULLS = "SELECT pulls, last_at FROM pulled WHERE namespace = ? AND name = ? AND digest = ?"
_BOUND = "SELECT full FROM repositories WHERE full > ? ORDER BY full LIMIT 1 OFFSET ?"
"""Finds where the names end that one question looks at: here an offset is the bound, not the place of a page."""
_SEARCH = """
SELECT namespace, name, full FROM repositories
WHERE full > ? AND full <= ? AND instr(full, ?) ORDER BY full, namespace LIMIT ?
"""
_SEARCH_REST = """
SELECT namespace, name, full FROM repositories WHERE full > ? AND instr(full, ?) ORDER BY full, namespace LIMIT ?
"""
_HELD = """
SELECT count(*), count(here.size), coalesce(sum(here.size), 0) FROM (
    SELECT blobs.size AS size FROM (SELECT digest FROM listed WHERE namespace = ? AND name = ? LIMIT ?) AS parts
    LEFT JOIN links ON links.digest = parts.digest AND links.namespace = ? AND links.name = ?
    LEFT JOIN blobs ON blobs.digest = links.digest
) AS here
"""
PLANNED = MappingProxyType(
    {
        _ADD: 5,
        _FORGET: 3,
        _PULLS: 3,
        _BOUND: 2,
        _SEARCH: 4,
        _SEARCH_REST: 3,
        _HELD: 5,
    }
)
"""What is run while a daemon serves, with the number of its parameters."""


@attrs.frozen
class Searched:
    """What a search found, in the byte order of full names; `end` is the name to go on after, if any."""

    repositories: tuple[Repository, ...]
    end: str | None


@attrs.frozen
class Held:
    """How much of what its manifests list a repository has here. `whole` is False when not all of it was looked at."""

    blobs: int
    bytes: int
    whole: bool


@attrs.frozen
class Pulled:
    """How often a manifest was given out to clients of a repository, and when last, in seconds since the epoch."""

    pulls: int
    last_at: float


class Asking(Protocol):
    """The index, as the overview asks it; see `nora.storage.index.SqliteIndex.ask`."""

    async def ask(self, otherwise: R, question: Callable[[sqlite3.Connection], R]) -> R:
        """Put a question to the file in the reading thread, or give `otherwise` when it cannot be read."""


class Overview:
    """Asks the index of one store. What was told in the last second or so may be missing in the answers."""

    def __init__(self, index: Asking) -> None:
        self._index = index

    async def search(self, text: str, last: str, limit: int) -> Searched:
        """Find up to `limit` repositories after `last` that have `text` in their full names, in one step.

        A step looks at 50,000 names; it may find nothing and yet not be at the end.
        """
        nothing = Searched((), None)
        return await self._index.ask(nothing, lambda connection: _search(connection, text, last, limit))

    async def held(self, repositories: Sequence[Repository], each: int, together: int) -> list[Held]:
        """Tell how much each of `repositories` has, looking at up to `each` of its entries, and at `together` in all.

        Of the last ones a few are looked at even when that was reached.
        """
        return await self._index.ask(
            [Held(0, 0, False) for _ in repositories],
            lambda connection: _held(connection, repositories, each, together),
        )

    async def pulls(self, repository: Repository, digests: Sequence[Digest]) -> dict[Digest, Pulled]:
        """Tell of each of `digests` that was pulled from `repository` how often."""
        nothing: dict[Digest, Pulled] = {}
        return await self._index.ask(nothing, lambda connection: _pulls(connection, repository, digests))


def add_pulls(connection: sqlite3.Connection, pulled: Mapping[Key, tuple[int, float]]) -> None:
    """Write what was pulled, after the links; what is not linked is not kept."""
    rows = [(n, at, digest, namespace, name) for (namespace, name, digest), (n, at) in sorted(pulled.items())]
    connection.executemany(_ADD, rows)


def forget_pulls(connection: sqlite3.Connection, unlinked: Sequence[tuple[str, str, str]]) -> None:
    """Forget the pulls of what repositories may not read any more; given are digest, namespace and name."""
    connection.executemany(_FORGET, [(namespace, name, digest) for digest, namespace, name in unlinked])


def forget_orphans(connection: sqlite3.Connection) -> None:
    """Forget the pulls of whatever has no link; it reads all of them."""
    connection.execute(_FORGET_ORPHANS)


def _search(connection: sqlite3.Connection, text: str, last: str, limit: int) -> Searched:
    bound = connection.execute(_BOUND, (last, STEP - 1)).fetchone()
    if bound is None:
        rows = connection.execute(_SEARCH_REST, (last, text, limit)).fetchall()
    else:
        rows = connection.execute(_SEARCH, (last, bound[0], text, limit)).fetchall()
    found = tuple(Repository(namespace, name) for namespace, name, _ in rows)
    if len(rows) == limit:
        return Searched(found, rows[-1][2])
    return Searched(found, None if bound is None else bound[0])


def _held(
    connection: sqlite3.Connection, repositories: Sequence[Repository], each: int, together: int
) -> list[Held]:
    found = []
    for repository in repositories:
        most = max(min(each, together), _LEAST)
        key = (repository.namespace, repository.name)
        looked, blobs, size = connection.execute(_HELD, (*key, most, *key)).fetchone()
        together -= looked
        found.append(Held(blobs, size, looked < most))
    return found


def _pulls(
    connection: sqlite3.Connection, repository: Repository, digests: Sequence[Digest]
) -> dict[Digest, Pulled]:
    found = {}
    for digest in digests[:_NAMES]:
        row = connection.execute(_PULLS, (repository.namespace, repository.name, str(digest))).fetchone()
        if row is not None:
            found[digest] = Pulled(row[0], min(row[1], time.time()))
    return found
