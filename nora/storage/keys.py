"""The key of the store: 32 random bytes that tokens and forms of pages are signed with, made once and kept."""

from __future__ import annotations

import contextlib
import os
import stat

from nora.storage.durable import sync_directory
from nora.storage.layout import StoreError

LENGTH = 32


def read_or_make(path: str, temporary: str) -> bytes:
    """Give the key at `path`, making it durably, with mode 0600, when there is none.

    Several processes may do so at once: all get the same. `temporary` is a free name on the same file system. Blocks.
    Raises `StoreError` when what is there is no such key, or cannot be read or made.
    """
    try:
        try:
            return _read(path)
        except FileNotFoundError:
            _make(path, temporary)
        return _read(path)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(path, f"the key of the store cannot be used: {error.strerror}") from error


def _read(path: str) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        key = file.read(LENGTH + 1) if stat.S_ISREG(found.st_mode) else b""
    if len(key) != LENGTH:
        raise StoreError(path, f"is no key of {LENGTH} bytes; without it the next start makes a new one")
    if found.st_mode & 0o077:
        raise StoreError(path, "must be readable by its owner alone: chmod 600")
    return key


def _make(path: str, temporary: str) -> None:
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(descriptor, os.urandom(LENGTH))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # Unlike a rename this leaves alone what another process made meanwhile.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)
    sync_directory(os.path.dirname(path))
