"""One upload session's growing file, while one request has it: see `nora.storage.uploads` for the argument."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from nora.oci import Digest, Repository
from nora.storage.appending import grow
from nora.storage.durable import write_at, write_out
from nora.storage.interfaces import Blobs, Disk

if TYPE_CHECKING:
    from hashlib import _Hash

_HASH_HOP = 16 * 1024 * 1024
_READ = 1024 * 1024
_WRITE_OUT = 8 * 1024 * 1024
"""Bytes after which the disk is told to begin: else all of a large blob would wait for the sync before its rename."""


@attrs.define
class HashState:
    """The hash of a file's first `hashed` bytes."""

    hasher: _Hash
    hashed: int

    def copy(self) -> HashState:
        """Copy it, which costs less than a microsecond."""
        return HashState(self.hasher.copy(), self.hashed)

    def read(self, descriptor: int, end: int, most: int = _HASH_HOP) -> bool:
        """Hash up to `most` more bytes of the file before `end`; tell whether some are left. Blocks."""
        stop = min(end, self.hashed + most)
        while self.hashed < stop:
            data = os.pread(descriptor, min(_READ, stop - self.hashed), self.hashed)
            if not data:
                raise OSError("the file of an upload is shorter than what was written to it")
            self.hasher.update(data)
            self.hashed += len(data)
        return self.hashed < end


class UploadFile:
    """The file. None of its Deferreds may be cancelled: a thread works on it."""

    _log = Logger()

    def __init__(
        self,
        folder: str,
        disk: Disk,
        blobs: Blobs,
        *,
        id: str,
        repository: Repository,
        user: str | None,
        descriptor: int,
        size: int,
        state: HashState,
        closed: Callable[[HashState | None], None],
    ) -> None:
        """`closed` is called once, with the hash of the file that stays, or None when the session ended."""
        self.id = id
        self.repository = repository
        self.user = user
        self.size = size
        self._folder = folder
        self._disk = disk
        self._blobs = blobs
        self._descriptor = descriptor
        self._state = state
        self._first = state.copy()
        """What the request found: where a chunk that does not count is taken back to."""
        self._written_out = size
        self._closed: Callable[[HashState | None], None] | None = closed

    async def _append(self, chunks: Sequence[bytes]) -> None:
        self.size, failure = await grow(self._disk, self._descriptor, self._write, chunks, self.size)
        if failure is not None:
            raise failure

    def append(self, chunks: Sequence[bytes]) -> Deferred[None]:
        """Write `chunks` at the end, and hash them as they go, in one hop. Raises `NoSpace`.

        What a failure left at the end of the file counts for `size`: `truncate` takes it back.
        """
        return Deferred.fromCoroutine(self._append(chunks))

    def _write(self, chunks: Sequence[bytes], at: int) -> int:
        # One buffer: each call that lets go of the interpreter's lock waits for the reactor to get it back.
        data = b"".join(chunks)
        end = write_at(self._descriptor, data, at)
        if self._state.hashed == at:  # else something of the file is to be read in any case
            self._state.hasher.update(data)
            self._state.hashed = end
        if end - self._written_out >= _WRITE_OUT:
            write_out(self._descriptor, self._written_out, end - self._written_out)
            self._written_out = end
        return end

    async def _truncate(self, size: int) -> None:
        await self._disk.run(os.ftruncate, self._descriptor, size)
        self.size = size
        if self._state.hashed > size:
            self._state = self._first.copy()
        if self._state.hashed > size:
            self._state = self._first = HashState(hashlib.new(self._state.hasher.name), 0)

    def truncate(self, size: int) -> Deferred[None]:
        """Forget what is past `size` bytes."""
        return Deferred.fromCoroutine(self._truncate(size))

    async def _digest(self, algorithm: str) -> Digest:
        state = self._state
        if state.hasher.name != algorithm:
            state = HashState(hashlib.new(algorithm), 0)
        while await self._disk.run(state.read, self._descriptor, self.size):
            pass
        return Digest(algorithm, state.hasher.hexdigest())

    def digest(self, algorithm: str) -> Deferred[Digest]:
        """Tell the digest of the whole file: at once where it was hashed as it came, else by one reading."""
        return Deferred.fromCoroutine(self._digest(algorithm))

    async def _publish(self, digest: Digest) -> None:
        await self._blobs.publish(f"{self._folder}/data", digest)
        await self._end()

    def publish(self, digest: Digest) -> Deferred[None]:
        """Sync the file, whose digest the caller has compared, and rename it into the blobs; the session ends.

        Where the blob is there already, the file is unlinked instead. Raises `NoSpace`: then the session goes on.
        """
        return Deferred.fromCoroutine(self._publish(digest))

    def discard(self) -> Deferred[None]:
        """End the session, and unlink its file."""
        return Deferred.fromCoroutine(self._end())

    async def _end(self) -> None:
        closed, self._closed = self._closed, None
        if closed is None:
            return
        descriptor, self._descriptor = self._descriptor, -1
        try:
            await self._disk.run(_remove, self._folder, descriptor)
        except OSError as error:  # the sweep comes for what is left
            self._log.error("the upload {id} is not removed: {error}", id=self.id, error=error)
        finally:
            closed(None)

    def close(self) -> None:
        """Let the next request have it; a second call, or one after the end, does nothing."""
        closed, self._closed = self._closed, None
        if closed is not None:
            os.close(self._descriptor)
            self._descriptor = -1
            closed(self._state)


def _remove(folder: str, descriptor: int) -> None:
    """Unlink a session's files. The descriptor goes with them: the last close of a large file frees its blocks."""
    try:
        unlink_session(folder)
    finally:
        os.close(descriptor)


def unlink_session(folder: str) -> None:
    """Unlink what is in a session's folder, the bytes first, and the folder; no error for what is gone. Blocks."""
    for name in ("data", "session.json"):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(f"{folder}/{name}")
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(folder)
