"""What of a file is in memory: asking without waiting, and bringing what is not.

`sendfile` and `read` on the reactor cost microseconds while the kernel has the pages, and as long as a disk takes when
it has not. `RWF_NOWAIT` tells the two apart. It sees only the pages asked for, so the last byte of each 4 MiB stands
for the others: pages come and go in runs. What is missed so costs one turn, not the whole file's time.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

STEP = 4 * 1024 * 1024
"""Bytes between two looks; each costs microseconds, which a GiB to one client feels."""
_READ = 1024 * 1024
"""Bytes read at a time."""
_UNKNOWN = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


class Residence:
    """Looks into files, and knows the file systems that cannot tell."""

    def __init__(self, mounts: str = "/proc/self/mountinfo") -> None:
        self._mounts = mounts
        self._silent: dict[int, bool] = {}
        """Devices whose file system does not know `RWF_NOWAIT`, with whether its files are always in memory."""
        self._byte = [bytearray(1)]

    def edge(self, descriptor: int, start: int, stop: int) -> int:
        """Tell the offset up to which the bytes from `start` can be had without waiting; at most `stop`.

        A file that is shorter, or that cannot be read, counts as being there: whoever reads it is told.
        """
        at = start
        while at < stop:
            end = min(stop, at + STEP)
            try:
                os.preadv(descriptor, self._byte, end - 1, os.RWF_NOWAIT)
            except BlockingIOError:
                return at
            except OSError as error:
                if error.errno in _UNKNOWN:
                    return stop if self._always(descriptor) else start
                return stop
            at = end
        return stop

    def _always(self, descriptor: int) -> bool:
        device = os.fstat(descriptor).st_dev
        if device not in self._silent:
            self._silent[device] = _file_system(self._mounts, device) in _IN_MEMORY
        return self._silent[device]


def bring(descriptor: int, start: int, stop: int) -> None:
    """Wait until the bytes from `start` up to `stop` are in memory, and let the disk go on with as many after them."""
    os.posix_fadvise(descriptor, start, 2 * (stop - start), os.POSIX_FADV_WILLNEED)
    while start < stop:
        count = len(os.pread(descriptor, min(_READ, stop - start), start))
        if not count:
            return
        start += count


def _file_system(mounts: str, device: int) -> str:
    """Find the name of the kind of file system that is on a device (proc(5), mountinfo); empty when it is not found."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path(mounts).read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [wanted]:
            return after.partition(" ")[0]
    return ""
