"""The place of a process among those that serve one store: alone, or one worker of several."""

from __future__ import annotations

import math
import os

import attrs


@attrs.frozen
class Place:
    """Which worker this process is, and what its parent made for all of them. The default is a process alone."""

    number: int = 1
    """Counted from 1; a worker that is started again keeps it."""
    workers: int = 1
    pseudonym: str = ""
    """The name in `Via` that all workers have in common; empty for a process alone, which makes one."""
    started_at: float = 0.0
    """When the parent began, in seconds since the epoch; 0 for a process alone."""
    directory: str = ""
    """Where the workers see each other's metrics and health."""
    lock: int = -1
    """The descriptor of the store's lock, which the parent took."""
    again: bool = False
    """An earlier process in this place has died."""

    @property
    def shared(self) -> bool:
        """There is a parent, which has prepared the store."""
        return self.workers > 1

    def share(self, most: int) -> int:
        """Tell this process's part of a bound for all of them, rounded up."""
        return -(-most // self.workers)


def usable_cores(root: str = "/sys/fs/cgroup") -> int:
    """Tell how many processor cores this process may use, by its affinity and by the limit of its container.

    `root` is where a control group sees its own files (cgroup v2, "cpu.max"); on a machine without containers there
    is none there, and the affinity counts alone.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        with open(f"{root}/cpu.max", encoding="ascii") as file:
            quota, period = file.read(64).split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # ValueError: "max", which is no limit
        return cores
