"""Leading a fill: from the upstream through the pump into a part, verified, published, linked.

The argument. Nothing is shown as whole before `verify`: the last byte is released by it alone. The bytes are
published before any repository is linked to them. A transfer that breaks off goes on at its last byte; the
digest decides in the end whether that was right, and when it was not, and anything of it came from an earlier
connection, the fill starts over once, in a new inode. When the disk is full the part goes, and the readers go
on by themselves. Whatever happens, the lock is freed.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from nora.oci import Digest
from nora.oci.errors import BlobUnknown, Broken, NoraError, NoSpace, TooLarge, Unverified
from nora.pull.direct import MAX_TRIES, back_off
from nora.pull.fill import Fill
from nora.pull.pump import Pump
from nora.pull.turns import Turn, Turns
from nora.storage.interfaces import Parts, Repositories, Writing
from nora.upstream.chain import first
from nora.upstream.interfaces import Candidate, Incoming

T = TypeVar("T")


class FillObserver(Protocol):
    """Hears what becomes of fills."""

    def fill_started(self) -> None:
        """One more runs."""

    def fill_ended(self, result: str) -> None:
        """One ended: `stored`, `failed`, `unverified`, `no_space`, `stopped` or `elsewhere`."""

    def fill_resumed(self) -> None:
        """A transfer went on where another broke off."""


@attrs.frozen
class Limits:
    """What bounds the fills: bytes of one blob, fills in all, fills of one upstream."""

    max_blob_size: int
    max_fills: int
    max_fills_per_upstream: int


class Leader:
    """Leads the fills of this process to their end."""

    _log = Logger()

    def __init__(
        self,
        parts: Parts,
        repositories: Repositories,
        clock: IReactorTime,
        limits: Limits,
        observer: FillObserver,
    ) -> None:
        self._parts = parts
        self._repositories = repositories
        self._clock = clock
        self._limits = limits
        self._observer = observer
        self._turns = Turns(limits.max_fills, limits.max_fills_per_upstream)
        self._stopping = False
        self._waits: set[Deferred[Any]] = set()
        self._transfers: set[Incoming] = set()

    def stop(self) -> None:
        """Break off all transfers; what is written stays for a resumption."""
        self._stopping = True
        for incoming in list(self._transfers):
            incoming.abort()
        for waiting in list(self._waits):
            waiting.cancel()

    async def open(self, candidate: Candidate, digest: Digest, start: int = 0) -> Incoming:
        """Begin a transfer of a blob from one upstream."""
        return await candidate.upstream.blob(candidate.repository.name, digest, start)

    async def lead(self, fill: Fill, writing: Writing, expected: int | None) -> str:
        """Lead `fill` to its end; gives the word for its result. Raises what its followers are to be told.

        `expected` is the size that a stored manifest gives, for an upstream that tells none.
        """
        keep = True
        turn: Turn | None = None
        try:
            fill.attach(writing.open(), writing.written)
            candidate, incoming, turn = await self._begin(fill, writing, expected)
            kept = writing.written > 0
            if not await self._store(fill, writing, candidate, incoming):
                keep = False
                return "no_space"
            if not await writing.verify():
                keep = False
                if not kept and not fill.resumptions:
                    raise Unverified(f"the upstream's bytes do not hash to {fill.digest}")
                await self._again(fill, writing, candidate)
            fill.verify()
            keep = False
            return await self._publish(fill, writing)
        except NoSpace:
            keep = False
            if fill.size is None:
                raise  # nobody was answered yet, and without a size nobody can be
            fill.stop_storing()
            return "no_space"
        except (TooLarge, Unverified):
            keep = False
            raise
        except CancelledError:
            raise Broken("this server is stopping" if self._stopping else "the fill was given up") from None
        finally:
            if turn is not None:
                turn.release()
            await writing.abandon(keep=keep)

    async def _begin(
        self, fill: Fill, writing: Writing, expected: int | None
    ) -> tuple[Candidate, Incoming | None, Turn | None]:
        """Ask the candidates in order; make size and confirmation known. No transfer: all bytes are kept ones."""

        async def ask(candidate: Candidate) -> tuple[Incoming | None, int | None, Turn | None]:
            if writing.written and writing.written == writing.size:
                size = await candidate.upstream.describe_blob(candidate.repository.name, fill.digest)
                if size is None or size == writing.size:
                    return None, writing.size, None
            turn = await self._turns.take(candidate.upstream.name)
            try:
                incoming = await self._open_rest(fill, writing, candidate)
            except BaseException:
                turn.release()
                raise
            return incoming, incoming.size, turn

        found = await self.unless_stopped(first(fill.candidates, ask, BlobUnknown))
        incoming, size, turn = found.value
        size = expected if size is None else size
        try:
            self._check_size(size)
            repository, upstream = found.candidate.repository, found.candidate.upstream.name
            await writing.describe(size, repository, upstream)
        except BaseException:
            if incoming is not None:
                incoming.abort()
            if turn is not None:
                turn.release()
            raise
        fill.source = found.candidate
        if incoming is not None and incoming.start:
            self._observer.fill_resumed()
        fill.confirm(repository, upstream)  # first: who waits for the opening looks for its repository
        if size is not None:
            fill.describe(size)
        return found.candidate, incoming, turn

    async def _open_rest(self, fill: Fill, writing: Writing, candidate: Candidate) -> Incoming:
        """Begin a transfer of what is not written yet; of the whole, where the kept bytes cannot be of this blob."""
        try:
            incoming = await self.open(candidate, fill.digest, writing.written)
        except Unverified:
            if not writing.written:
                raise
        else:
            size = incoming.size
            if (
                size is None
                or (writing.written <= size and writing.size in (None, size))
                or not writing.written
            ):
                return incoming
            incoming.abort()
        await self._start_over(fill, writing)
        return await self.open(candidate, fill.digest)

    async def _start_over(self, fill: Fill, writing: Writing) -> None:
        await writing.restart()
        fill.attach(writing.open(), 0)
        fill.advance(0)

    def _learn_size(self, fill: Fill, size: int | None) -> None:
        self._check_size(size)
        if size is not None:
            fill.describe(size)

    def _check_size(self, size: int | None) -> None:
        if size is not None and size > self._limits.max_blob_size:
            raise TooLarge(
                f"the blob has {size} bytes; docker.max_blob_size allows {self._limits.max_blob_size}"
            )

    async def _store(
        self, fill: Fill, writing: Writing, candidate: Candidate, incoming: Incoming | None
    ) -> bool:
        """Move the bytes, resuming what breaks off. False when there was no space for them."""
        tries = 0
        while incoming is not None:
            if fill.size is not None and fill.size - writing.written > self._parts.free():
                incoming.abort()
                fill.stop_storing()
                return False
            before = writing.written
            try:
                await self._transfer(fill, writing, incoming)
                if fill.size is None:
                    fill.describe(writing.written)
                if writing.written != fill.size:
                    raise Broken(f"the transfer ended at {writing.written} of {fill.size} bytes")
                return True
            except NoSpace:
                raise
            except NoraError as error:
                if self._stopping:
                    raise Broken("this server is stopping") from None
                tries = 1 if writing.written > before else tries + 1
                incoming = await self._resume(fill, writing, candidate, tries, error)
        return True

    async def _resume(
        self, fill: Fill, writing: Writing, candidate: Candidate, tries: int, error: NoraError
    ) -> Incoming:
        """Ask the same upstream for the rest; raises `error` after too many tries without progress."""
        while tries < MAX_TRIES and not isinstance(error, TooLarge):
            await self.unless_stopped(_sleep(self._clock, back_off(tries)))
            try:
                incoming = await self.unless_stopped(self.open(candidate, fill.digest, writing.written))
            except NoraError as again:
                error = again
                tries += 1
                continue
            try:
                self._learn_size(fill, incoming.size)
            except NoraError:
                incoming.abort()
                raise
            self._observer.fill_resumed()
            fill.resumptions += 1
            return incoming
        raise error

    async def _transfer(self, fill: Fill, writing: Writing, incoming: Incoming) -> None:
        limit = self._limits.max_blob_size

        def advanced() -> None:
            fill.advance(writing.written)
            if writing.written > limit:
                incoming.abort()

        self._transfers.add(incoming)
        try:
            skip = writing.written - incoming.start
            await Pump(incoming, writing.append, skip, advanced).run()
        finally:
            self._transfers.discard(incoming)
            fill.advance(writing.written)
            self._check_size(writing.written)

    async def _again(self, fill: Fill, writing: Writing, candidate: Candidate) -> None:
        """Start over from 0, once: what was put together from several connections did not verify."""
        self._log.warn("{digest} did not verify after a resumption; starting over", digest=str(fill.digest))
        await self._start_over(fill, writing)
        incoming = await self.unless_stopped(self.open(candidate, fill.digest))
        if not await self._store(fill, writing, candidate, incoming):
            raise NoSpace("the store is full")
        if not await writing.verify():
            raise Unverified(f"the upstream's bytes do not hash to {fill.digest}")

    async def _publish(self, fill: Fill, writing: Writing) -> str:
        """Publish and link. The clients have their bytes: a failure here only means that it is not stored."""
        try:
            await writing.publish()
            linked = 0
            while linked < len(fill.confirmed):  # a repository confirmed meanwhile is linked as well
                repository = list(fill.confirmed)[linked]
                await self._repositories.link_blob(repository, fill.digest, writing.written)
                linked += 1
        except (OSError, NoraError) as error:
            self._log.error("{digest} could not be published: {error}", digest=str(fill.digest), error=error)
            return "no_space" if isinstance(error, NoSpace) else "failed"
        return "stored"

    async def unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for `work`, which `stop` cancels."""
        waiting = Deferred.fromCoroutine(work)
        self._waits.add(waiting)
        try:
            if self._stopping:
                waiting.cancel()
            return await waiting
        finally:
            self._waits.discard(waiting)


async def _sleep(clock: IReactorTime, seconds: float) -> None:
    sleeping: Callable[..., Deferred[None]] = deferLater
    await sleeping(clock, seconds)
