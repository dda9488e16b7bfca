"""The tail of the audit log: its last lines, read from the end of the file backwards, and those before them.

A look is bounded in lines and in bytes, and done in a thread; where it ended, the next one goes on. Files that
logrotate has put aside beside the log, and has not packed, are gone through as well. Nothing in a file is believed:
whoever can write to it, or cut it, breaks no more than their own line.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Protocol, cast

import attrs
from twisted.internet.defer import Deferred

from nora.telemetry.audit import FIELDS

BLOCK = 64 * 1024
MAX_LINE = 64 * 1024
"""Bytes of a line; ours are shorter, whatever clients send."""
MAX_LOOK = 2 * 1024 * 1024
"""Bytes that one look goes through."""
_MAX_FILES = 64
_MAX_ENTRIES = 10_000
_MAX_TEXT = 256
_MAX_NUMBER = 2**53
_PLACE = re.compile(r"([0-9]{1,20})-([0-9]{1,15})\Z")
_NUMBERS = frozenset({"status", "bytes", "received", "seconds"})
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z\Z")
_PACKED = (".gz", ".xz", ".bz2", ".zst", ".tmp")

Entry = dict[str, Any]
"""What a line tells, by the names of `nora.telemetry.audit.FIELDS`; None for what it tells in no usable way."""


class Threads(Protocol):
    """Where files are read; a `nora.storage.interfaces.Disk` is one."""

    def run(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Call `work(*arguments)` in a thread; the result arrives on the reactor."""


class NotReadable(Exception):
    """There is no file to read: `reason` tells why, as the end of a sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@attrs.frozen
class Place:
    """A place in the log: before the byte `offset` of the file with that inode."""

    inode: int
    offset: int

    def __str__(self) -> str:
        return f"{self.inode}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """Read one; None for what is none."""
        found = _PLACE.match(text)
        return None if found is None else cls(int(found[1]), int(found[2]))


@attrs.frozen
class Look:
    """What a look found, the newest first."""

    entries: tuple[Entry, ...]
    unreadable: int
    """Lines that were passed over because they are none of ours."""
    older: Place | None
    """Where the next look goes on; None at the beginning of the oldest file."""


class AuditTail:
    """Reads the log at `path`."""

    def __init__(self, path: str, threads: Threads) -> None:
        self._path = path
        self._threads = threads

    async def look(self, wanted: Callable[[Entry], bool], most: int, before: Place | None = None) -> Look:
        """Find up to `most` entries that are wanted, from the end or from `before` backwards.

        A place in a file that is gone is the beginning of all that is left of the log. Raises `NotReadable`.
        """
        return cast(Look, await self._threads.run(_look, self._path, wanted, most, before))


def entry(line: bytes) -> Entry | None:
    """Read a line; None when it is none of ours."""
    if len(line) > MAX_LINE:
        return None
    try:
        told = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    time = told.get("time") if isinstance(told, dict) else None
    if not isinstance(time, str) or not _TIME.match(time):
        return None
    return {name: _value(name, told.get(name)) for name in FIELDS}


def _value(name: str, value: object) -> object:
    """Take a value that is of its field's type, and in bounds."""
    if name == "aborted":
        return value is True
    if name in _NUMBERS:
        usable = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < _MAX_NUMBER
        return value if usable and (name == "seconds" or isinstance(value, int)) else None
    return value[:_MAX_TEXT] if isinstance(value, str) else None


def _no_number(text: str) -> object:
    raise ValueError(f"{text} is no number of JSON")


def _look(path: str, wanted: Callable[[Entry], bool], most: int, before: Place | None) -> Look:
    found: list[Entry] = []
    unreadable = 0
    left = MAX_LOOK
    files = _files(path)
    while before is not None and files and files[0].inode != before.inode:
        files.pop(0)
    for each in files:
        end = each.size if before is None or each.inode != before.inode else min(each.size, before.offset)
        for start, line in _backwards(each.path, end, left):
            told = entry(line) if line.strip() else {}
            unreadable += told is None
            if told and wanted(told):
                found.append(told)
            if len(found) == most or end - start >= left:
                older = Place(each.inode, start) if start or each is not files[-1] else None
                return Look(tuple(found), unreadable, older)
        left -= end
    return Look(tuple(found), unreadable, None)


@attrs.frozen
class _File:
    inode: int
    path: str
    size: int


def _files(path: str) -> list[_File]:
    """List the log and those of its rotated files that can be read, the newest first."""
    try:
        first = os.stat(path)
        if not stat.S_ISREG(first.st_mode):
            raise NotReadable("goes to what is no file, so it cannot be read again")
        os.close(os.open(path, _FLAGS))
    except OSError as error:
        raise NotReadable(f"cannot be read: {error.strerror}") from None
    folder, name = os.path.split(path)
    others = []
    with contextlib.suppress(OSError), os.scandir(folder or ".") as entries:  # the log itself is there
        for each in islice(entries, _MAX_ENTRIES):
            if not each.name.startswith((f"{name}.", f"{name}-")) or each.name.endswith(_PACKED):
                continue
            found = each.stat(follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                others.append((found.st_mtime, found.st_ino, each.path, found.st_size))
    others.sort(reverse=True)
    rotated = [_File(inode, other, size) for _, inode, other, size in others[:_MAX_FILES]]
    return [_File(first.st_ino, path, first.st_size), *rotated]


def _backwards(path: str, end: int, most: int) -> Iterator[tuple[int, bytes]]:
    """Go through the lines before byte `end` of a file, the last first, each with the byte that it begins at.

    Of a line that is too long its beginning is given, which is too long as well, or where `most` bytes were read what
    was read of it. A file that is gone, or cut, has no more lines.
    """
    rest = b""
    stop = end
    with contextlib.suppress(OSError), open(os.open(path, _FLAGS), "rb", buffering=0) as file:
        while stop > 0:
            start = max(0, stop - BLOCK)
            data = os.pread(file.fileno(), stop - start, start)
            if len(data) < stop - start:
                return
            position = stop + len(rest)
            rest, *lines = (data + rest).split(b"\n")
            for line in reversed(lines):
                position -= len(line)
                yield position, line
                position -= 1
            rest = rest[: MAX_LINE + 1]
            stop = start
            if len(rest) > MAX_LINE and end - start >= most:
                break
        if end:
            yield stop, rest
