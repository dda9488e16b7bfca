"""The real records: malformed documents, and what is on the disk."""

from __future__ import annotations

import errno
import os
from typing import Any, cast

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from nora.oci.errors import NoSpace
from nora.storage import DiskRecords, Layout
from tests.support.storage_fakes import FullDisk, ImmediateDisk, temporary_folder

KEY = "repositories/docker.io/library/nginx/_tags/latest"


class DiskRecordsTests(SynchronousTestCase):
    """On a real folder."""

    def setUp(self) -> None:
        self.layout = Layout(temporary_folder(self))
        self.layout.prepare()
        self.records = DiskRecords(self.layout, ImmediateDisk())
        self.path = self.layout.record(KEY)
        os.makedirs(os.path.dirname(self.path))
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def logged(self) -> int:
        return len([event for event in self.events if event.get("key") == KEY])

    def get(self) -> Any:
        return self.successResultOf(self.records.get(KEY))

    def test_malformed_is_none(self) -> None:
        """What is no JSON object of a sane size is no record; a put makes it one."""
        for content in (
            b"",
            b"{",
            b"[]",
            b"1",
            b"null",
            b"\xff\xfe\x00",
            b"[" * 60_000,
            b'{"a":' * 10_000,
            b'{"a": "' + b"x" * 70_000 + b'"}',
            b'{"a": ' + b"9" * 5000 + b"}",
        ):
            with open(self.path, "wb") as file:
                file.write(content)
            self.assertIsNone(self.get(), content[:20])
        self.successResultOf(self.records.put(KEY, {"a": 1}))
        self.assertEqual(self.get().value, {"a": 1})

    def test_logged_once(self) -> None:
        """A record that is ignored is told of once, however often it is asked for."""
        with open(self.path, "wb") as file:
            file.write(b"no")
        for _ in range(3):
            self.get()
        self.assertEqual(self.logged(), 1)

    def test_not_a_regular_file(self) -> None:
        """A link, a pipe or a folder is no record; the one a link points at is not read."""
        os.symlink("/etc/hostname", self.path)
        self.assertIsNone(self.get())
        os.unlink(self.path)
        os.mkfifo(self.path)
        self.assertIsNone(self.get())
        os.unlink(self.path)
        os.mkdir(self.path)
        self.assertIsNone(self.get())

    def test_put_replaces_a_link(self) -> None:
        """A put replaces a link, and writes nothing to where it points."""
        target = os.path.join(self.layout.root, "target")
        with open(target, "w", encoding="ascii") as file:
            file.write("untouched")
        os.symlink(target, self.path)
        self.successResultOf(self.records.put(KEY, {"a": 1}))
        self.assertEqual(self.get().value, {"a": 1})
        with open(target, encoding="ascii") as file:
            self.assertEqual(file.read(), "untouched")

    def test_below_a_file(self) -> None:
        """A key below what is a file is absent, not an error."""
        self.successResultOf(self.records.put(KEY, {}))
        below = f"{KEY}/below"
        self.assertIsNone(self.successResultOf(self.records.get(below)))
        self.assertIsNone(self.records.stamp(below))
        self.assertFalse(self.successResultOf(self.records.remove(below)))

    def test_errors_of_the_disk_are_raised(self) -> None:
        """A record that is there and cannot be read is not taken for a missing one."""
        self.successResultOf(self.records.put(KEY, {}))

        def fails(path: str, flags: int) -> int:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        self.patch(os, "open", fails)
        error = self.failureResultOf(self.records.get(KEY), OSError)
        self.assertEqual(error.value.errno, errno.EMFILE)

    def test_no_space(self) -> None:
        """A put on a full disk fails, and the record is the old one."""
        self.successResultOf(self.records.put(KEY, {"a": 1}))
        self.failureResultOf(DiskRecords(self.layout, FullDisk()).put(KEY, {"a": 2}), NoSpace)
        self.assertEqual(self.get().value, {"a": 1})

    def test_syncs_only_when_asked(self) -> None:
        """A put that needs not survive a crash costs no fsync; any other one does."""
        syncs: list[int] = []
        fsync = os.fsync

        def spy(descriptor: int) -> None:
            syncs.append(descriptor)
            fsync(descriptor)

        self.patch(os, "fsync", spy)
        self.successResultOf(self.records.put(KEY, {}, durable=False))
        self.assertEqual(syncs, [])
        self.successResultOf(self.records.put(KEY, {}))
        self.assertEqual(len(syncs), 2)

    def test_reports_are_bounded(self) -> None:
        """Remembering what was told of takes no memory without end."""
        for number in range(1005):
            key = f"names/a{number}/_owner"
            os.makedirs(self.layout.record(key))
            self.assertIsNone(self.successResultOf(self.records.get(key)))
        self.assertLessEqual(len(self.records._reported), 1000)
