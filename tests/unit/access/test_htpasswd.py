"""The htpasswd file."""

from __future__ import annotations

import os
from pathlib import Path

import bcrypt
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.access import htpasswd
from nora.access.htpasswd import BadHtpasswd, parse, read, stamp

HASH = "$2y$04$" + "a" * 53


class ParseTests(SynchronousTestCase):
    """`parse`."""

    def test_users(self) -> None:
        """Users, comments, empty lines and the line ends of other systems are read."""
        users = parse(f"# us\n\nalice:{HASH}\r\n bob:{HASH.replace('2y', '2b')} \nzoë:{HASH}")
        self.assertEqual(list(users.hashes), ["alice", "bob", "zoë"])
        self.assertEqual(users.hashes["alice"], HASH.encode())
        self.assertNotIn("$2y$", repr(users))

    def test_refused(self) -> None:
        """What cannot be used is told with its line, and without what is in it."""
        for entry, reason in (
            ("alice", "user:bcrypt"),
            ("alice:$apr1$abc$def", "bcrypt"),
            ("alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "bcrypt"),
            ("alice:plain-secret", "bcrypt"),
            (f"alice:{HASH}x", "bcrypt"),
            (f":{HASH}", "user"),
            (f"anonymous:{HASH}", "user"),
            (f"everyone:{HASH}", "user"),
            (f"*:{HASH}", "user"),
            (f"a\tb:{HASH}", "user"),
            (f"{'a' * 129}:{HASH}", "user"),
            (f"first:{HASH}", "twice"),
            (f"alice:{HASH.replace('$04$', '$31$')}", "cost"),
        ):
            error = self.assertRaises(BadHtpasswd, parse, f"first:{HASH}\n{entry}\n")
            self.assertRegex(str(error), f"^line 2: .*{reason}")
            self.assertNotIn("plain-secret", str(error))

    @given(st.text())
    def test_anything(self, text: str) -> None:
        """Whatever the file holds is users or `BadHtpasswd`."""
        try:
            users = parse(text)
        except BadHtpasswd:
            return
        self.assertTrue(all(map(htpasswd.is_user, users.hashes)))

    def test_nobody(self) -> None:
        """Who is not there is checked at the cost that most have, and no password fits."""
        users = parse(f"a:{HASH}\nb:{HASH}\nc:{HASH.replace('$04$', '$05$')}")
        self.assertTrue(users.nobody.startswith(b"$2b$04$"))
        self.assertFalse(bcrypt.checkpw(b"", users.nobody))
        self.assertTrue(parse("").nobody.startswith(b"$2b$10$"))


class ReadTests(SynchronousTestCase):
    """`read` and `stamp`."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def test_read(self) -> None:
        """A file is read, and its stamp changes with it."""
        self.path.write_text(f"a:{HASH}\n")
        before = stamp(str(self.path))
        self.assertEqual(list(read(str(self.path)).hashes), ["a"])
        self.path.write_text(f"a:{HASH}\nb:{HASH}\n")
        self.assertNotEqual(stamp(str(self.path)), before)

    def test_unreadable(self) -> None:
        """What is missing, no file, too long or no text says so."""
        path = str(self.path)
        self.assertIn("cannot be read", str(self.assertRaises(BadHtpasswd, read, path)))
        self.assertIsInstance(stamp(path), int)
        os.mkfifo(path)
        self.assertIn("regular", str(self.assertRaises(BadHtpasswd, read, path)))
        self.path.unlink()
        self.path.write_bytes(b"#" * (htpasswd.MAX_FILE + 1))
        self.assertIn("at most", str(self.assertRaises(BadHtpasswd, read, path)))
        self.path.write_bytes(b"\n\xff")
        self.assertIn("line 2: is not UTF-8", str(self.assertRaises(BadHtpasswd, read, path)))
