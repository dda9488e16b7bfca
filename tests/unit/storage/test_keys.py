"""The key of tokens in the store."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from nora.storage import keys
from nora.storage.keys import read_or_make
from nora.storage.layout import StoreError
from tests.support.storage_fakes import temporary_folder


class KeyTests(SynchronousTestCase):
    """`read_or_make`."""

    def setUp(self) -> None:
        self.folder = Path(temporary_folder(self))
        self.path = self.folder / "token.key"

    def key(self) -> bytes:
        return read_or_make(str(self.path), str(self.folder / "temporary"))

    def test_made_once(self) -> None:
        """The first start makes 32 bytes that only the owner reads; every later one gets the same."""
        key = self.key()
        self.assertEqual(len(key), 32)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(self.key(), key)
        self.assertEqual(os.listdir(self.folder), ["token.key"])

    def test_two_at_once(self) -> None:
        """Who finds that another process made it meanwhile takes that one."""
        make = keys._make

        def late(path: str, temporary: str) -> None:
            self.path.write_bytes(b"o" * 32)
            self.path.chmod(0o600)
            make(path, temporary)

        self.patch(keys, "_make", late)
        self.assertEqual(self.key(), b"o" * 32)
        self.assertEqual(os.listdir(self.folder), ["token.key"])

    def test_unusable(self) -> None:
        """A key of another length, one that others may read, a link and a folder are refused, and left as they are."""
        self.path.write_bytes(b"short")
        self.path.chmod(0o600)
        self.assertIn("32 bytes", str(self.assertRaises(StoreError, self.key)))
        self.path.write_bytes(b"k" * 32)
        self.path.chmod(0o640)
        self.assertIn("chmod 600", str(self.assertRaises(StoreError, self.key)))
        self.path.rename(self.folder / "elsewhere")
        self.path.symlink_to(self.folder / "elsewhere")
        self.assertRaises(StoreError, self.key)
        self.path.unlink()
        self.path.mkdir()
        self.assertRaises(StoreError, self.key)
