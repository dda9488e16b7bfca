"""What of a file is in memory: told of real files, and by kernels that are played."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from nora.storage.residence import STEP, Residence, bring
from tests.support.storage_fakes import temporary_folder


class Kernel:
    """Has some pages in memory."""

    def __init__(self, resident: set[int], error: int = errno.EAGAIN) -> None:
        self.resident = resident
        self.error = error
        self.asked: list[int] = []

    def preadv(self, _: int, buffers: Sequence[bytearray], offset: int, flags: int) -> int:
        """Give a byte of what is in memory, without waiting."""
        assert flags == os.RWF_NOWAIT
        assert len(buffers[0]) == 1
        self.asked.append(offset)
        if offset not in self.resident:
            raise OSError(self.error, os.strerror(self.error))
        return 1


class EdgeTests(SynchronousTestCase):
    """How far memory goes."""

    def edge(self, kernel: Kernel, start: int, stop: int, mounts: str = "") -> int:
        """Ask how far; the file is on the device of this test's folder."""
        folder = Path(temporary_folder(self))
        (folder / "mountinfo").write_text(mounts)
        descriptor = os.open(folder, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        with mock.patch("os.preadv", kernel.preadv):
            residence = Residence(str(folder / "mountinfo"))
            first = residence.edge(descriptor, start, stop)
            self.assertEqual(residence.edge(descriptor, start, stop), first)
        return first

    def test_last_bytes(self) -> None:
        """The last byte of each step is looked at, and the last one of all."""
        kernel = Kernel({7 + STEP - 1, 7 + 2 * STEP - 1, 7 + 2 * STEP + 9})
        self.assertEqual(self.edge(kernel, 7, 7 + 2 * STEP + 10), 7 + 2 * STEP + 10)
        self.assertEqual(kernel.asked[:3], [7 + STEP - 1, 7 + 2 * STEP - 1, 7 + 2 * STEP + 9])

    def test_gap(self) -> None:
        """It ends before the first step that is missing."""
        self.assertEqual(self.edge(Kernel({STEP - 1, 3 * STEP - 1}), 0, 3 * STEP), STEP)
        self.assertEqual(self.edge(Kernel(set()), 5, 6), 5)
        self.assertEqual(self.edge(Kernel(set()), 5, 5), 5)

    def test_who_cannot_tell(self) -> None:
        """Where nobody can tell, all is there on a file system that lives in memory, and nothing on another."""
        device = os.stat(temporary_folder(self)).st_dev
        name = f"{os.major(device)}:{os.minor(device)}"
        for kind, known in (("tmpfs", 100), ("ramfs", 100), ("nfs4", 0), ("fuse", 0)):
            mounts = f"22 1 0:999 / / rw - tmpfs x rw\n23 1 {name} / /x rw shared:1 - {kind} x rw\n"
            for error in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                self.assertEqual(self.edge(Kernel(set(), error), 0, 100, mounts), known)
        self.assertEqual(self.edge(Kernel(set(), errno.EOPNOTSUPP), 0, 100, "nonsense\n"), 0)

    def test_no_mounts(self) -> None:
        """Without a list of mounts nothing is believed to be in memory."""
        with mock.patch("os.preadv", Kernel(set(), errno.EOPNOTSUPP).preadv), open(__file__, "rb") as file:
            self.assertEqual(Residence("/nowhere").edge(file.fileno(), 0, 100), 0)

    def test_broken_file(self) -> None:
        """A file that cannot be read is left to whoever reads it: he is told why."""
        self.assertEqual(self.edge(Kernel(set(), errno.EIO), 0, 100), 100)


class RealTests(SynchronousTestCase):
    """A real file, here."""

    def test_dropped_and_brought(self) -> None:
        """What was dropped from memory is known to be gone, and what was brought is there; so is what has no end."""
        path = Path(temporary_folder(self)) / "file"
        path.write_bytes(os.urandom(8 * STEP))
        with path.open("rb") as file:
            descriptor = file.fileno()
            residence = Residence()
            self.assertEqual(residence.edge(descriptor, 0, 8 * STEP), 8 * STEP)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            # A look lets the kernel begin to read there, so only the first one tells.
            where = residence.edge(descriptor, 0, 8 * STEP)
            bring(descriptor, 0, 9 * STEP)
            self.assertEqual(residence.edge(descriptor, 0, 8 * STEP), 8 * STEP)
            self.assertEqual(residence.edge(descriptor, 8 * STEP, 9 * STEP), 9 * STEP)
        # The kernel may have kept some of it, and some file systems keep all files in memory.
        self.assertIn(where, range(0, 8 * STEP + 1, STEP))
