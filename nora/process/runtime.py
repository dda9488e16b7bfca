"""The directory in which the workers of a store see each other's metrics and health, while they run.

Metrics are files that the workers map into memory. On a file system that is full, a write to such a file kills the
process (SIGBUS), and the store's is one that may fill up: so the directory is where systemd says, else in memory, else
where temporary files go, and in the store itself only when all of these are closed to us.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping

from nora.process.crew import state_path


def make_runtime(store: str, environ: Mapping[str, str]) -> str:
    """Make the directory for the store at that path, empty, readable by this user alone; gives its path.

    It is always the same one, so that what a parent left that was killed goes with the next start. The caller has the
    store's lock. Raises `OSError` when there is no place at all.
    """
    name = f"nora-{os.geteuid()}-{hashlib.sha256(os.fsencode(store)).hexdigest()[:16]}"
    named = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    for base in (named, "/dev/shm", tempfile.gettempdir()):  # noqa: S108  (what is there is checked)
        if os.path.isabs(base):
            with contextlib.suppress(OSError):
                return _make(f"{base}/{name}")
    return _make(f"{store}/run")


def _make(path: str) -> str:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{path} is not ours")
    os.chmod(path, 0o700)
    clear(path)
    probe = f"{path}/.writable"
    os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    os.unlink(probe)
    return path


def clear(directory: str) -> None:
    """Unlink every file in it."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)


def forget(directory: str, number: int) -> None:
    """Remove what worker `number`, which is dead, said of the present. What it counted stays counted."""
    for path in (
        *glob.glob(f"{glob.escape(directory)}/gauge_live*_{number}.db"),
        state_path(directory, number),
    ):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def remove(directory: str) -> None:
    """Remove the directory; what cannot be removed is left for the next start."""
    with contextlib.suppress(OSError):
        clear(directory)
        os.rmdir(directory)
