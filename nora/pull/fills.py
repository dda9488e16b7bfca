"""All fills of this process: one a digest, led here or trailed, wherever its leader is.

A fill belongs to the store: it is started by the first who needs the blob, and goes on whoever leaves. When the
process that leads it dies, one of those that trail it takes the lock and leads on where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from nora.concurrency import Background
from nora.oci import Digest, Hasher, Repository
from nora.oci.errors import BlobUnknown, Broken, NoraError, NoSpace, Overloaded, Unverified
from nora.pull.direct import Direct, hash_range
from nora.pull.fill import Fill
from nora.pull.leading import FillObserver, Leader, Limits
from nora.pull.progress import Progress
from nora.storage.interfaces import Blobs, Disk, Parts, Published, Repositories, Trailing, Writing
from nora.upstream.chain import first
from nora.upstream.interfaces import Candidate, Incoming

_LOOK = 0.01
"""Seconds between two looks at a part that another process leads."""
_MAX_QUEUED = 10_000


class Fills:
    """The fills that run, and the transfers past the store."""

    _log = Logger()

    def __init__(
        self,
        parts: Parts,
        blobs: Blobs,
        repositories: Repositories,
        disk: Disk,
        clock: IReactorTime,
        limits: Limits,
        observer: FillObserver,
    ) -> None:
        self._parts = parts
        self._blobs = blobs
        self._repositories = repositories
        self._disk = disk
        self._clock = clock
        self._observer = observer
        self._leader = Leader(parts, repositories, clock, limits, observer)
        self._running: dict[Digest, Fill] = {}
        self._detours = DeferredSemaphore(limits.max_fills)
        self._background = Background()
        self._stopping = False

    def find(self, digest: Digest) -> Fill | None:
        """Give the fill of `digest` that runs."""
        return self._running.get(digest)

    def start(self, digest: Digest, candidates: Sequence[Candidate], expected: int | None = None) -> Fill:
        """Start a fill; none of `digest` runs. `expected` is the size that a stored manifest gives.

        Raises `Overloaded` when far too many wait already, and `Broken` when this server stops.
        """
        if self._stopping:
            raise Broken("this server is stopping")
        if len(self._running) >= _MAX_QUEUED:
            raise Overloaded("too many blobs are being fetched", retry_after=10)
        fill = Fill(digest, tuple(candidates), self._clock.seconds)
        self._running[digest] = fill
        self._background.start(self._run(fill, expected))
        return fill

    def __len__(self) -> int:
        return len(self._running)

    def told(self, most: int) -> list[Progress]:
        """Tell how far those are that run, `most` of them, the oldest first."""
        return [fill.told() for fill in islice(self._running.values(), most)]

    def stop(self) -> Deferred[None]:
        """Break off all transfers, keep what is written, and wait until every lock is free."""
        self._stopping = True
        self._leader.stop()
        return self._background.idle()

    async def _run(self, fill: Fill, expected: int | None) -> None:
        self._observer.fill_started()
        result = "failed"
        try:
            result = await self._lead_or_trail(fill, expected)
        except NoraError as error:
            result = "stopped" if self._stopping else "failed"
            self._end(fill)
            fill.fail(error)
        except OSError as error:
            self._end(fill)
            fill.fail(Broken("the store failed"))
            self._log.error("the store failed: {error}", error=error)
        except Exception:
            self._end(fill)
            fill.fail(Broken("the fill failed"))
            raise
        finally:
            self._end(fill)
            fill.close()
            self._observer.fill_ended(result)

    def _end(self, fill: Fill) -> None:
        if self._running.get(fill.digest) is fill:
            del self._running[fill.digest]

    async def _lead_or_trail(self, fill: Fill, expected: int | None) -> str:
        while True:
            try:
                claim = await self._parts.claim(fill.digest)
            except NoSpace:
                return await self._without_storing(fill, expected)
            if isinstance(claim, Published):
                return await self._is_published(fill)
            if isinstance(claim, Writing):
                return await self._leader.lead(fill, claim, expected)
            try:
                if await self._trail(fill, claim):
                    return await self._is_published(fill)
            finally:
                claim.close()

    async def _without_storing(self, fill: Fill, expected: int | None) -> str:
        """There is no space even for an empty part: each client goes on by itself."""
        told = await self._confirm(fill)
        size = expected if told is None else told
        if size is None:
            raise NoSpace("the store is full")
        fill.describe(size)
        fill.stop_storing()
        return "no_space"

    async def _is_published(self, fill: Fill) -> str:
        """Another process stored it: confirm it for those who wait here, and let them read the blob."""
        await self._confirm(fill)
        file = await self._blobs.open(fill.digest)
        if file is None:
            raise Broken("the blob vanished")
        try:
            fill.describe(file.size)
            if not fill.verified:
                fill.attach(os.dup(file.descriptor), file.size)
                fill.verify()
            for repository in list(fill.confirmed):
                await self._link(repository, fill.digest, file.size)
        finally:
            file.close()
        return "elsewhere"

    async def _link(self, repository: Repository, digest: Digest, size: int) -> None:
        try:
            await self._repositories.link_blob(repository, digest, size)
        except (OSError, NoSpace) as error:
            self._log.error("{digest} could not be linked: {error}", digest=str(digest), error=error)

    async def _confirm(self, fill: Fill) -> int | None:
        """Have the upstreams of who began the fill confirm it, unless they have; tells the size if they do."""
        mine = {candidate.repository for candidate in fill.candidates}
        if mine & fill.confirmed.keys():
            return fill.size

        async def ask(candidate: Candidate) -> int | None:
            return await candidate.upstream.describe_blob(candidate.repository.name, fill.digest)

        found = await self._leader.unless_stopped(first(fill.candidates, ask, BlobUnknown))
        fill.source = found.candidate
        fill.confirm(found.candidate.repository, found.candidate.upstream.name)
        return found.value

    async def _trail(self, fill: Fill, trailing: Trailing) -> bool:
        """Follow a part that another process leads; True when it was published, False when nobody leads it."""
        told = await self._confirm(fill)
        attached = False
        while not self._stopping:
            led = trailing.led()
            seen = trailing.look()
            if seen.abandoned:
                return False
            if (seen.size or seen.verified) and not attached:
                fill.attach(trailing.open(), seen.size)
                attached = True
            # The leader wrote down the size before the first byte; what our own upstream told counts only without.
            size = trailing.size() or (told if attached else None)
            if size is not None:
                fill.describe(size)
            if attached and seen.size > fill.written:
                fill.advance(seen.size)
            if seen.verified and not fill.verified:
                fill.describe(seen.size)
                fill.verify()
            if not led:
                return self._blobs.size(fill.digest) is not None
            await deferLater(self._clock, _LOOK)
        raise Broken("this server is stopping")

    async def around(self, fill: Fill, position: int, stop: int, descriptor: int | None) -> Direct:
        """Begin a verified transfer from `position`, because `fill` stopped storing."""
        await self._detours.acquire()
        return self._direct(fill, position, stop, descriptor=descriptor)

    def ahead(self, fill: Fill, position: int, stop: int) -> Direct | None:
        """Begin a transfer of a range that `fill` reaches late; None when too many run already."""
        if fill.source is None or not self._detours.tokens:
            return None
        self._detours.acquire()
        return self._direct(fill, position, stop, verification=True)

    def _direct(
        self, fill: Fill, position: int, stop: int, descriptor: int | None = None, verification: bool = False
    ) -> Direct:
        candidate, size = fill.source, fill.size
        if candidate is None or size is None:
            self._detours.release()
            raise Broken("the fill was never opened")

        async def open_at(start: int) -> Incoming:
            return await self._leader.open(candidate, fill.digest, start)

        return Direct(
            open_at,
            fill.digest,
            size,
            position,
            stop,
            disk=self._disk,
            clock=self._clock,
            background=self._background,
            prefix=0 if descriptor is None else os.fstat(descriptor).st_size,
            descriptor=descriptor,
            verification=(lambda own: self._compare(fill, position, stop, own)) if verification else None,
            released=self._detours.release,
        )

    async def _compare(self, fill: Fill, position: int, stop: int, own: Hasher) -> None:
        """Hold the bytes of a transfer ahead of `fill`, hashed as `own`, against the verified blob."""
        await fill.whole()
        descriptor = fill.duplicate()
        if descriptor is None:
            file = await self._blobs.open(fill.digest, fill.size)
            if file is None:
                raise Broken("the blob was removed before a range of it could be verified")
            descriptor = os.dup(file.descriptor)
            file.close()
        try:
            verified = await self._disk.run(hash_range, fill.digest, descriptor, position, stop)
        finally:
            os.close(descriptor)
        if verified.hexdigest() != own.hexdigest():
            raise Unverified("the upstream's bytes of this range are not the blob's")
