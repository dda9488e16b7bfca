"""Blobs that may be sent: whole in the store, or growing. `web` cannot tell which."""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed

from nora.oci.errors import Broken
from nora.pull.fill import Fill
from nora.pull.interfaces import Reader
from nora.pull.readers import Detours, FileReader, FollowingReader, MemoryReader
from nora.storage.interfaces import Blobs, Disk, File

SMALL = 1024 * 1024
"""Up to this size, in bytes, a blob is verified before its headers go out."""


class StoredContent:
    """A blob that is whole and verified. It owns `file`; `reopen` opens the same blob at once, where it still can."""

    def __init__(self, file: File, disk: Disk, reopen: Callable[[], File | None]) -> None:
        self.size = file.size
        self._file = file
        self._disk = disk
        self._reopen = reopen

    def verified(self) -> Deferred[None]:
        """Fire at once."""
        return succeed(None)

    async def reader(self, start: int, stop: int) -> Reader:
        """Give a reader of the bytes from `start` up to `stop`."""
        return FileReader(os.dup(self._file.descriptor), start, stop, self._disk)

    def again(self) -> Reader | None:
        """Open the blob again, and give a reader of all of it; None when it is gone. Raises `OSError`."""
        file = self._reopen()
        return None if file is None else FileReader(file.descriptor, 0, file.size, self._disk)

    def close(self) -> None:
        """Let go of the file; readers have it open themselves."""
        self._file.close()


class FollowedContent:
    """A blob that a fill brings. The fill is opened: its size is known.

    It keeps the file open, for a fill may end without its blob having been stored.
    """

    def __init__(self, fill: Fill, blobs: Blobs, disk: Disk, detours: Detours) -> None:
        assert fill.size is not None, "followed before it was opened"  # noqa: S101
        self.size = fill.size
        self._fill = fill
        self._blobs = blobs
        self._disk = disk
        self._detours = detours
        self._kept = fill.duplicate()
        self._generation = fill.generation
        self._whole: bytes | None = None

    def verified(self) -> Deferred[None]:
        """Wait until the digest is verified.

        Where the store has no space, a small blob is verified in memory; a larger one is not waited for, and its
        reader verifies it as it goes.
        """
        return Deferred.fromCoroutine(self._verified())

    async def _verified(self) -> None:
        await self._fill.verification()
        if not self._fill.verified and self.size <= SMALL:
            reader = FollowingReader(self._fill, 0, self.size, self._disk, self._detours)
            try:
                data = bytearray()
                while len(data) < self.size:
                    data += await reader.read(self.size)
                self._whole = bytes(data)
            finally:
                reader.close()

    async def reader(self, start: int, stop: int) -> Reader:
        """Give a reader of the bytes from `start` up to `stop`."""
        if self._whole is not None:
            return MemoryReader(self._whole, start, stop)
        fill = self._fill
        if fill.verified and fill.descriptor is None:
            if self._kept is not None and self._generation == fill.generation:
                return FileReader(os.dup(self._kept), start, stop, self._disk)
            file = await self._blobs.open(fill.digest, self.size)
            if file is None:
                raise Broken("the blob was removed")
            return FileReader(file.descriptor, start, stop, self._disk)
        return FollowingReader(fill, start, stop, self._disk, self._detours)

    def again(self) -> None:
        """Give nothing: when the fill has ended, there is another content."""

    def close(self) -> None:
        """Let go of the file; readers have it open themselves, and the fill goes on by itself."""
        if self._kept is not None:
            os.close(self._kept)
            self._kept = None
