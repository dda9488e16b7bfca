"""Durable changes of files: what a crash may lose, and what it may not.

A file is written under a temporary name, synced, renamed into place, and then the directory that got the name
is synced: at any moment the name stands for the whole old content or the whole new. A full disk is `NoSpace`,
and nothing half-written is left behind by a failure. Directories that are missing on the way are made, and the
directory above each new one is synced. That another process may have made one a moment ago without having synced
it yet is left to the file system: ext4, XFS and btrfs persist a directory's own entry with what is synced in it.

Everything here blocks, and is called in threads of the disk.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Iterator

from nora.oci.errors import NoSpace

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DEEPEST = 200
"""Missing directories that are made for one file: a repository name has at most 128 parts."""

_SYNC_FILE_RANGE_WRITE = 2
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)
"""`sync_file_range(2)`, which Python does not offer; None where the C library has none."""


def no_space(error: OSError) -> NoSpace | None:
    """Give `NoSpace` when `error` says that the disk, or a quota on it, is full; else None."""
    return NoSpace("the store's file system is full") if error.errno in _FULL else None


@contextlib.contextmanager
def space_checked() -> Iterator[None]:
    """Raise `NoSpace` for an `OSError` of the body that says that the disk is full."""
    try:
        yield
    except OSError as error:
        raise no_space(error) or error from error.__cause__


def sync_directory(path: str) -> None:
    """Sync the directory at `path`: the names in it survive a crash."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directories(path: str, *, sync: bool = True) -> None:
    """Make the directory at `path` and those above it that are missing; no error when it is there."""
    missing = []
    while True:
        try:
            os.mkdir(path)
        except FileExistsError:
            break
        except FileNotFoundError:
            missing.append(path)
            path = os.path.dirname(path)
            if len(missing) > _DEEPEST:
                raise
            continue
        if sync:
            sync_directory(os.path.dirname(path))
        break
    for lower in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(lower)
            if sync:
                sync_directory(os.path.dirname(lower))


def write(path: str, data: bytes, temporary: str, *, mode: int = 0o644, sync: bool = True) -> None:
    """Replace the file at `path` by one that holds `data`, through the unused name `temporary`.

    The umask takes its part of `mode`. `sync=False` leaves out every sync: after a crash the old content, none
    or an empty file may be there. Raises `NoSpace`, `OSError`; `temporary` is then gone.
    """
    with space_checked():
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            try:
                _write_whole(descriptor, data)
                if sync:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            _rename(temporary, path, sync=sync)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def move(source: str, path: str, *, mode: int) -> None:
    """Give the file at `source` the `mode` and the name `path`, durably, its content included.

    Raises `NoSpace`, `OSError`; `source` may then still be there.
    """
    with space_checked():
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _rename(source, path, sync=True)


def write_at(descriptor: int, data: bytes | memoryview, at: int) -> int:
    """Write all of `data` at the offset `at`, and tell the offset behind it."""
    view, end = memoryview(data), at
    while view:
        count = os.pwrite(descriptor, view, end)
        view = view[count:]
        end += count
    return end


def write_out(descriptor: int, start: int, count: int) -> None:
    """Let the disk begin to write `count` bytes from `start` of a file now, so that a later sync has less to wait for.

    Nothing is waited for but a place in the disk's queue, and no error of the disk is told here: the sync tells it.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, ctypes.c_int64(start), ctypes.c_int64(count), _SYNC_FILE_RANGE_WRITE)


def set_aside(path: str, aside: str, inode: int | None = None) -> bool:
    """Move what is at `path`, whatever it is, to `aside`, replacing a file there.

    With `inode`, only when that is what `path` still names. False when there was nothing to move.
    """
    try:
        if inode is not None and os.lstat(path).st_ino != inode:
            return False
        _rename(path, aside, sync=True)
    except FileNotFoundError:
        return False
    return True


def remove(path: str) -> bool:
    """Unlink the file at `path`, durably; False when there is none."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    sync_directory(os.path.dirname(path))
    return True


def is_regular(path: str, size: int) -> bool:
    """Tell whether a regular file of `size` bytes, no symbolic link, is at `path`."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size


def _write_whole(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _rename(source: str, path: str, *, sync: bool) -> None:
    try:
        os.rename(source, path)
    except FileNotFoundError:
        os.lstat(source)  # what is missing is the source: that is the caller's error
        make_directories(os.path.dirname(path), sync=sync)
        os.rename(source, path)
    if sync:
        sync_directory(os.path.dirname(path))
