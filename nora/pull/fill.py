"""A fill as its followers see it: one growing blob, whoever leads it.

A `Fill` is state and events only. `nora.pull.leading` and `nora.pull.trailing` move it on, readers watch it.
Three things end it: it is verified and published; it failed; or the store has no space, and then each
reader goes on with a transfer of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed

from nora.concurrency import Waiters
from nora.oci import Digest, Repository
from nora.oci.errors import Broken, NoraError, Unverified
from nora.pull.progress import Pace, Place, Progress
from nora.upstream.interfaces import Candidate
from nora.upstream.outcomes import Attempt


class Fill:
    """One transfer of one blob into the store, and all that is known of it in this process."""

    def __init__(self, digest: Digest, candidates: tuple[Candidate, ...], clock: Callable[[], float]) -> None:
        self.digest = digest
        self.candidates = candidates
        """Where the one who started it asks; another with the same candidates waits for the same answer."""
        self.confirmed: dict[Repository, str] = {}
        """Repositories whose upstream confirmed the blob: they may follow. With the upstream's name."""
        self.source: Candidate | None = None
        self.size: int | None = None
        self.written = 0
        self.verified = False
        self.spaceless = False
        """Storing stopped for want of space; readers go on by themselves."""
        self.error: NoraError | None = None
        self.resumptions = 0
        """How often a transfer went on where another broke off."""
        self.generation = 0
        """Counts the inodes: a restart from 0 makes a new one."""
        self.descriptor: int | None = None
        self.followers = 0
        """Readers that are open."""
        self._clock = clock
        self._pace = Pace(clock)
        self._opened_at = 0.0
        self._opened_with = 0
        self._opening: Waiters[None] = Waiters()
        self._progress: Waiters[None] = Waiters()
        self._verifying: Waiters[None] = Waiters()

    # What readers ask

    @property
    def opened(self) -> bool:
        """The size is known and at least one repository is confirmed: followers can be answered."""
        return self.size is not None and bool(self.confirmed)

    @property
    def visible(self) -> int:
        """The bytes that followers may see: not the last one, before the digest is verified."""
        if self.size is None:
            return 0
        return self.size if self.verified else max(0, min(self.written, self.size - 1))

    def opening(self) -> Deferred[None]:
        """Wait until it is opened; fails with what ended it before."""
        return self._when(self.opened, self._opening)

    def progress(self) -> Deferred[None]:
        """Wait for the next change of any kind; fails with what ended it."""
        return self._when(False, self._progress)

    def verification(self) -> Deferred[None]:
        """Wait until the whole is verified; fails with what ended it. Having no space ends it as well."""
        return self._when(self.verified or self.spaceless, self._verifying)

    async def whole(self) -> None:
        """Wait until the whole is verified; raises what ended it, having no space included."""
        await self.verification()
        if not self.verified:
            raise Broken("the fill stopped before the digest was verified")

    def _when(self, already: bool, waiters: Waiters[None]) -> Deferred[None]:
        if already:
            return succeed(None)
        waiter = waiters.wait()
        if self.error is not None:
            waiters.fail(self.error)
        return waiter

    def seconds_until(self, offset: int) -> float | None:
        """Estimate the seconds until `offset` is written, None within the first second."""
        elapsed = self._clock() - self._opened_at
        if not self.opened or elapsed < 1.0:
            return None
        rate = (self.written - self._opened_with) / elapsed
        return (offset - self.written) / rate if rate > 0 else float("inf") if elapsed > 5.0 else None

    def told(self) -> Progress:
        """Tell how far it is."""
        if self.confirmed:
            places = [Place(repository, upstream) for repository, upstream in self.confirmed.items()]
        else:
            places = [Place(each.repository, each.upstream.name) for each in self.candidates]
        return Progress(
            str(self.digest),
            tuple(dict.fromkeys(places)),
            bool(self.confirmed),
            self.written,
            self.size,
            self._pace.rate(self.written) if self.size is not None else None,
            self.followers,
        )

    def duplicate(self) -> int | None:
        """Give a descriptor of the file for a reader to own; None when there is no file."""
        return None if self.descriptor is None else os.dup(self.descriptor)

    # What moves it on

    def attach(self, descriptor: int, written: int) -> None:
        """Show a file: `descriptor` is this fill's to close.

        Another inode replaces the one before; the same one, when this process comes to lead it, changes nothing.
        """
        if self.descriptor is not None and os.path.sameopenfile(self.descriptor, descriptor):
            os.close(descriptor)
            self.written = max(self.written, written)
            return
        self._detach()
        self.descriptor = descriptor
        self.written = written
        self._pace.note(written)
        self.generation += 1
        self._progress.succeed(None)

    def confirm(self, repository: Repository, upstream: str) -> None:
        """Let `repository` follow: its own upstream has the blob."""
        self.confirmed[repository] = upstream
        if self.opened:
            self._opening.succeed(None)

    def describe(self, size: int) -> None:
        """Make the size known. Clients were told it: another one later raises `Unverified`."""
        if self.size is not None:
            if size != self.size:
                raise Unverified("the blob's size changed")
            return
        self.size = size
        self._opened_at, self._opened_with = self._clock(), self.written
        if self.opened:
            self._opening.succeed(None)

    def advance(self, written: int) -> None:
        """Show more bytes."""
        self.written = written
        self._pace.note(written)
        self._progress.succeed(None)

    def verify(self) -> None:
        """Release the last byte."""
        self.verified = True
        self._verifying.succeed(None)
        self._progress.succeed(None)

    def stop_storing(self) -> None:
        """Tell the readers to go on by themselves."""
        self.spaceless = True
        self._progress.succeed(None)
        self._verifying.succeed(None)

    def fail(self, error: NoraError) -> None:
        """End it for all who wait and all who will; they are told which upstream's bytes were wrong."""
        if isinstance(error, Unverified) and error.detail is None and self.source is not None:
            error.detail = [Attempt(self.source.upstream.name, error).as_detail()]
        self.error = error
        for waiters in (self._opening, self._progress, self._verifying):
            waiters.fail(error)

    def close(self) -> None:
        """Let go of the file. Readers have descriptors of their own."""
        self._detach()

    def _detach(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
