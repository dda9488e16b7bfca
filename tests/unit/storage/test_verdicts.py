"""What is remembered of the tags of repositories: under which stamps, and how much of it."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Repository
from nora.storage import Layout
from nora.storage.repositories import tags_key
from nora.storage.verdicts import Verdicts
from tests.support.storage_fakes import temporary_folder

A, B = Repository("local", "a"), Repository("local", "b")
SECOND = 1_000_000_000


class VerdictsTests(SynchronousTestCase):
    """Verdicts about two repositories whose folders changed a second ago."""

    def setUp(self) -> None:
        self.layout = Layout(temporary_folder(self))
        self.verdicts = Verdicts(self.layout, most=4, now_ns=lambda: 2 * SECOND)
        for repository in (A, B):
            os.makedirs(self.folder(repository))
            self.change(repository, SECOND)

    def folder(self, repository: Repository) -> str:
        """Tell where its tags are."""
        return self.layout.record(tags_key(repository))

    def change(self, repository: Repository, at: int) -> None:
        """Let its folder of tags have changed `at` that time."""
        os.utime(self.folder(repository), ns=(at, at))

    def tell(self, repository: Repository, *tags: str, live: str = "") -> None:
        """Let `tags` have been looked at; those in `live` count."""
        self.verdicts.add(repository, self.verdicts.of(repository), tags, dict.fromkeys(live))

    def test_kept(self) -> None:
        """Verdicts stay, and add up, until the folder changes."""
        self.tell(A, "1", "2", live="1")
        self.tell(A, "3", live="3")
        self.assertEqual(self.verdicts.of(A).counts, {"1": True, "2": False, "3": True})
        self.change(A, SECOND + 1)
        self.assertEqual(self.verdicts.of(A).counts, {})

    def test_changed_while_looking(self) -> None:
        """What was seen before a change is not taken for what was seen after it."""
        before = self.verdicts.of(A)
        self.verdicts.add(A, before, ["1"], {"1": None})
        self.change(A, SECOND + 1)
        after = self.verdicts.of(A)
        self.verdicts.add(A, before, ["2"], {"2": None})
        self.assertEqual(self.verdicts.of(A).counts, {})
        self.verdicts.add(A, after, ["3"], {})
        self.assertEqual(self.verdicts.of(A).counts, {"3": False})

    def test_changed_just_now(self) -> None:
        """Under the stamp of a moment ago, which the next change may have too, nothing is kept."""
        self.change(A, 2 * SECOND - 1)
        self.tell(A, "1", live="1")
        self.assertEqual(self.verdicts.of(A).counts, {})

    def test_bounded(self) -> None:
        """The repository that was asked for longest ago goes first, and what is too much is not kept."""
        self.tell(A, "1", "2", "3")
        self.tell(B, "1", "2")
        self.assertEqual((len(self.verdicts.of(A).counts), len(self.verdicts.of(B).counts)), (0, 2))
        self.tell(B, "3", "4", "5")
        self.assertEqual(len(self.verdicts.of(B).counts), 2)
        self.tell(A, "1", "2")
        self.assertEqual((len(self.verdicts.of(A).counts), len(self.verdicts.of(B).counts)), (2, 2))

    def test_two_at_once(self) -> None:
        """Of two that began to look at the same time, one is remembered."""
        first, second = self.verdicts.of(A), self.verdicts.of(A)
        self.verdicts.add(A, first, ["1"], {"1": None})
        self.verdicts.add(A, second, ["2"], {"2": None})
        self.assertEqual(self.verdicts.of(A).counts, {"1": True})
