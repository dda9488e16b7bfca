"""A transfer for one client alone, past the store: when there is no space, or a range is too far ahead of the fill.

Bytes go through memory, bounded by pausing the upstream. When the response includes the blob's last byte,
that byte is held back until the whole is verified: by the hash of the prefix the client was sent before (read
back from the part, which still exists while someone has it open) and of all that came since.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from nora.concurrency import Background, Waiters
from nora.oci import Digest, Hasher
from nora.oci.errors import Broken, NoraError, Unverified
from nora.storage.interfaces import Disk
from nora.upstream.interfaces import Incoming

HIGH = 256 * 1024
MAX_TRIES = 5
_READ = 1024 * 1024

Open = Callable[[int], Awaitable[Incoming]]


def back_off(tries: int) -> float:
    """Tell the seconds to wait before the next of a row of tries without progress: 0.1 to 3.2."""
    return 0.1 * 2.0 ** min(tries, 5)


def hash_range(digest: Digest, descriptor: int | None, start: int, stop: int) -> Hasher:
    """Hash the bytes from `start` up to `stop` of a file; run in a thread of the disk."""
    hasher = digest.hasher()
    at = start
    while descriptor is not None and at < stop:
        data = os.pread(descriptor, min(_READ, stop - at), at)
        if not data:
            raise Broken("the file is shorter than what was sent of it")
        hasher.update(data)
        at += len(data)
    return hasher


class Direct:
    """Bytes `position` to `stop` of one blob, for one reader."""

    def __init__(
        self,
        open_at: Open,
        digest: Digest,
        size: int,
        position: int,
        stop: int,
        *,
        disk: Disk,
        clock: IReactorTime,
        background: Background,
        prefix: int = 0,
        descriptor: int | None = None,
        verification: Callable[[Hasher], Awaitable[None]] | None = None,
        released: Callable[[], None],
    ) -> None:
        """`descriptor` holds the blob's first `prefix` bytes; it stays the caller's.

        The last byte waits for the verification: by `verification`, which is handed the hash of the bytes from
        `position` on, or without it by the hash of all bytes, the prefix included. `released` is called once, when
        it ended.
        """
        self._open = open_at
        self._digest = digest
        self._size = size
        self._position = position
        self._stop = stop
        self._disk = disk
        self._clock = clock
        self._prefix = min(prefix, position)
        self._descriptor = descriptor
        self._verification = verification
        self._released = released
        self._hasher: Hasher | None = digest.hasher() if stop == size else None
        self._offset = position
        self._buffer = bytearray()
        self._complete = False
        self._error: NoraError | None = None
        self._incoming: Incoming | None = None
        self._paused = False
        self._closed = False
        self._changed: Waiters[None] = Waiters()
        self._cancel: Deferred[Incoming] | None = None
        background.start(self._run())

    def ready(self) -> int:
        """Tell how many bytes `read` would give at once."""
        held = 0 if self._complete or self._stop < self._size else 1
        arrived = self._offset - self._position
        return max(0, len(self._buffer) - (held if arrived and self._offset == self._stop else 0))

    async def more(self) -> None:
        """Wait until `ready()` is more than 0; raises what ended the transfer."""
        while not self.ready():
            if self._error is not None:
                raise self._error
            await self._changed.wait()

    def take(self, limit: int) -> bytes:
        """Take up to `limit` of the ready bytes."""
        count = min(limit, self.ready())
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        if self._paused and len(self._buffer) < HIGH // 2 and self._incoming is not None:
            self._paused = False
            self._incoming.resume()
        return data

    def close(self) -> None:
        """End the transfer."""
        self._closed = True
        self._fail(Broken("the client left"))
        if self._incoming is not None:
            self._incoming.abort()
        elif self._cancel is not None:
            self._cancel.cancel()

    def _fail(self, error: NoraError) -> None:
        if self._error is None:
            self._error = error
        self._changed.succeed(None)

    async def _run(self) -> None:
        try:
            await self._work()
        finally:
            self._released()

    async def _work(self) -> None:
        try:
            if self._hasher is not None and self._verification is None:
                self._offset = self._prefix
                self._hasher = await self._disk.run(
                    hash_range, self._digest, self._descriptor, 0, self._prefix
                )
            await self._transfer()
            await self._verify()
        except NoraError as error:
            self._fail(error)
            return
        except OSError as error:
            self._fail(Broken(f"the part could not be read back: {error.strerror}"))
            return
        self._complete = True
        self._changed.succeed(None)

    async def _transfer(self) -> None:
        tries = 0
        while self._offset < self._stop:
            before = self._offset
            if self._closed:
                raise Broken("the client left")
            try:
                await self._once()
            except NoraError:
                tries = 0 if self._offset > before else tries + 1
                if tries >= MAX_TRIES:
                    raise
                await deferLater(self._clock, back_off(tries))

    async def _once(self) -> None:
        opening = Deferred.fromCoroutine(_coroutine(self._open(self._offset)))
        self._cancel = opening
        incoming: Incoming = await opening
        self._cancel = None
        if self._closed or (incoming.size is not None and incoming.size != self._size):
            incoming.abort()
            raise Unverified("the blob's size changed at the upstream")
        self._incoming = incoming
        self._paused = False
        skip = self._offset - incoming.start

        def sink(chunk: bytes) -> None:
            nonlocal skip
            dropped = min(skip, len(chunk))
            skip -= dropped
            self._take_in(chunk[dropped:] if dropped else chunk)
            if self._offset >= self._stop and self._stop < self._size:
                incoming.abort()

        try:
            await incoming.deliver(sink)
        except NoraError:
            if self._offset < self._stop:
                raise
        finally:
            self._incoming = None
        if self._offset < self._stop:
            raise Broken("the transfer ended before its last byte")

    def _take_in(self, chunk: bytes) -> None:
        if self._hasher is not None:
            self._hasher.update(chunk)
        first = max(0, self._position - self._offset)
        last = self._stop - self._offset
        self._offset += min(len(chunk), max(0, last))
        wanted = chunk[first : max(first, last)]
        if not wanted:
            return
        self._buffer += wanted
        if len(self._buffer) >= HIGH and not self._paused and self._incoming is not None:
            self._paused = True
            self._incoming.pause()
        self._changed.succeed(None)

    async def _verify(self) -> None:
        if self._hasher is None:
            return
        if self._verification is not None:
            await self._verification(self._hasher)
        elif not self._digest.matches(self._hasher):
            raise Unverified(f"the upstream's bytes do not hash to {self._digest}")


async def _coroutine(awaitable: Awaitable[Incoming]) -> Incoming:
    return await awaitable
