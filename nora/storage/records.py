"""Records: small JSON documents, a file each, that are replaced whole.

No record is cached here: it is read where it is needed, and a `stat` tells whether it has changed. A document
that cannot be understood is no record: it is logged once, and the next write replaces it.

The names in a directory are kept, in byte order, for as long as the directory's stamp is the same: every change of a
name changes it, whichever process does it. Only a directory that was left alone for 10 ms is kept, because two changes
within a tick of the clock may have one stamp.
"""

from __future__ import annotations

import bisect
import errno
import json
import os
import stat
import time
from collections import OrderedDict
from functools import lru_cache
from typing import Any

from twisted.logger import Logger

from nora.storage import durable, witness
from nora.storage.interfaces import Disk, Record, Stamp
from nora.storage.layout import Layout

MAX_RECORD_SIZE = 64 * 1024
"""Bytes of a record, at most: it is read on the reactor."""
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_MAX_REPORTED = 1000
_MAX_KEPT = 300_000
"""Names that are kept in memory, of all directories: some tens of megabytes."""
SETTLED_NS = 10_000_000
"""For how many nanoseconds a directory must have been left alone for its stamp to tell all."""
_MAX_PATHS = 10_000


class DiskRecords:
    """The records of one store, as files under `repositories` and `names`."""

    _log = Logger()

    def __init__(self, layout: Layout, disk: Disk) -> None:
        self._layout = layout
        self._disk = disk
        self._path = lru_cache(maxsize=_MAX_PATHS)(layout.record)
        self._reported: set[str] = set()
        self._listings: OrderedDict[str, tuple[Stamp, list[str]]] = OrderedDict()
        self._kept = 0

    async def get(self, key: str) -> Record | None:
        """Read a record, on the reactor; None when there is none, or when what is there is no JSON object.

        Raises `OSError` when it is there and cannot be read: a right must not be lost for want of a descriptor.
        """
        path = self._layout.record(key)
        try:
            record = read_document(path)
        except (ValueError, RecursionError) as error:
            self._report(key, error)
            # The next request reads it again.
            witness.expires(0)
            return None
        watching = witness.present.get()
        if watching is not None:
            watching.saw(key, None if record is None else record.stamp)
        return record

    async def put(self, key: str, value: dict[str, Any], *, durable: bool = True) -> None:
        """Write a record atomically. `durable=False` leaves out the fsync: a crash may bring the old one back.

        Raises `NoSpace`, `OSError`, and `ValueError` for one of more than 64 KiB.
        """
        data = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
        if len(data) > MAX_RECORD_SIZE:
            raise ValueError(f"the record {key!r} would be larger than {MAX_RECORD_SIZE} bytes")
        await self._disk.run(_write, self._layout.record(key), data, self._layout.temporary(), durable)

    async def remove(self, key: str) -> bool:
        """Delete a record; False when there was none."""
        return await self._disk.run(durable.remove, self._layout.record(key))

    def stamp(self, key: str) -> Stamp | None:
        """Tell a record's stamp by one `stat`; None when there is none."""
        try:
            found = os.lstat(self._path(key))
        except (FileNotFoundError, NotADirectoryError):
            stamp = None
        else:
            stamp = found.st_ino, found.st_mtime_ns, found.st_size
        watching = witness.present.get()
        if watching is not None:
            watching.saw(key, stamp)
        return stamp

    async def page(self, prefix: str, after: str, limit: int) -> list[str]:
        """List, in byte order, up to `limit` names of records right under `prefix` that come after `after`."""
        path = self._layout.record(prefix)
        stamp = directory_stamp(path)
        kept = self._listings.get(path)
        if kept is not None and kept[0] == stamp:
            self._listings.move_to_end(path)
            names = kept[1]
        elif stamp is None:
            self._forget(path)
            return []
        else:
            stamp, names = await self._disk.run(_list_directory, path)
            self._forget(path)
            if stamp is not None and len(names) <= _MAX_KEPT:
                self._listings[path] = stamp, names
                self._kept += len(names)
                while self._kept > _MAX_KEPT:
                    self._forget(next(iter(self._listings)))
        start = bisect.bisect_right(names, after)
        return names[start : start + limit]

    def _forget(self, path: str) -> None:
        forgotten = self._listings.pop(path, None)
        if forgotten is not None:
            self._kept -= len(forgotten[1])

    def _report(self, key: str, error: Exception) -> None:
        if key in self._reported:
            return
        if len(self._reported) >= _MAX_REPORTED:
            self._reported.clear()
        self._reported.add(key)
        self._log.error("the record {key} is ignored: {error}", key=key, error=str(error))


def _write(path: str, data: bytes, temporary: str, sync: bool) -> None:
    durable.write(path, data, temporary, sync=sync)


def read_document(path: str) -> Record | None:
    """Read the record in the file at `path`; None when there is none.

    Raises `ValueError` or `RecursionError` when what is there is no JSON object of at most 64 KiB, `OSError` when
    it cannot be read.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            raise ValueError("it is no regular file") from None
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is no regular file")
        if found.st_size > MAX_RECORD_SIZE:
            raise ValueError(f"it is larger than {MAX_RECORD_SIZE} bytes")
        data = os.read(descriptor, MAX_RECORD_SIZE)
    finally:
        os.close(descriptor)
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return Record(value, (found.st_ino, found.st_mtime_ns, found.st_size))


def directory_stamp(path: str) -> Stamp | None:
    """Tell the stamp of a directory, which changes with each name in it; None when there is none."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _list_directory(path: str) -> tuple[Stamp | None, list[str]]:
    """List the files in the directory at `path`, and tell the stamp to keep them under, None if they must not be."""
    stamp = directory_stamp(path)
    settled = stamp is not None and time.time_ns() - stamp[1] >= SETTLED_NS
    try:
        with os.scandir(path) as entries:
            names = sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return None, []
    return stamp if settled else None, names
