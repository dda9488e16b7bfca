"""Leading a fill: from an upstream through the pump into a part, verified, published, linked.

The argument. Nothing is shown as whole before `verify`: the last byte is released by it alone. The bytes are
published before any repository is linked to them. A transfer that breaks off goes on at its last byte, at the same
upstream or the next that has the digest; the digest decides in the end whether that was right. When it was not, the
fill starts over in a new inode: at the same upstream where anything came from an earlier connection, and without
that upstream where everything came from one, for then it lies. When the disk is full the part goes, and the readers
go on by themselves. Whatever happens, the lock is freed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from nora.concurrency import Drawing, Pump
from nora.oci import Digest
from nora.oci.errors import BlobUnknown, Broken, NoraError, NoSpace, TooLarge, Unverified
from nora.pull.direct import MAX_TRIES, back_off
from nora.pull.fill import Fill
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

    def fill_resumed(self, upstream: str) -> None:
        """A transfer from `upstream` went on where another broke off."""


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
        self.limits = limits
        self.observer = observer
        self.turns = Turns(limits.max_fills, limits.max_fills_per_upstream)
        self.stopping = False
        self._waits: set[Deferred[Any]] = set()
        self._transfers: set[Incoming] = set()

    def stop(self) -> None:
        """Break off all transfers; what is written stays for a resumption."""
        self.stopping = True
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
        lead = _Lead(self, fill, writing, expected)
        keep = True
        try:
            fill.attach(writing.open(), writing.written)
            await lead.begin()
            await lead.store()
            keep = False
            await lead.settle()
            fill.verify()
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
            raise Broken("this server is stopping" if self.stopping else "the fill was given up") from None
        finally:
            lead.end()
            await writing.abandon(keep=keep)

    def check_size(self, size: int | None) -> None:
        """Raise `TooLarge` for a size past `max_blob_size`."""
        most = self.limits.max_blob_size
        if size is not None and size > most:
            raise TooLarge(f"the blob has {size} bytes; docker.max_blob_size allows {most}")

    def has_space(self, size: int) -> bool:
        """Tell whether `size` more bytes fit."""
        return size <= self._parts.free()

    async def transfer(self, fill: Fill, writing: Writing, incoming: Incoming) -> None:
        """Pump one transfer to its end; raises what broke it off, or `TooLarge`."""

        def advanced() -> None:
            fill.advance(writing.written)
            if writing.written > self.limits.max_blob_size:
                incoming.abort()

        self._transfers.add(incoming)
        try:
            drawing = Drawing(incoming.tap, writing.draw)
            await Pump(incoming, writing.append, writing.written - incoming.start, advanced, drawing).run()
        finally:
            self._transfers.discard(incoming)
            fill.advance(writing.written)
            self.check_size(writing.written)

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

    async def sleep(self, seconds: float) -> None:
        """Wait, unless this server stops."""
        await self.unless_stopped(_sleep(self._clock, seconds))

    async def unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for `work`, which `stop` cancels."""
        waiting = Deferred.fromCoroutine(work)
        self._waits.add(waiting)
        try:
            if self.stopping:
                waiting.cancel()
            return await waiting
        finally:
            self._waits.discard(waiting)


class _Lead:
    """One fill on its way through one or several upstreams."""

    _log = Logger()

    def __init__(self, leader: Leader, fill: Fill, writing: Writing, expected: int | None) -> None:
        self._leader = leader
        self._fill = fill
        self._writing = writing
        self._expected = expected
        self._left = list(fill.candidates)
        """The candidates that were not caught lying, the current one first once there is one."""
        self._incoming: Incoming | None = None
        self._turn: Turn | None = None
        self._kept = False

    def end(self) -> None:
        """Give the turn back."""
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.release()

    async def begin(self) -> None:
        """Ask the candidates in order; make size and confirmation known."""
        size = await self._connect(self._open_first)
        size = self._expected if size is None else size
        candidate, incoming, fill = self._left[0], self._incoming, self._fill
        try:
            self._leader.check_size(size)
            await self._writing.describe(size, candidate.repository, candidate.upstream.name)
        except BaseException:
            if incoming is not None:
                incoming.abort()
            raise
        self._kept = self._writing.written > 0
        if incoming is not None and incoming.start:
            self._leader.observer.fill_resumed(candidate.upstream.name)
        fill.confirm(
            candidate.repository, candidate.upstream.name
        )  # first: who waits looks for its repository
        if size is not None:
            fill.describe(size)

    async def store(self) -> None:
        """Move the bytes, resuming what breaks off. Raises `NoSpace`."""
        fill, writing, tries = self._fill, self._writing, 0
        while self._incoming is not None:
            incoming, self._incoming = self._incoming, None
            if fill.size is not None and not self._leader.has_space(fill.size - writing.written):
                incoming.abort()
                raise NoSpace("the store is full")
            before = writing.written
            try:
                await self._leader.transfer(fill, writing, incoming)
                if fill.size is None:
                    fill.describe(writing.written)
                if writing.written != fill.size:
                    raise Broken(f"the transfer ended at {writing.written} of {fill.size} bytes")
            except (NoSpace, TooLarge):
                raise
            except NoraError as error:
                if writing.written == fill.size:
                    return  # it broke off after its last byte; the digest decides
                if self._leader.stopping:
                    raise Broken("this server is stopping") from None
                tries = 1 if writing.written > before else tries + 1
                await self._resume(tries, error)

    async def settle(self) -> None:
        """Verify; start over where that may help. Raises `Unverified` when no candidate is left."""
        fill, pieced = self._fill, self._kept or self._fill.resumptions > 0
        for _ in range(2 * len(fill.candidates)):
            if await self._writing.verify():
                return
            if not pieced:
                self._log.warn(
                    "{upstream} sends wrong bytes for {digest}",
                    upstream=self._left[0].upstream.name,
                    digest=str(fill.digest),
                )
                del self._left[0]
                self.end()
            if not self._left:
                break
            self._log.warn("{digest} did not verify; starting over", digest=str(fill.digest))
            resumptions = fill.resumptions
            await self._start_over()
            await self._connect(self._open_more)
            await self.store()
            pieced = fill.resumptions > resumptions
        raise Unverified(f"the upstream's bytes do not hash to {fill.digest}")

    async def _resume(self, tries: int, error: NoraError) -> None:
        """Ask for the rest, the current upstream first; raises `error` after too many tries without progress."""
        while tries < MAX_TRIES:
            await self._leader.sleep(back_off(tries))
            try:
                await self._connect(self._open_more)
            except NoraError:
                tries += 1
                continue
            self._leader.observer.fill_resumed(self._left[0].upstream.name)
            self._fill.resumptions += 1
            return
        raise error

    async def _connect(self, open_at: Callable[[Candidate], Awaitable[Incoming | None]]) -> int | None:
        """Have a transfer from the first candidate left that gives one; tells the size that it told."""
        current = self._left[0]

        async def ask(candidate: Candidate) -> tuple[Incoming | None, Turn]:
            turn = self._turn if candidate is current else None
            if turn is None:
                turn = await self._leader.turns.take(candidate.upstream.name)
            try:
                return await open_at(candidate), turn
            except BaseException:
                if turn is not self._turn:
                    turn.release()
                raise

        found = await self._leader.unless_stopped(first(self._left, ask, BlobUnknown))
        self._incoming, turn = found.value
        if self._turn is not None and self._turn is not turn:
            self._turn.release()
        self._turn = turn
        self._left.remove(found.candidate)
        self._left.insert(0, found.candidate)
        self._fill.source = found.candidate
        return self._writing.size if self._incoming is None else self._incoming.size

    async def _open_first(self, candidate: Candidate) -> Incoming | None:
        """Begin a transfer of what is not written yet; of the whole, where the kept bytes cannot be of this blob.

        None when the kept bytes are all, and the upstream confirms that it has the blob.
        """
        writing, digest = self._writing, self._fill.digest
        if writing.written and writing.written == writing.size:
            size = await candidate.upstream.describe_blob(candidate.repository.name, digest)
            if size is None or size == writing.size:
                return None
        try:
            incoming = await self._leader.open(candidate, digest, writing.written)
        except Unverified:
            if not writing.written:
                raise
        else:
            size = incoming.size
            fits = size is None or (writing.written <= size and writing.size in (None, size))
            if fits or not writing.written:
                return incoming
            incoming.abort()
        await self._start_over()
        return await self._leader.open(candidate, digest)

    async def _open_more(self, candidate: Candidate) -> Incoming:
        """Begin a transfer of the rest; clients were told the size, so one of another size is no candidate."""
        incoming = await self._leader.open(candidate, self._fill.digest, self._writing.written)
        try:
            self._leader.check_size(incoming.size)
            if incoming.size is not None:
                self._fill.describe(incoming.size)
        except NoraError:
            incoming.abort()
            raise
        return incoming

    async def _start_over(self) -> None:
        await self._writing.restart()
        self._fill.attach(self._writing.open(), 0)
        self._fill.advance(0)


async def _sleep(clock: IReactorTime, seconds: float) -> None:
    sleeping: Callable[..., Deferred[None]] = deferLater
    await sleeping(clock, seconds)
