"""What `Lists` promises, over files and over the fake one; then what only files can get wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Digest, Repository
from nora.oci.errors import InvalidName, NoSpace
from nora.oci.listing import NO_REFERRERS, TagList, TagPage
from nora.storage import DiskLists, Layout
from nora.storage.interfaces import ListedReferrers, ListedTags, Lists, ListSource
from nora.storage.repositories import list_key
from tests.support.storage_fakes import FullDisk, ImmediateDisk, MemoryLists, temporary_folder

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object

APP = Repository("docker.io", "team/app")
NESTED = Repository("docker.io", "team/app/extra")
SUBJECT = Digest.of(b"subject")
LONG = Digest.of(b"subject", "sha512")
SOURCE = ListSource("hub", 1700000000.25)
TAGS = TagList.of(["1", "2", "10", "latest", "B"])


class ListsContract(_Base):
    """The suite."""

    lists: Lists

    def test_remove(self) -> None:
        """All lists of a repository go, once, and those of one with a longer name stay."""
        for place in (APP, NESTED):
            self.successResultOf(self.lists.put_tags(place, TAGS, SOURCE))
            for subject in (SUBJECT, LONG):
                self.successResultOf(self.lists.put_referrers(place, subject, NO_REFERRERS, SOURCE))
        self.assertTrue(self.successResultOf(self.lists.remove(APP)))
        self.assertIsNone(self.successResultOf(self.lists.tags(APP, b"", 10)))
        self.assertIsNone(self.successResultOf(self.lists.referrers(APP, SUBJECT)))
        self.assertFalse(self.successResultOf(self.lists.remove(APP)))
        self.assertIsNotNone(self.successResultOf(self.lists.tags(NESTED, b"", 10)))
        self.assertIsNotNone(self.successResultOf(self.lists.referrers(NESTED, LONG)))
        self.successResultOf(self.lists.put_tags(APP, TAGS, SOURCE))
        self.assertTrue(self.successResultOf(self.lists.remove(APP)))

    def test_absent(self) -> None:
        """What was never stored is None."""
        self.assertIsNone(self.successResultOf(self.lists.tags(APP, b"", 10)))
        self.assertIsNone(self.successResultOf(self.lists.referrers(APP, SUBJECT)))

    def test_tags(self) -> None:
        """Pages of a list come in byte order, with its source, and a new list replaces it."""
        self.successResultOf(self.lists.put_tags(APP, TAGS, SOURCE))
        for last, limit, tags, more in (
            (b"", 10, ("1", "10", "2", "B", "latest"), False),
            (b"", 2, ("1", "10"), True),
            (b"10", 2, ("2", "B"), True),
            (b"11", 3, ("2", "B", "latest"), False),
            (b"zzz", 3, (), False),
            (b"", 0, (), True),
        ):
            self.assertEqual(
                self.successResultOf(self.lists.tags(APP, last, limit)),
                ListedTags(TagPage(tags, more), SOURCE),
            )
        later = ListSource("other", 5.0)
        self.successResultOf(self.lists.put_tags(APP, TagList.of([]), later))
        self.assertEqual(
            self.successResultOf(self.lists.tags(APP, b"", 10)), ListedTags(TagPage((), False), later)
        )

    def test_referrers(self) -> None:
        """An index comes back byte for byte, for its subject in its repository alone."""
        self.successResultOf(self.lists.put_referrers(APP, SUBJECT, NO_REFERRERS, SOURCE))
        self.assertEqual(
            self.successResultOf(self.lists.referrers(APP, SUBJECT)), ListedReferrers(NO_REFERRERS, SOURCE)
        )
        self.assertIsNone(self.successResultOf(self.lists.referrers(APP, LONG)))
        self.assertIsNone(self.successResultOf(self.lists.referrers(NESTED, SUBJECT)))
        self.assertIsNone(self.successResultOf(self.lists.tags(APP, b"", 10)))

    def test_larger_than_a_record(self) -> None:
        """A list has room for far more than a record."""
        many = TagList.of(f"v{number:07}" for number in range(100_000))
        self.successResultOf(self.lists.put_tags(APP, many, SOURCE))
        listed = self.successResultOf(self.lists.tags(APP, b"v0054320", 2))
        assert listed is not None
        self.assertEqual(listed.page, TagPage(("v0054321", "v0054322"), True))

    def test_names_that_could_leave_their_place(self) -> None:
        """A name outside its grammar never becomes a path."""
        for repository in (Repository("..", "a"), Repository("docker.io", "../a")):
            self.failureResultOf(self.lists.tags(repository, b"", 1), InvalidName)
            self.failureResultOf(self.lists.put_tags(repository, TAGS, SOURCE), InvalidName)
            self.failureResultOf(self.lists.referrers(repository, SUBJECT), InvalidName)
            self.failureResultOf(
                self.lists.put_referrers(repository, SUBJECT, NO_REFERRERS, SOURCE), InvalidName
            )


class MemoryListsTests(ListsContract, SynchronousTestCase):
    """The fake."""

    def setUp(self) -> None:
        self.lists = MemoryLists()


class DiskListsTests(ListsContract, SynchronousTestCase):
    """The real ones."""

    def setUp(self) -> None:
        self.layout = Layout(temporary_folder(self))
        self.layout.prepare()
        self.lists = DiskLists(self.layout, ImmediateDisk())

    def test_malformed(self) -> None:
        """A file that is not whole, or not what it should be, is no list: never a part of one."""
        self.successResultOf(self.lists.put_tags(APP, TAGS, SOURCE))
        path = Path(self.layout.record(list_key(APP, None)))
        whole = path.read_bytes()
        head, body = whole.split(b"\n", 1)
        for data in (
            b"",
            whole[:-1],
            whole + b"x\n",
            head,
            b"null\n" + body,
            b"[" * 2000 + b"\n",
            head.replace(b'"hub"', b"7") + b"\n" + body,
            head.replace(b"1700000000.25", b"1e999") + b"\n" + body,
            head.replace(b"1700000000.25", b'"then"') + b"\n" + body,
            head.replace(b'"size":', b'"length":') + b"\n" + body,
            head.replace(b'"size":16', b'"size":"18"') + b"\n" + body,
            head.replace(b'"size":16', b'"size":3') + b"\n1\n2",
        ):
            path.write_bytes(data)
            self.assertIsNone(self.successResultOf(self.lists.tags(APP, b"", 9)), data[:60])
        path.write_bytes(whole)
        self.assertIsNotNone(self.successResultOf(self.lists.tags(APP, b"", 9)))

    def test_not_a_file(self) -> None:
        """What is no regular file, or larger than any list, is no list."""
        path = Path(self.layout.record(list_key(APP, None)))
        path.parent.mkdir(parents=True)
        os.mkfifo(path)
        self.assertIsNone(self.successResultOf(self.lists.tags(APP, b"", 9)))
        path.unlink()
        with path.open("wb") as file:
            file.truncate(1 << 30)
        self.assertIsNone(self.successResultOf(self.lists.tags(APP, b"", 9)))

    def test_full_disk(self) -> None:
        """A full disk is `NoSpace`, and the list that was there stays."""
        self.successResultOf(self.lists.put_tags(APP, TAGS, SOURCE))
        full = DiskLists(self.layout, FullDisk())
        self.failureResultOf(full.put_tags(APP, TagList.of([]), SOURCE), NoSpace)
        self.assertIsNotNone(self.successResultOf(self.lists.tags(APP, b"", 9)))
