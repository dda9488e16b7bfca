"""Published blobs: one read-only file each, named by its digest.

What is here was verified before it came, and is never written again. Whether a file is still what was published
is told by its size, which costs nothing: a file of another size than the one recorded, or what is no regular file
at all, goes to quarantine and is a miss. Each digest's publishing, linking and removing is under its caller's lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from nora.concurrency import Background, SingleFlight
from nora.oci import Digest
from nora.storage import durable
from nora.storage.interfaces import Disk, File, Index
from nora.storage.layout import Layout

R = TypeVar("R")

_MODE = 0o444
_INLINE = 64 * 1024
"""Bytes that are read on the reactor: less time than a hop to a thread takes."""
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""Without O_NONBLOCK a named pipe in the place of a blob would stop the reactor."""


class BlobFile:
    """A published blob, open for reading. It stays readable when the blob is removed meanwhile."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        """The file's descriptor; -1 once closed."""
        self.size = size
        """The blob's size in bytes."""

    def close(self) -> None:
        """Close it; a second call does nothing."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class DiskBlobs:
    """The published blobs of one store, in its `blobs` folder.

    What changes files is not cancelled with who waits for it: the file and the index stay of one mind.
    """

    _log = Logger()

    def __init__(self, layout: Layout, disk: Disk, index: Index) -> None:
        self._layout = layout
        self._disk = disk
        self._index = index
        self._changing = Background()
        self._changes: SingleFlight[tuple[str, ...], Any] = SingleFlight(self._changing)

    def idle(self) -> Deferred[None]:
        """Tell when no change runs any more: then the disk and the index may stop."""
        return self._changing.idle()

    async def open(self, digest: Digest, size: int | None = None) -> File | None:
        """Open a blob. One whose size is not the recorded `size` goes to quarantine, and is a miss: None.

        The file is opened on the reactor: that is cheaper than a hop to a thread. Raises `OSError` when the
        disk fails or descriptors run out.
        """
        found = self._find(digest)
        if found is None:
            return None
        file, actual = found
        if file is not None and size in {None, file.size}:
            return file
        if file is not None:
            file.close()
        await self._change("quarantine", str(digest), work=lambda: self._quarantine(digest, actual, size))
        return None

    def open_now(self, digest: Digest, size: int) -> File | None:
        """Open a blob at once; None when it is not there, or not of that size, which changes nothing.

        Raises `OSError` as `open` does.
        """
        file, _ = self._find(digest) or (None, None)
        if file is not None and file.size != size:
            file.close()
            return None
        return file

    def size(self, digest: Digest) -> int | None:
        """Tell a blob's size in bytes by one `stat`; None when it is not there."""
        try:
            found = os.lstat(self._layout.blob(digest))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    async def read(self, digest: Digest, limit: int) -> bytes | None:
        """Read a whole blob of at most `limit` bytes; None when it is not there or larger."""
        file = await self.open(digest)
        if file is None:
            return None
        if file.size > limit:
            file.close()
            return None
        if file.size <= _INLINE:
            return _read(file)
        # A descriptor of the thread's own: this one would be lost if the waiting were cancelled.
        file.close()
        return await self._disk.run(_read_path, self._layout.blob(digest), limit)

    async def add(self, data: bytes, digest: Digest) -> None:
        """Publish verified `data`: written, synced, renamed into place. Raises `NoSpace`."""
        await self._change("add", str(digest), work=lambda: self._add(data, digest))

    async def publish(self, path: str, digest: Digest) -> None:
        """Publish the verified file at `path`, on the store's file system, by rename. Raises `NoSpace`.

        When the blob is there already, the file at `path` is unlinked.
        """
        await self._change("publish", str(digest), path, work=lambda: self._publish(path, digest))

    async def remove(self, digest: Digest) -> bool:
        """Delete a blob's bytes; False when there were none."""
        return bool(await self._change("remove", str(digest), work=lambda: self._remove(digest)))

    def _change(self, *key: str, work: Callable[[], Coroutine[Any, Any, R]]) -> Deferred[R]:
        return self._changes.run(key, work)

    def _find(self, digest: Digest) -> tuple[BlobFile | None, os.stat_result] | None:
        """Open what is at the blob's path; the file is None when it is not a regular one."""
        path = self._layout.blob(digest)
        try:
            descriptor = os.open(path, _FLAGS)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENXIO}:  # a symbolic link, a socket
                return None, os.lstat(path)
            raise
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            return BlobFile(descriptor, found.st_size), found
        os.close(descriptor)
        return None, found

    async def _quarantine(self, digest: Digest, found: os.stat_result, size: int | None) -> None:
        path, aside = self._layout.blob(digest), self._layout.quarantine(digest)
        self._log.error(
            "blob {digest} has {actual} bytes where {size} are recorded, or is no regular file: to quarantine",
            digest=str(digest),
            actual=found.st_size,
            size=size,
        )
        try:
            moved = await self._disk.run(durable.set_aside, path, aside, found.st_ino)
        except OSError as error:
            self._log.error("blob {digest} cannot be moved: {error}", digest=str(digest), error=error)
            return
        if moved:
            self._index.removed(digest)

    async def _add(self, data: bytes, digest: Digest) -> None:
        path = self._layout.blob(digest)
        await self._disk.run(_add, path, data, self._layout.temporary(), self._layout.quarantine(digest))
        self._index.stored(digest, len(data))

    async def _publish(self, source: str, digest: Digest) -> None:
        path, aside = self._layout.blob(digest), self._layout.quarantine(digest)
        size = await self._disk.run(_publish, source, path, aside)
        self._index.stored(digest, size)

    async def _remove(self, digest: Digest) -> bool:
        removed = await self._disk.run(durable.remove, self._layout.blob(digest))
        if removed:
            self._index.removed(digest)
        return removed


def _add(path: str, data: bytes, temporary: str, aside: str) -> None:
    if durable.is_regular(path, len(data)):
        return
    with durable.space_checked():
        durable.set_aside(path, aside)
    durable.write(path, data, temporary, mode=_MODE)


def _publish(source: str, path: str, aside: str) -> int:
    size = os.lstat(source).st_size
    if durable.is_regular(path, size):
        os.unlink(source)
        return size
    with durable.space_checked():
        durable.set_aside(path, aside)
    durable.move(source, path, mode=_MODE)
    return size


def _read_path(path: str, limit: int) -> bytes | None:
    try:
        descriptor = os.open(path, _FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return None
    file = BlobFile(descriptor, os.fstat(descriptor).st_size)
    if file.size > limit:
        file.close()
        return None
    return _read(file)


def _read(file: File) -> bytes | None:
    """Read `file` whole and close it; None when it ends early."""
    with contextlib.closing(file):
        parts, at = [], 0
        while at < file.size:
            part = os.pread(file.descriptor, file.size - at, at)
            if not part:
                return None
            parts.append(part)
            at += len(part)
    return b"".join(parts)
