"""Parts: growing files. One process leads a part, any number of followers in any process read it.

The argument. Whoever holds the lock `fill:<digest>` leads; it is freed by death, so a part is never orphaned.
After locking, the leader looks whether the blob was published meanwhile. It only ever appends, so a byte that
a follower has seen never changes in that inode; starting over makes a new one, and the old one then has no link
left, which tells its followers. Bytes are hashed behind the writing: after a restart the hash follows the file
from 0 while new bytes are already appended, and has caught up before the end or at it. The mode tells followers
elsewhere that the digest was verified; the owner keeps write permission until the blob is published, so that a
leader that died between the two can be succeeded.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred

from nora.oci import Digest, Hasher, Repository
from nora.oci.errors import NoSpace
from nora.storage.appending import grow
from nora.storage.durable import no_space, write_at
from nora.storage.interfaces import Blobs, Disk, Lock, Locks, Published, Trailing, Writing, Written
from nora.storage.layout import Layout

_GROWING = 0o600
_VERIFIED = 0o640
_CATCH_UP = 4 * 1024 * 1024
"""Bytes that the hash catches up in one hop: more than a hop writes, so that it does catch up."""
_HASH_HOP = 16 * 1024 * 1024
_READ = 1024 * 1024
_BUFFER = 1024 * 1024


class DiskParts:
    """The parts of one store, in its `fills` folder."""

    def __init__(self, layout: Layout, disk: Disk, locks: Locks, blobs: Blobs) -> None:
        self._layout = layout
        self._disk = disk
        self._locks = locks
        self._blobs = blobs
        self._buffers = Buffers()

    async def claim(self, digest: Digest) -> Writing | Trailing | Published:
        """Lead the part of `digest` when nobody does, from where it stands; else trail it."""
        lock = await self._locks.hold(_key(digest))
        if self._blobs.size(digest) is not None:
            if lock is not None:
                lock.release()
            return Published(digest)
        if lock is None:
            return TrailingFile(self._layout, self._locks, digest)
        try:
            descriptor, written = await self._disk.run(_open_growing, self._layout.part(digest))
        except OSError as error:
            lock.release()
            raise no_space(error) or error from None
        except BaseException:
            lock.release()
            raise
        size = _read_size(self._layout.sidecar(digest))
        return WritingFile(
            self._layout, self._disk, self._blobs, self._buffers, lock, digest, descriptor, written, size
        )

    def free(self) -> int:
        """Tell the bytes that the store's file system has free."""
        found = os.statvfs(self._layout.fills)
        return found.f_bavail * found.f_frsize

    async def sweep(self, age: float) -> int:
        """Unlink the parts that nobody leads and nobody wrote to for `age` seconds; gives their number."""
        names = await self._disk.run(_old_parts, self._layout.fills, time.time() - age)
        swept = 0
        for name in names:
            algorithm, _, encoded = name.partition("-")
            digest = Digest(algorithm, encoded)
            lock = await self._locks.hold(_key(digest))
            if lock is None:
                continue
            try:
                await self._disk.run(_unlink, self._layout.part(digest), self._layout.sidecar(digest))
                swept += 1
            finally:
                lock.release()
        return swept


class Buffers(threading.local):
    """A buffer for each thread that draws: kept, so that its memory is there and warm."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_BUFFER))


class WritingFile:
    """A part that this process leads. None of its Deferreds may be cancelled: a thread works on the file."""

    def __init__(
        self,
        layout: Layout,
        disk: Disk,
        blobs: Blobs,
        buffers: Buffers,
        lock: Lock,
        digest: Digest,
        descriptor: int,
        written: int,
        size: int | None,
    ) -> None:
        self.digest = digest
        self.written = written
        self.size = size
        self._layout = layout
        self._disk = disk
        self._blobs = blobs
        self._buffers = buffers
        self._lock = lock
        self._descriptor = descriptor
        self._hasher: Hasher = digest.hasher()
        self._hashed = 0
        self._closed = False

    def describe(self, size: int | None, repository: Repository, upstream: str) -> Deferred[None]:
        """Write the sidecar; not synced, for a lost one only costs asking for the size again."""
        self.size = size
        document = {
            "size": size,
            "namespace": repository.namespace,
            "name": repository.name,
            "upstream": upstream,
        }
        text = json.dumps(document)
        return self._disk.run(_replace, self._layout.temporary(), self._layout.sidecar(self.digest), text)

    async def _append(self, chunks: Sequence[bytes]) -> None:
        self.written, failure = await grow(self._disk, self._descriptor, self._write, chunks, self.written)
        if failure is not None:
            raise failure

    def append(self, chunks: Sequence[bytes]) -> Deferred[None]:
        """Write `chunks` at the end and hash behind the writing, in one hop. Raises `NoSpace`."""
        return Deferred.fromCoroutine(self._append(chunks))

    def _write(self, chunks: Sequence[bytes], at: int) -> int:
        # One buffer: each call that lets go of the interpreter's lock waits for the reactor to get it back.
        return self._put(b"".join(chunks), at)

    async def _draw(self, read: Callable[[memoryview], int], most: int) -> int:
        before = self.written
        self.written, failure = await grow(self._disk, self._descriptor, self._fill, read, before, most)
        if failure is not None:
            raise failure
        return self.written - before

    def draw(self, read: Callable[[memoryview], int], most: int) -> Deferred[int]:
        """As `append`, of what `read` puts into a buffer, until it tells 0 bytes or about `most` are written."""
        return Deferred.fromCoroutine(self._draw(read, most))

    def _fill(self, read: Callable[[memoryview], int], at: int, most: int) -> int:
        buffer, end = self._buffers.view, at + most
        while at < end:
            filled = 0
            while filled < len(buffer) and (count := read(buffer[filled:])):
                filled += count
            if filled:
                at = self._put(buffer[:filled], at)
            if filled < len(buffer):
                break
        return at

    def _put(self, data: bytes | memoryview, at: int) -> int:
        end = write_at(self._descriptor, data, at)
        if self._hashed == at:
            self._hasher.update(data)
            self._hashed = end
        else:
            self._hash(_CATCH_UP, end)
        return end

    def _hash(self, most: int, end: int) -> bool:
        """Hash up to `most` bytes of the file before `end`; tell whether some are left."""
        stop = min(end, self._hashed + most)
        while self._hashed < stop:
            data = os.pread(self._descriptor, min(_READ, stop - self._hashed), self._hashed)
            if not data:
                raise OSError(f"the part of {self.digest} is shorter than what was written to it")
            self._hasher.update(data)
            self._hashed += len(data)
        return self._hashed < end

    async def _restart(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1
        await self._disk.run(_unlink, self._layout.part(self.digest))
        self._descriptor, self.written = await self._disk.run(_open_growing, self._layout.part(self.digest))
        self._hasher = self.digest.hasher()
        self._hashed = 0

    def restart(self) -> Deferred[None]:
        """Give up what is written and begin again at 0, in a new inode."""
        return Deferred.fromCoroutine(self._restart())

    async def _verify(self) -> bool:
        while await self._disk.run(self._hash, _HASH_HOP, self.written):
            pass
        if not self.digest.matches(self._hasher):
            return False
        os.fchmod(self._descriptor, _VERIFIED)
        return True

    def verify(self) -> Deferred[bool]:
        """Finish the hash and compare it; True marks the part verified, for followers in any process."""
        return Deferred.fromCoroutine(self._verify())

    async def _publish(self) -> None:
        part, sidecar = self._layout.part(self.digest), self._layout.sidecar(self.digest)
        try:
            await self._blobs.publish(part, self.digest)
            await self._disk.run(_unlink, sidecar)
        except NoSpace:
            await self._disk.run(_unlink, part, sidecar)
            raise
        finally:
            self._close()

    def publish(self) -> Deferred[None]:
        """Sync and rename the verified part into the blobs, and free the lock. Raises `NoSpace`."""
        return Deferred.fromCoroutine(self._publish())

    async def _abandon(self, keep: bool) -> None:
        if self._closed:
            return
        try:
            if not keep or self.written == 0:
                part, sidecar = self._layout.part(self.digest), self._layout.sidecar(self.digest)
                await self._disk.run(_unlink, part, sidecar)
        finally:
            self._close()

    def abandon(self, *, keep: bool) -> Deferred[None]:
        """Stop leading and free the lock; after `publish`, nothing. `keep` leaves the bytes for a resumption."""
        return Deferred.fromCoroutine(self._abandon(keep))

    def open(self) -> int:
        """Give a new descriptor for reading the file; the caller closes it."""
        return os.dup(self._descriptor)

    def _close(self) -> None:
        self._closed = True
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._lock.release()


class TrailingFile:
    """A part that another process leads. The leader may not have made the file yet: it is then of size 0."""

    def __init__(self, layout: Layout, locks: Locks, digest: Digest) -> None:
        self.digest = digest
        self._layout = layout
        self._locks = locks
        self._descriptor = -1
        self._size: int | None = None

    def look(self) -> Written:
        """Look at the file now, by one `fstat`."""
        if self._descriptor < 0 and not self._find():
            return Written(0, False, False)
        found = os.fstat(self._descriptor)
        verified = stat.S_IMODE(found.st_mode) not in (_GROWING, 0)
        return Written(found.st_size, verified, found.st_nlink == 0)

    def _find(self) -> bool:
        for path in (self._layout.part(self.digest), self._layout.blob(self.digest)):
            try:
                self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue
            return True
        return False

    def size(self) -> int | None:
        """Tell the whole blob's size from the sidecar, None when it is not known yet."""
        if self._size is None:
            self._size = _read_size(self._layout.sidecar(self.digest))
        return self._size

    def led(self) -> bool:
        """Tell whether anyone still leads it."""
        return self._locks.held(_key(self.digest))

    def open(self) -> int:
        """Give a new descriptor for reading the file; the caller closes it. Call it once `look` saw bytes."""
        return os.dup(self._descriptor)

    def close(self) -> None:
        """Stop looking."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _key(digest: Digest) -> str:
    return f"fill:{digest}"


def _open_growing(path: str) -> tuple[int, int]:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, _GROWING)
    except PermissionError:  # its leader died between making it read-only and renaming it
        os.chmod(path, _GROWING)
        descriptor = os.open(path, flags, _GROWING)
    os.fchmod(descriptor, _GROWING)
    return descriptor, os.fstat(descriptor).st_size


def _replace(temporary: str, path: str, text: str) -> None:
    """Write a sidecar. A full disk is no reason to fail: the size is then asked for again."""
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError:
        _unlink(temporary)


def _read_size(path: str) -> int | None:
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read(4096))
    except (OSError, ValueError):
        return None
    size = document.get("size") if isinstance(document, dict) else None
    return size if isinstance(size, int) and size >= 0 else None


def _unlink(*paths: str) -> None:
    for path in paths:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue


def _old_parts(folder: str, before: float) -> list[str]:
    """List the parts, and the sidecars without one, that were last written to before that time."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, suffix = os.path.splitext(entry.path)
            if suffix not in (".part", ".json") or (suffix == ".json" and os.path.exists(f"{stem}.part")):
                continue
            with contextlib.suppress(FileNotFoundError):
                if entry.stat(follow_symlinks=False).st_mtime < before:
                    found.append(os.path.basename(stem))
    return found
