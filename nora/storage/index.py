"""The index: what files cannot answer without a walk, told and asked without touching the reactor's time.

The argument. What is told goes into a batch in memory. A second later a thread of the index's own writes it, one
batch at a time; a batch that fails is joined with what came after it and tried again, later each time. A question
looks at what is told and not written yet first, and only then at the file, through a connection of its own that
writers do not hold up: what this process told a moment ago is never missing. Other workers see it a second later.

All of it is derived and bounded: when the file cannot be written for long, the newest words are lost, with a log
line, and `reindex` tells them again. Nothing here raises into those who tell.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from nora.access.rights import full_name
from nora.concurrency import Background
from nora.oci import Descriptor, Digest, Repository
from nora.oci.reference import LOCAL
from nora.storage.database import Batch, IndexDatabase, is_damage
from nora.storage.disk import ThreadedDisk
from nora.storage.interfaces import Totals
from nora.telemetry.pulls import Key
from nora.telemetry.sums import MINUTE, NOTHING, Sums

R = TypeVar("R")

_DELAY = 1.0
_LONGEST_DELAY = 60.0
_EARLY = 10_000
"""Entries that are written without waiting for the second to end."""
_MOST_BLOBS = 20_000
_MOST_LISTED = 50_000
"""Entries that are kept while the file cannot be written; one manifest can list 40,000."""
_MOST_MINUTES = 1440
_LARGEST = 2**63 - 1
"""What the file can hold as a size; no blob has more bytes."""


class Threads(Protocol):
    """A disk with one thread, that the index starts and stops."""

    def start(self) -> None:
        """Take work from now on."""

    def stop(self) -> Awaitable[None]:
        """End the work and the thread."""

    def run(self, work: Callable[..., R], *arguments: Any) -> Deferred[R]:
        """Call `work(*arguments)` in the thread."""


class SqliteIndex:
    """The index of one store, in the SQLite file at `path`."""

    _log = Logger()

    def __init__(
        self,
        path: str,
        clock: IReactorTime,
        writer: Threads,
        reader: Threads,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._writer = writer
        self._reader = reader
        self._now = now
        self._written = IndexDatabase(path)
        self._read = IndexDatabase(path)
        self._inode: int | None = None
        self._read_inode: int | None = None
        self._pending = Batch()
        self._flying = Batch()
        self._flush_call: IDelayedCall | None = None
        self._flushing = Background()
        self._delay = _DELAY
        self._damage: Exception | None = None
        self._running = False
        self._losing = False
        self._blind = False

    @classmethod
    def threaded(cls, path: str, reactor: Any) -> SqliteIndex:
        """Make an index with one thread for writing and one for reading."""
        writer = ThreadedDisk(reactor, threads=1, name="index-writer")
        return cls(path, reactor, writer, ThreadedDisk(reactor, threads=1, name="index-reader"))

    async def start(self) -> None:
        """Open the file. One that cannot be opened is logged and tried again; the store works without."""
        self._writer.start()
        self._reader.start()
        self._running = True
        try:
            self._inode = await self._writer.run(self._open)
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
        if self._pending:
            self._schedule()

    async def stop(self) -> None:
        """Write what is pending, close the file and end the threads. What is told after this is lost."""
        if not self._running:
            return
        self._running = False
        if self._flush_call is not None:
            self._flush_call.cancel()
            self._flush_call = None
        await self._flushing.idle()
        if self._pending:
            await self._flush()
        await self._writer.run(self._written.close)
        await self._reader.run(self._read.close)
        await self._writer.stop()
        await self._reader.stop()

    def stored(self, digest: Digest, size: int) -> None:
        """Tell that a blob was published."""
        self._tell(self._pending.stored, digest, (size, self._now()), _MOST_BLOBS)

    def removed(self, digest: Digest) -> None:
        """Tell that a blob is gone."""
        self._tell(self._pending.stored, digest, None, _MOST_BLOBS)

    def used(self, digest: Digest) -> None:
        """Tell that a blob or manifest was served now."""
        self._tell(self._pending.used, digest, self._now(), _MOST_BLOBS)

    def listed(self, repository: Repository, children: Sequence[Descriptor]) -> None:
        """Tell what a stored manifest of `repository` lists: its blobs, or the manifests of an index."""
        for child in children:
            if child.size <= _LARGEST:
                self._tell(self._pending.listed, (repository, child.digest), child.size, _MOST_LISTED)

    def linked(self, repository: Repository, digest: Digest) -> None:
        """Tell that `repository` got the right to read a blob or manifest."""
        self._tell(self._pending.linked, (repository, digest), True, _MOST_LISTED)

    def unlinked(self, repository: Repository, digest: Digest) -> None:
        """Tell that it lost that right."""
        self._tell(self._pending.linked, (repository, digest), False, _MOST_LISTED)

    async def holders(self, digest: Digest, limit: int) -> list[Repository]:
        """List up to `limit` repositories that may read `digest`, hosted ones first; each is to be confirmed."""
        told: dict[Repository, bool] = {}
        for batch in (self._flying, self._pending):
            told.update({r: held for (r, each), held in batch.linked.items() if each == digest})
        nobody: list[Repository] = []
        written = await self._ask(nobody, lambda: self._read.holders(digest, limit))
        found = {repository: told.pop(repository, True) for repository in written} | told
        held = [repository for repository, held in found.items() if held]
        return sorted(held, key=lambda repository: (repository.namespace != LOCAL, repository))[:limit]

    def appeared(self, repository: Repository) -> None:
        """Tell that `repository` has a manifest."""
        self._tell(self._pending.repositories, repository, True, _MOST_LISTED)

    def emptied(self, repository: Repository) -> None:
        """Tell that `repository` has no manifest any more."""
        self._tell(self._pending.repositories, repository, False, _MOST_LISTED)

    async def repositories(self, last: str, limit: int) -> list[Repository]:
        """List up to `limit` repositories after `last`, in the byte order of their full names."""
        told = {**self._flying.repositories, **self._pending.repositories}
        asked = limit + sum(not there for there in told.values())
        nobody: list[Repository] = []
        written = await self._ask(nobody, lambda: self._read.repositories(last, asked))
        found = {repository for repository in written if told.get(repository, True)}
        end = full_name(written[-1]) if len(written) == asked and written else None
        for repository, there in told.items():
            name = full_name(repository)
            if there and name > last and (end is None or name <= end):
                found.add(repository)
        return sorted(found, key=lambda each: (full_name(each), each.namespace))[:limit]

    def counted(self, sums: Sums) -> None:
        """Add to the sums of this minute, and of this hour."""
        if sums == NOTHING:
            return
        told = self._pending.sums
        minute = int(self._now()) // MINUTE * MINUTE
        self._tell(told, minute, told.get(minute, NOTHING) + sums, _MOST_MINUTES)

    def pulled(self, counts: Mapping[Key, int]) -> None:
        """Add to how often manifests were given out; those of a repository that may not read them are not kept."""
        told, now = self._pending.pulled, self._now()
        for key, count in counts.items():  # there can be 50,000, so each is to cost next to nothing
            before = told.get(key)
            if before is not None or len(told) < _MOST_LISTED:
                told[key] = (count if before is None else before[0] + count, now)
        if told and self._running:
            self._schedule()

    async def ask(self, otherwise: R, question: Callable[[sqlite3.Connection], R]) -> R:
        """Put a question to the file in the reading thread, or give `otherwise`; see `nora.storage.overview`."""
        return await self._ask(otherwise, lambda: self._read.ask(question))

    async def sums(self, span: int, since: int) -> list[tuple[int, Sums]]:
        """Tell, in order, the sums of the spans (`MINUTE` or `HOUR`) that begin at `since` or later, in all processes.

        A span begins at a multiple of its length, in seconds since the epoch; a span of nothing is left out.
        """
        await self.flush()  # what is added to cannot be looked up beside the file: it could be there already
        nothing: list[tuple[int, Sums]] = []
        return await self._ask(nothing, lambda: self._read.sums(span, since))

    async def flush(self) -> None:
        """Write what was told until now, so that other processes see it; a failure is logged, and tried again."""
        if not self._running:
            return
        while len(self._flushing):
            await self._flushing.idle()
        if self._flush_call is not None:
            self._flush_call.cancel()
            self._flush_call = None
        if self._pending:
            self._flushing.start(self._flush_and_go_on())
            await self._flushing.idle()

    async def listed_size(self, repository: Repository, digest: Digest) -> int | None:
        """Tell the size, in bytes, that a stored manifest of `repository` gives for `digest`; None if none lists it."""
        for batch in (self._pending, self._flying):
            size = batch.listed.get((repository, digest))
            if size is not None:
                return size
        return await self._ask(None, lambda: self._read.listed_size(repository, digest))

    async def totals(self) -> Totals:
        """Count what is stored."""
        unwritten = {**self._flying.stored, **self._pending.stored}
        known = [found[0] for found in unwritten.values() if found is not None]
        return await self._ask(Totals(len(known), sum(known)), lambda: self._read.totals(unwritten))

    async def replace(self, batches: Iterable[Batch]) -> None:
        """Make the file hold what `batches` tell, read in the writing thread; what is told meanwhile stays.

        For `reindex`. Raises what `batches` raises, `sqlite3.Error` and `OSError`.
        """
        await self._writer.run(self._replace, batches)

    def _tell(self, told: dict[Any, Any], key: Any, value: Any, most: int) -> None:
        if len(told) >= most and key not in told:
            if not self._losing:
                self._losing = True
                self._log.error("the index cannot keep up: what it is told is lost, until it is built anew")
            return
        told[key] = value
        if self._running:
            self._schedule()

    def _schedule(self) -> None:
        """See to it that what is pending is written: soon, when there is much of it and no failure before."""
        if len(self._flushing):
            return  # the end of that write schedules the next
        soon = self._delay == _DELAY and len(self._pending) >= _EARLY
        if self._flush_call is None:
            self._flush_call = self._clock.callLater(0 if soon else self._delay, self._start_flush)
        elif soon and len(self._pending) == _EARLY:
            self._flush_call.reset(0)

    def _start_flush(self) -> None:
        self._flush_call = None
        self._flushing.start(self._flush_and_go_on())

    async def _flush_and_go_on(self) -> None:
        await self._flush()
        if self._running and self._pending:
            self._flush_call = self._clock.callLater(self._delay, self._start_flush)

    async def _flush(self) -> None:
        self._flying, self._pending = self._pending, Batch()
        damage, self._damage = self._damage, None
        try:
            self._inode = await self._writer.run(self._write, self._flying, damage, self._inode)
        except (sqlite3.DataError, sqlite3.IntegrityError):
            self._log.failure("the index refused what it was told, which is lost")
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            self._pending = _joined(self._flying, self._pending)
        else:
            self._delay = _DELAY
            self._losing = False
        self._flying = Batch()

    def _failed(self, error: Exception) -> None:
        if self._delay == _DELAY:
            self._log.error("the index cannot be written, and is tried again: {error}", error=str(error))
        self._delay = min(self._delay * 2, _LONGEST_DELAY)
        if is_damage(error):
            self._damage = error

    async def _ask(self, otherwise: R, question: Callable[[], R]) -> R:
        """Put a question to the file, in the reading thread; when it cannot answer, answer `otherwise`."""
        if not self._running:
            return otherwise
        try:
            answer: R = await self._reader.run(self._answer, self._inode, question)
        except (sqlite3.Error, OSError) as error:
            if not self._blind:
                self._blind = True
                self._log.error("the index cannot be read: {error}", error=str(error))
            if is_damage(error) and self._damage is None:
                self._damage = error
                self._schedule()
            return otherwise
        self._blind = False
        return answer

    def _open(self) -> int | None:
        """Open the file, in the writing thread; gives its inode."""
        self._written.open()
        return self._written.inode()

    def _write(self, batch: Batch, damage: Exception | None, inode: int | None) -> int | None:
        """Write `batch`, in the writing thread, to the file that is at the path now.

        After `damage` to the file of `inode` that is a new one, made here or by another worker.
        """
        if damage is not None:
            self._written.begin_anew(damage, inode)
        elif self._written.inode() != inode:
            self._written.close()
        inode = self._open()
        self._written.write(batch)
        return inode

    def _replace(self, batches: Iterable[Batch]) -> None:
        self._written.open()
        self._written.replace(batches)

    def _answer(self, inode: int | None, question: Callable[[], R]) -> R:
        """Answer in the reading thread, from the file that the writing thread writes."""
        if inode != self._read_inode:
            self._read.close()
        self._read.join()
        self._read_inode = inode
        return question()


def _joined(older: Batch, newer: Batch) -> Batch:
    """Join two batches; what is newer counts, and goes first when there is too much."""
    stored = {**older.stored, **newer.stored}
    return Batch(
        stored,
        {**older.used, **newer.used},
        {**older.listed, **newer.listed},
        {**older.linked, **newer.linked},
        {**older.repositories, **newer.repositories},
        {
            minute: older.sums.get(minute, NOTHING) + newer.sums.get(minute, NOTHING)
            for minute in {**older.sums, **newer.sums}
        },
        {
            **older.pulled,
            **{key: (older.pulled.get(key, (0, 0))[0] + n, at) for key, (n, at) in newer.pulled.items()},
        },
    )
