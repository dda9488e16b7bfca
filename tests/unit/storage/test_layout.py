"""The layout: paths, and what may hold a store."""

from __future__ import annotations

import errno
import os

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Digest
from nora.storage import Layout, StoreError
from tests.support.storage_fakes import temporary_folder

SHORT, LONG = Digest.of(b"x"), Digest.of(b"x", "sha512")


class PathTests(SynchronousTestCase):
    """Where things are."""

    def test_paths(self) -> None:
        """Each thing has the path that the architecture gives it."""
        layout = Layout("/s")
        self.assertEqual(layout.blob(SHORT), f"/s/blobs/sha256/{SHORT.hex[:2]}/{SHORT.hex}")
        self.assertEqual(layout.blob(LONG), f"/s/blobs/sha512/{LONG.hex[:2]}/{LONG.hex}")
        self.assertEqual(layout.part(SHORT), f"/s/fills/sha256-{SHORT.hex}.part")
        self.assertEqual(layout.sidecar(SHORT), f"/s/fills/sha256-{SHORT.hex}.json")
        self.assertEqual(layout.quarantine(SHORT), f"/s/quarantine/sha256-{SHORT.hex}")
        self.assertEqual(layout.record("names/a/b/_owner"), "/s/names/a/b/_owner")
        self.assertEqual(
            [layout.fills, layout.uploads, layout.locks, layout.index, layout.daemon_lock],
            ["/s/fills", "/s/uploads", "/s/locks", "/s/index.sqlite", "/s/daemon.lock"],
        )

    def test_temporary_names_differ(self) -> None:
        """No two temporary names are alike."""
        layout = Layout("/s")
        names = {layout.temporary() for _ in range(100)}
        self.assertEqual(len(names), 100)
        self.assertEqual({os.path.dirname(name) for name in names}, {layout.tmp})

    @given(
        st.one_of(
            st.text(), st.lists(st.sampled_from(["..", ".", "", "a", "_tags", "...", "\0"])).map("/".join)
        )
    )
    def test_records_stay_in_their_place(self, rest: str) -> None:
        """Whatever a key holds, its path is below the folder it names, or it is refused."""
        layout = Layout("/s")
        for folder in ("names", "repositories"):
            try:
                path = layout.record(f"{folder}/{rest}")
            except ValueError:
                continue
            self.assertEqual(os.path.normpath(path), path)
            self.assertTrue(path.startswith(f"/s/{folder}/"))
            self.assertNotIn("\0", path)


class PrepareTests(SynchronousTestCase):
    """Making a store, and refusing what cannot be one."""

    def setUp(self) -> None:
        self.folder = temporary_folder(self)
        self.layout = Layout(f"{self.folder}/x/store")

    def refused(self) -> StoreError:
        error: StoreError = self.assertRaises(StoreError, self.layout.prepare)
        return error

    def test_made(self) -> None:
        """A missing store is made, for its user alone, and left as it is the next time."""
        self.layout.prepare()
        self.assertEqual(os.stat(self.layout.root).st_mode & 0o777, 0o700)
        self.assertEqual(
            sorted(os.listdir(self.layout.root)),
            ["blobs", "fills", "names", "quarantine", "repositories", "tmp", "uploads"],
        )
        os.chmod(self.layout.root, 0o750)
        self.layout.prepare()
        self.assertEqual(os.stat(self.layout.root).st_mode & 0o777, 0o750)
        self.assertEqual(os.listdir(self.layout.tmp), [])

    def test_no_folder(self) -> None:
        """A file in the place of the store, or of a folder in it, is named."""
        os.mkdir(f"{self.folder}/x")
        with open(self.layout.root, "w"):
            pass
        self.assertEqual(
            (self.refused().path, self.refused().reason), (self.layout.root, "is not a directory")
        )
        os.unlink(self.layout.root)
        os.mkdir(self.layout.root)
        with open(self.layout.fills, "w"):
            pass
        self.assertIn(self.layout.fills, str(self.refused()))

    def test_cannot_be_written(self) -> None:
        """A store that cannot be written is refused, with its path and the system's reason."""
        original = os.open

        def read_only(path: str, flags: int, mode: int = 0o777) -> int:
            if "/fills/" in path:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return original(path, flags, mode)

        self.patch(os, "open", read_only)
        error = self.refused()
        self.assertIsInstance(error, OSError)
        self.assertEqual(error.path, self.layout.fills)
        self.assertIn(os.strerror(errno.EROFS), str(error))

    def test_cannot_be_made(self) -> None:
        """A place where nothing can be made is refused."""
        error = self.assertRaises(StoreError, Layout("/proc/nora/store").prepare)
        self.assertIn("/proc/nora/store", error.path)

    def test_full_disk(self) -> None:
        """A full disk keeps no store from starting: what it has can be served."""
        self.layout.prepare()

        def full(path: str, flags: int, mode: int = 0o777) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.patch(os, "open", full)
        self.layout.prepare()

    def test_other_file_system(self) -> None:
        """A folder that lies elsewhere is refused: publishing by rename would fail."""
        if os.stat("/dev/shm").st_dev == os.stat(self.folder).st_dev:
            self.skipTest("needs two file systems")
        os.makedirs(self.layout.root)
        os.symlink("/dev/shm", self.layout.fills)
        error = self.refused()
        self.assertEqual(error.path, self.layout.fills)
        self.assertIn("another file system", error.reason)

    def test_temporary_files_of_an_earlier_process(self) -> None:
        """What is left under `tmp` is cleared, so many at a time, and nothing else is touched."""
        self.layout.prepare()
        for _ in range(5):
            with open(self.layout.temporary(), "w"):
                pass
        os.mkdir(f"{self.layout.tmp}/folder")
        os.symlink(self.layout.fills, f"{self.layout.tmp}/link")
        self.assertEqual([self.layout.clear_temporaries(4), self.layout.clear_temporaries()], [4, 2])
        self.assertEqual(os.listdir(self.layout.tmp), ["folder"])
        self.assertTrue(os.path.isdir(self.layout.fills))
