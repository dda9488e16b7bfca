"""The layout of a store: which path each thing has, and what a directory must be to hold a store.

Paths are computed, never looked for: nothing here walks the store. All of it is on one file system, because
publishing is a rename.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import time

from nora.oci import Digest

_FOLDERS = ("blobs", "repositories", "names", "fills", "uploads", "tmp", "quarantine")
_KEY = re.compile(r"(?:repositories|names)(?:/(?!\.{1,2}(?:/|\Z))[^/\0]+)+\Z")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class StoreError(OSError):
    """The store cannot be used. `path` and `reason` are for the operator; no client sees them."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class Layout:
    """The paths of the store at `root`."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.blobs = f"{self.root}/blobs"
        """Published blobs."""
        self.repositories = f"{self.root}/repositories"
        """The records of repositories."""
        self.fills = f"{self.root}/fills"
        """Parts and their sidecars."""
        self.uploads = f"{self.root}/uploads"
        """Upload sessions, a folder each."""
        self.tmp = f"{self.root}/tmp"  # noqa: S108  (the store's own, not the system's)
        """Files that are being written, and mean nothing before they get another name."""
        self.locks = f"{self.root}/locks"
        """The file whose byte ranges are the locks of keys."""
        self.daemon_lock = f"{self.root}/daemon.lock"
        """The file that the one daemon of the store locks."""
        self.index = f"{self.root}/index.sqlite"
        self.token_key = f"{self.root}/token.key"
        """The key that tokens, and forms of pages, are signed with."""

    def blob(self, digest: Digest) -> str:
        """Tell where the published blob is."""
        return f"{self.blobs}/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"

    def part(self, digest: Digest) -> str:
        """Tell where the blob grows while it is fetched."""
        return f"{self.fills}/{digest.algorithm}-{digest.hex}.part"

    def sidecar(self, digest: Digest) -> str:
        """Tell where the description of a part is."""
        return f"{self.fills}/{digest.algorithm}-{digest.hex}.json"

    def upload(self, id: str) -> str:
        """Tell where the upload session is that `id`, checked by the caller, names."""
        return f"{self.uploads}/{id}"

    def quarantine(self, digest: Digest) -> str:
        """Tell where a blob goes that is not what it should be; it replaces an earlier one."""
        return f"{self.root}/quarantine/{digest.algorithm}-{digest.hex}"

    def record(self, key: str) -> str:
        """Tell where the record of `key` is.

        Raises `ValueError` for a key outside `repositories/` and `names/`, or with an empty part, a `.`, a
        `..` or a NUL in it.
        """
        if not _KEY.match(key):
            raise ValueError(f"{key!r} is not the key of a record")
        return f"{self.root}/{key}"

    def temporary(self) -> str:
        """Give a name under `tmp` that nobody uses, in no process."""
        return f"{self.tmp}/{secrets.token_hex(16)}"

    def prepare(self) -> None:
        """Make the store's directories and check that it can be written.

        The root is made with mode 0700 when it is missing, the rest as the umask says. A full disk is no reason
        to refuse: what is stored can be served. Blocks. Raises `StoreError`.
        """
        path = self.root
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _make(path, 0o700)
            device = os.stat(path).st_dev
            for folder in _FOLDERS:
                path = f"{self.root}/{folder}"
                _make(path, 0o777)
                if os.stat(path).st_dev != device:
                    raise StoreError(path, f"is on another file system than {self.root}")
                _check_writable(path)
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(path, f"cannot hold the store: {error.strerror or error}") from error

    def clear_temporaries(self, most: int = 10_000) -> int:
        """Unlink what an earlier process left under `tmp`, `most` files at a time; gives their number.

        Only for the one who holds the store's lock, before any other process works on it. Blocks.
        """
        cleared = 0
        with os.scandir(self.tmp) as entries:
            for entry in entries:
                if cleared >= most:
                    break
                if entry.is_dir(follow_symlinks=False):
                    continue
                os.unlink(entry.path)
                cleared += 1
        return cleared


def _make(path: str, mode: int) -> None:
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not os.path.isdir(path):
            raise StoreError(path, "is not a directory") from None


def _check_writable(folder: str) -> None:
    """Make a file in `folder` and unlink it: what `access` says is not true on every file system."""
    probe = f"{folder}/.writable-{os.getpid()}-{time.monotonic_ns()}"
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        if error.errno not in _FULL:
            raise
    else:
        os.unlink(probe)
