"""What every `Index` promises, told to the real one, before and after it has written, and to the fake."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Descriptor, Digest, Repository
from nora.storage import SqliteIndex
from nora.storage.interfaces import Index, Totals
from tests.support.storage_fakes import ImmediateDisk, MemoryIndex, temporary_folder

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object

DIGESTS = [Digest.of(bytes([n])) for n in range(4)]
LOCAL_ONE = Repository("local", "zoo/nginx")
ONE, OTHER = Repository("docker.io", "library/nginx"), Repository("ghcr.io", "library/nginx")


def descriptors(*sizes: int) -> list[Descriptor]:
    return [Descriptor("x/y", digest, size) for digest, size in zip(DIGESTS, sizes, strict=False)]


class IndexContract(_Base):
    """The suite. `settle` lets happen what happens by itself between telling and asking."""

    index: Index

    def make(self) -> Index:
        raise NotImplementedError

    def settle(self) -> None:
        """Nothing happens."""

    def setUp(self) -> None:
        self.index = self.make()

    def totals(self) -> Totals:
        self.settle()
        totals: Totals = self.successResultOf(self.index.totals())
        return totals

    def listed(self, repository: Repository, digest: Digest) -> int | None:
        self.settle()
        size: int | None = self.successResultOf(self.index.listed_size(repository, digest))
        return size

    def test_empty(self) -> None:
        """A new index knows of nothing."""
        self.assertEqual(self.totals(), Totals(0, 0))
        self.assertIsNone(self.listed(ONE, DIGESTS[0]))

    def test_stored(self) -> None:
        """Blobs count once, however often they are told, and with the size told last."""
        self.index.stored(DIGESTS[0], 10)
        self.assertEqual(self.totals(), Totals(1, 10))
        self.index.stored(DIGESTS[0], 10)
        self.index.stored(DIGESTS[1], 5)
        self.assertEqual(self.totals(), Totals(2, 15))
        self.index.stored(DIGESTS[1], 7)
        self.assertEqual(self.totals(), Totals(2, 17))

    def test_removed(self) -> None:
        """A removed blob no longer counts, until it is stored again; one that was not there changes nothing."""
        self.index.stored(DIGESTS[0], 10)
        self.index.stored(DIGESTS[1], 5)
        self.index.removed(DIGESTS[0])
        self.index.removed(DIGESTS[2])
        self.assertEqual(self.totals(), Totals(1, 5))
        self.index.removed(DIGESTS[1])
        self.assertEqual(self.totals(), Totals(0, 0))
        self.index.stored(DIGESTS[0], 3)
        self.assertEqual(self.totals(), Totals(1, 3))

    def test_used(self) -> None:
        """Telling of uses, of blobs known and unknown, changes no count."""
        self.index.stored(DIGESTS[0], 10)
        for digest in (*DIGESTS, *DIGESTS):
            self.index.used(digest)
        self.assertEqual(self.totals(), Totals(1, 10))

    def test_listed(self) -> None:
        """What a manifest lists is known, for its repository alone; sizes of 0 too."""
        self.index.listed(ONE, descriptors(10, 0))
        self.assertEqual([self.listed(ONE, digest) for digest in DIGESTS], [10, 0, None, None])
        self.assertEqual([self.listed(OTHER, digest) for digest in DIGESTS], [None] * 4)
        self.assertEqual(self.totals(), Totals(0, 0))

    def test_listed_again(self) -> None:
        """Manifests add to what is listed; what was told last counts."""
        self.index.listed(ONE, descriptors(10, 20))
        self.settle()
        self.index.listed(ONE, descriptors(11))
        self.assertEqual([self.listed(ONE, digest) for digest in DIGESTS[:2]], [11, 20])

    def holders(self, digest: Digest, limit: int = 10) -> list[Repository]:
        self.settle()
        held: list[Repository] = self.successResultOf(self.index.holders(digest, limit))
        return held

    def test_holders(self) -> None:
        """Who may read a digest is known, hosted repositories first, and never more of them than were asked for."""
        for repository in (ONE, OTHER, LOCAL_ONE):
            self.index.linked(repository, DIGESTS[0])
            self.index.linked(repository, DIGESTS[0])
        self.index.linked(ONE, DIGESTS[1])
        self.assertEqual(self.holders(DIGESTS[0]), [LOCAL_ONE, ONE, OTHER])
        self.assertEqual(self.holders(DIGESTS[0], 2), [LOCAL_ONE, ONE])
        self.assertEqual(self.holders(DIGESTS[1]), [ONE])
        self.assertEqual(self.holders(DIGESTS[2]), [])

    def test_lost_rights(self) -> None:
        """A right that was lost is not told any more, until it is there again."""
        self.index.linked(ONE, DIGESTS[0])
        self.index.linked(OTHER, DIGESTS[0])
        self.settle()
        self.index.unlinked(ONE, DIGESTS[0])
        self.index.unlinked(ONE, DIGESTS[1])
        self.assertEqual(self.holders(DIGESTS[0]), [OTHER])
        self.index.linked(ONE, DIGESTS[0])
        self.assertEqual(self.holders(DIGESTS[0]), [ONE, OTHER])

    def repositories(self, last: str = "", limit: int = 9) -> list[Repository]:
        self.settle()
        found: list[Repository] = self.successResultOf(self.index.repositories(last, limit))
        return found

    def test_repositories(self) -> None:
        """Repositories come by their full names in byte order, in parts, until they have no manifest any more."""
        upper = Repository("local", "Z")
        for repository in (OTHER, LOCAL_ONE, ONE, upper, ONE):
            self.index.appeared(repository)
        self.assertEqual(self.repositories(), [upper, ONE, OTHER, LOCAL_ONE])
        self.assertEqual(self.repositories(limit=2), [upper, ONE])
        self.assertEqual(self.repositories("docker.io/library/nginx", 1), [OTHER])
        self.index.emptied(ONE)
        self.index.emptied(Repository("local", "never"))
        self.assertEqual(self.repositories(limit=2), [upper, OTHER])
        self.index.appeared(ONE)
        self.assertEqual(self.repositories("A", 9), [upper, ONE, OTHER, LOCAL_ONE])

    def test_flush(self) -> None:
        """Writing at once changes nothing of what is told, with something to write or without."""
        for _ in range(2):
            self.successResultOf(Deferred.fromCoroutine(self.index.flush()))
            self.index.appeared(ONE)
            self.assertEqual(self.repositories(), [ONE])

    # One suite for several implementations is what this file is for: an example of one may well serve another.
    @settings(max_examples=50, suppress_health_check=[HealthCheck.differing_executors])
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.sampled_from(DIGESTS), st.integers(0, 2**62 // 4)),
                st.tuples(st.sampled_from(DIGESTS), st.none()),
                st.none(),
            )
        )
    )
    def test_any_order(self, steps: list[tuple[Digest, int | None] | None]) -> None:
        """Totals are right after any sequence of words, with pauses (None) anywhere between them."""
        index, known = self.make(), dict[Digest, int]()
        self.index = index
        for step in steps:
            if step is None:
                self.settle()
            elif step[1] is None:
                index.removed(step[0])
                known.pop(step[0], None)
            else:
                index.stored(step[0], step[1])
                known[step[0]] = step[1]
        self.assertEqual(self.successResultOf(index.totals()), Totals(len(known), sum(known.values())))
        self.assertEqual(self.totals(), Totals(len(known), sum(known.values())))


class MemoryIndexTests(IndexContract, SynchronousTestCase):
    """The fake."""

    def make(self) -> Index:
        return MemoryIndex()


class UnwrittenIndexTests(IndexContract, SynchronousTestCase):
    """The real index, asked before it has written anything."""

    def make(self) -> Index:
        self.clock = Clock()
        path = os.path.join(temporary_folder(self), "index.sqlite")
        index = SqliteIndex(path, self.clock, ImmediateDisk(), ImmediateDisk())
        self.successResultOf(index.start())
        self.addCleanup(lambda: self.successResultOf(index.stop()))
        return index


class WrittenIndexTests(UnwrittenIndexTests):
    """The real index, asked when all is written."""

    def settle(self) -> None:
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
