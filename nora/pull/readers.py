"""Readers: one client's way through one blob's bytes.

`FileReader` and `MemoryReader` read what is whole. `FollowingReader` follows a fill while it grows and can change
its source under way: to the new inode of a fill that started over, once the bytes it sent are known to be the same
there; to a transfer of its own, when the store has no space or its range is too far ahead.
"""

from __future__ import annotations

import os
from typing import Protocol

from twisted.internet.defer import Deferred, succeed

from nora.oci.errors import Broken
from nora.pull.direct import Direct
from nora.pull.fill import Fill
from nora.pull.window import Window
from nora.storage.interfaces import Disk

_COMPARE = 1024 * 1024
_INLINE = 256 * 1024
"""The most bytes of one read on the reactor: 40 microseconds, where a thread would take 125 to be reached and left."""
FAR = 20.0
"""A wait estimated to be longer than this many seconds goes straight to the upstream, if it may."""


class FileReader:
    """Reads a blob, whole and verified, from its file. It owns `descriptor`."""

    def __init__(self, descriptor: int, start: int, stop: int, disk: Disk) -> None:
        self.position = start
        self.stop = stop
        self.descriptor: int | None = descriptor
        self._window = Window(disk, start)

    def ready(self, want: int = 0) -> int:
        """Tell how many bytes may go out now without waiting for the disk."""
        if self.descriptor is None or self.position >= self.stop:
            return 0
        return self._window.ready(self.descriptor, self.position, self.stop, want)

    def more(self) -> Deferred[None]:
        """Wait for the disk, when it is needed."""
        if self.ready() or self.position >= self.stop:
            return succeed(None)
        return self._window.more()

    def advance(self, sent: int) -> None:
        """Tell that `sent` bytes went out."""
        self.position += sent

    async def read(self, limit: int) -> bytes:
        """Give up to `limit` bytes and advance."""
        while self.position < self.stop and not self.ready():
            await self._window.more()
        data = _read(self.descriptor, min(limit, self.ready()), self.position)
        self.position += len(data)
        return data

    def close(self) -> None:
        """Close the file."""
        self._window.close()
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


class MemoryReader:
    """Reads a small blob that could not be stored."""

    descriptor: int | None = None

    def __init__(self, data: bytes, start: int, stop: int) -> None:
        self.position = start
        self.stop = stop
        self._data = data

    def ready(self, want: int = 0) -> int:
        """Tell how many bytes may go out now: all that are left."""
        return self.stop - self.position

    def more(self) -> Deferred[None]:
        """Fire at once."""
        return succeed(None)

    def advance(self, sent: int) -> None:
        """Tell that `sent` bytes went out."""
        self.position += sent

    async def read(self, limit: int) -> bytes:
        """Give up to `limit` bytes and advance."""
        data = self._data[self.position : min(self.stop, self.position + limit)]
        self.position += len(data)
        return data

    def close(self) -> None:
        """Nothing is open."""


class Detours(Protocol):
    """Gives transfers past the store."""

    async def around(self, fill: Fill, position: int, stop: int, descriptor: int | None) -> Direct:
        """Begin a verified transfer from `position`, because `fill` stopped storing.

        `descriptor` holds the bytes before `fill.written`.
        """

    def ahead(self, fill: Fill, position: int, stop: int) -> Direct | None:
        """Begin a transfer of a range that `fill` reaches late; None when too many run already."""


class FollowingReader:
    """Follows a fill."""

    def __init__(self, fill: Fill, start: int, stop: int, disk: Disk, detours: Detours) -> None:
        self.position = start
        self.stop = stop
        self.descriptor = fill.duplicate()
        self._start = start
        self._generation = fill.generation
        self._fill = fill
        self._disk = disk
        self._detours = detours
        self._window = Window(disk, start)
        self._direct: Direct | None = None
        self._closed = False
        fill.followers += 1

    def ready(self, want: int = 0) -> int:
        """Tell how many bytes may go out now."""
        if self._direct is not None:
            return self._direct.ready()
        if self.descriptor is None or not self._shown():
            return 0
        return self._window.ready(self.descriptor, self.position, min(self.stop, self._fill.visible), want)

    def _shown(self) -> bool:
        """Tell whether the fill has bytes for this reader, in memory or not."""
        fill = self._fill
        return self._generation == fill.generation and self.position < min(self.stop, fill.visible)

    def more(self) -> Deferred[None]:
        """Wait until `ready()` is more than 0."""
        return Deferred.fromCoroutine(self._more())

    async def _more(self) -> None:
        while self.position < self.stop:
            if self._direct is not None:
                await self._direct.more()
                return
            fill = self._fill
            if self.ready():
                return
            if self.descriptor is not None and self._shown():
                await self._window.more()
            elif fill.spaceless:
                await self._go_around()
            elif fill.generation != self._generation:
                await self._change_file()
            elif self._is_far() and (ahead := self._detours.ahead(fill, self.position, self.stop)):
                self._leave_file(ahead)
            else:
                await fill.progress()

    def advance(self, sent: int) -> None:
        """Tell that `sent` bytes went out."""
        self.position += sent

    async def read(self, limit: int) -> bytes:
        """Give up to `limit` bytes and advance; at the end there are none."""
        while not self.ready():
            if self.position >= self.stop:
                return b""
            await self._more()
        if self._direct is not None:
            data = self._direct.take(limit)
        else:
            data = _read(self.descriptor, min(limit, self.ready()), self.position)
        self.position += len(data)
        return data

    def close(self) -> None:
        """Free everything; the fill goes on."""
        if not self._closed:
            self._fill.followers -= 1
        self._closed = True
        self._window.close()
        if self._direct is not None:
            self._direct.close()
        self._close_file()

    def _is_far(self) -> bool:
        if self.position <= self._fill.written:
            return False
        seconds = self._fill.seconds_until(self.position)
        return seconds is not None and seconds > FAR

    async def _go_around(self) -> None:
        direct = await self._detours.around(self._fill, self.position, self.stop, self.descriptor)
        if self._closed:
            direct.close()
            raise Broken("the client left")
        self._leave_file(direct, keep=True)

    def _leave_file(self, direct: Direct, keep: bool = False) -> None:
        self._direct = direct
        self._window.close()
        if not keep:
            self._close_file()
        self._spare, self.descriptor = self.descriptor, None

    async def _change_file(self) -> None:
        """Go over to the fill's new inode, if what was sent of the old one stands there too."""
        fill, generation = self._fill, self._fill.generation
        while fill.generation == generation and fill.written < self.position and self.position > self._start:
            await fill.progress()
            if fill.spaceless:
                return
        if fill.generation != generation:
            return
        new = fill.duplicate()
        if new is None:
            raise Broken("the fill lost its file")
        try:
            if not await self._same_in(new):
                raise Broken("the upstream's bytes changed under way")
            if self._closed:
                raise Broken("the client left")
        except BaseException:
            os.close(new)
            raise
        self._window.close()
        self._window = Window(self._disk, self.position)
        self._close_file()
        self.descriptor, self._generation = new, generation

    async def _same_in(self, new: int) -> bool:
        if self.descriptor is None or self.position == self._start:
            return True
        return await self._disk.run(_same, self.descriptor, new, self._start, self.position)

    _spare: int | None = None
    """The file that a transfer past the store reads the prefix from."""

    def _close_file(self) -> None:
        for descriptor in {self.descriptor, self._spare} - {None}:
            os.close(descriptor)  # type: ignore[arg-type]
        self.descriptor = self._spare = None


def _read(descriptor: int | None, limit: int, offset: int) -> bytes:
    """Read what is in memory; raises `Broken` where bytes were promised and are not there."""
    if descriptor is None:
        raise Broken("the client left")
    try:
        data = os.pread(descriptor, min(limit, _INLINE), offset)
    except OSError:
        raise Broken("the store could not be read") from None
    if not data and limit:
        raise Broken("the file is shorter than the blob")
    return data


def _same(old: int, new: int, start: int, stop: int) -> bool:
    at = start
    while at < stop:
        count = min(_COMPARE, stop - at)
        left, right = os.pread(old, count, at), os.pread(new, count, at)
        if not left or left != right:
            return False
        at += count
    return True
