"""Durable changes: what is left by failures, and what is synced."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from nora.oci.errors import NoSpace
from nora.storage import durable
from tests.support.storage_fakes import temporary_folder


def failing(number: int) -> Callable[..., int]:
    def fail(*arguments: object, **named: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


class DurableTests(SynchronousTestCase):
    """The functions, on a real folder."""

    def setUp(self) -> None:
        self.folder = temporary_folder(self)
        self.path = f"{self.folder}/a/b/c"
        self.temporary = f"{self.folder}/temporary"

    def content(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def test_write_makes_what_is_missing(self) -> None:
        """A file is written into folders that are not there yet, and over an older one."""
        for data in (b"old", b"new content", b""):
            durable.write(self.path, data, self.temporary)
            self.assertEqual(self.content(self.path), data)
            self.assertEqual(os.listdir(self.folder), ["a"])

    def test_write_in_pieces(self) -> None:
        """A kernel that takes a few bytes at a time gets all of them."""
        write = os.write
        self.patch(os, "write", lambda descriptor, data: write(descriptor, bytes(data)[:3]))
        durable.write(self.path, b"0123456789", self.temporary)
        self.assertEqual(self.content(self.path), b"0123456789")

    def test_order_of_syncs(self) -> None:
        """The content is synced before the name is given, the folders that got a name after it."""
        events: list[tuple[str, str]] = []
        fsync, rename = os.fsync, os.rename

        def spy_fsync(descriptor: int) -> None:
            events.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
            fsync(descriptor)

        def spy_rename(source: str, target: str) -> None:
            rename(source, target)
            events.append(("rename", target))

        self.patch(os, "fsync", spy_fsync)
        self.patch(os, "rename", spy_rename)
        durable.write(self.path, b"x", self.temporary)
        self.assertEqual(
            events,
            [
                ("sync", self.temporary),
                ("sync", self.folder),
                ("sync", f"{self.folder}/a"),
                ("rename", self.path),
                ("sync", f"{self.folder}/a/b"),
            ],
        )
        events.clear()
        durable.write(self.path, b"y", self.temporary, sync=False)
        self.assertEqual(events, [("rename", self.path)])

    def test_move(self) -> None:
        """A moved file keeps its inode, has the mode, and was synced before."""
        with open(self.temporary, "wb") as file:
            file.write(b"x")
        inode = os.stat(self.temporary).st_ino
        durable.move(self.temporary, self.path, mode=0o444)
        found = os.stat(self.path)
        self.assertEqual((found.st_ino, found.st_mode & 0o777), (inode, 0o444))

    def test_full_disk_leaves_nothing(self) -> None:
        """Wherever the disk or a quota runs out, it is `NoSpace`, the old content stays, and no file is left."""
        durable.write(self.path, b"old", self.temporary)
        for number in (errno.ENOSPC, errno.EDQUOT):
            for function in ("open", "write", "fsync", "rename"):
                original = getattr(os, function)
                self.patch(os, function, failing(number))
                try:
                    self.assertRaises(NoSpace, durable.write, self.path, b"new", self.temporary)
                finally:
                    setattr(os, function, original)
                self.assertEqual(self.content(self.path), b"old")
                self.assertEqual(os.listdir(self.folder), ["a"])

    def test_full_disk_when_making_folders(self) -> None:
        """A folder that cannot be made for want of space is `NoSpace` too."""
        self.patch(os, "mkdir", failing(errno.ENOSPC))
        self.assertRaises(NoSpace, durable.write, self.path, b"new", self.temporary)
        self.assertEqual(os.listdir(self.folder), [])

    def test_other_failures_stay_what_they_are(self) -> None:
        """An error of the disk is not taken for a lack of space, and leaves nothing either."""
        self.patch(os, "fsync", failing(errno.EIO))
        error = self.assertRaises(OSError, durable.write, self.path, b"new", self.temporary)
        self.assertEqual(error.errno, errno.EIO)
        self.assertEqual(os.listdir(self.folder), [])

    def test_temporary_name_in_use(self) -> None:
        """A temporary file of another is neither overwritten nor removed."""
        with open(self.temporary, "wb") as file:
            file.write(b"another's")
        self.assertRaises(FileExistsError, durable.write, self.path, b"x", self.temporary)
        self.assertEqual(self.content(self.temporary), b"another's")

    def test_full_disk_keeps_the_moved_file(self) -> None:
        """A file that cannot be synced is not published, and not lost."""
        with open(self.temporary, "wb") as file:
            file.write(b"x")
        self.patch(os, "fsync", failing(errno.ENOSPC))
        self.assertRaises(NoSpace, durable.move, self.temporary, self.path, mode=0o444)
        self.assertEqual(self.content(self.temporary), b"x")
        self.assertFalse(os.path.exists(self.path))

    def test_move_of_a_link_is_refused(self) -> None:
        """A symbolic link is not published, wherever it points."""
        os.symlink("/etc/hostname", self.temporary)
        self.assertRaises(OSError, durable.move, self.temporary, self.path, mode=0o444)
        self.assertFalse(os.path.lexists(self.path))

    def test_remove(self) -> None:
        """Removing tells whether something was there, also below what is no folder."""
        durable.write(self.path, b"x", self.temporary)
        self.assertTrue(durable.remove(self.path))
        self.assertFalse(durable.remove(self.path))
        durable.write(f"{self.folder}/file", b"x", self.temporary)
        self.assertFalse(durable.remove(f"{self.folder}/file/below"))

    def test_set_aside(self) -> None:
        """What is set aside is moved, links and folders too, but not when another took its place."""
        aside = f"{self.folder}/quarantine/x"
        self.assertFalse(durable.set_aside(self.path, aside))
        self.assertFalse(durable.set_aside(self.path, aside, 1))
        durable.write(self.path, b"x", self.temporary)
        inode = os.stat(self.path).st_ino
        self.assertFalse(durable.set_aside(self.path, aside, inode + 1))
        self.assertTrue(durable.set_aside(self.path, aside, inode))
        self.assertEqual(self.content(aside), b"x")
        os.symlink("/etc/hostname", self.path)
        self.assertTrue(durable.set_aside(self.path, aside))
        self.assertTrue(os.path.islink(aside))

    def test_folder_on_its_way_is_a_file(self) -> None:
        """A file where a folder should be is an error, not an endless search."""
        durable.write(f"{self.folder}/a", b"x", self.temporary)
        self.assertRaises(NotADirectoryError, durable.write, self.path, b"x", self.temporary)
        self.assertEqual(os.listdir(self.folder), ["a"])

    def test_folders_made_meanwhile(self) -> None:
        """That another process makes the same folders at the same time is no error."""
        mkdir = os.mkdir

        def raced(path: str, mode: int = 0o777) -> None:
            mkdir(path, mode)
            mkdir(path, mode)

        self.patch(os, "mkdir", raced)
        durable.make_directories(f"{self.folder}/a/b/c")
        self.assertTrue(os.path.isdir(f"{self.folder}/a/b/c"))

    def test_depth_is_bounded(self) -> None:
        """Folders are not made without end."""
        self.assertRaises(FileNotFoundError, durable.make_directories, self.folder + "/a" * 300)
        self.assertEqual(os.listdir(self.folder), [])

    def test_write_out(self) -> None:
        """The disk is told to begin with the bytes that are named; what is wrong with that is left to the sync."""
        with open(self.temporary, "w+b") as file:
            file.write(bytes(100_000))
            file.flush()
            durable.write_out(file.fileno(), 0, 100_000)
            told: list[tuple[int, int, int]] = []

            def noted(descriptor: int, start: ctypes.c_int64, count: ctypes.c_int64, how: int) -> int:
                told.append((start.value, count.value, how))
                return -1

            self.patch(durable, "_sync_file_range", noted)
            durable.write_out(file.fileno(), 5_000_000_000, 10)
            self.assertEqual(told, [(5_000_000_000, 10, 2)])
            self.patch(durable, "_sync_file_range", None)
            durable.write_out(file.fileno(), 0, 10)
            self.assertEqual(len(told), 1)
