"""Fills at their edges: rights, a full disk, far ranges, several processes."""

from __future__ import annotations

import os

from twisted.internet.defer import Deferred

from nora.access import ANONYMOUS
from nora.oci import Descriptor, Digest, Repository
from nora.oci.errors import BlobUnknown, NoSpace, Unverified
from nora.pull.interfaces import Cached, Served
from nora.upstream.interfaces import Route
from tests.support.blob_case import RANDOM, BlobTestCase
from tests.support.pulling import MIB, NAME, qualified, unqualified
from tests.support.scripted import ScriptedUpstream


class RightsTests(BlobTestCase):
    """Knowing a digest is no right to read it."""

    def setUp(self) -> None:
        super().setUp()
        self.other = qualified([self.hub], "library/other")

    def test_stored_for_another(self) -> None:
        """A blob that is stored for one repository is unknown in another whose upstream has it not."""
        self.successResultOf(self.read(self.successResultOf(self.get())))
        self.failureResultOf(self.get(route=self.other), BlobUnknown)

    def test_nobody_to_ask(self) -> None:
        """A blob of a name without upstreams is unknown."""
        self.failureResultOf(self.get(route=Route("team/x", (), False)), BlobUnknown)

    def test_in_flight_for_another(self) -> None:
        """The same while it is being fetched."""
        self.hub.held = True
        self.successResultOf(self.get())
        self.failureResultOf(self.get(route=self.other), BlobUnknown)
        self.hub.transfers[0].release()

    def test_linked_after_confirmation(self) -> None:
        """Where the other's upstream has it too, a HEAD links it and no byte moves."""
        self.successResultOf(self.read(self.successResultOf(self.get())))
        self.hub.add_blob("library/other", RANDOM)
        served = self.successResultOf(self.get(route=self.other))
        self.assertEqual(self.successResultOf(self.read(served)), RANDOM)
        self.assertEqual((self.hub.asked_for("blob"), self.hub.asked_for("head blob")), (1, 1))
        self.successResultOf(self.get(route=self.other))
        self.assertEqual(self.hub.asked_for("head blob"), 1)

    def test_follows_after_confirmation(self) -> None:
        """In flight, too; and both repositories are linked at the end."""
        self.hub.add_blob("library/other", RANDOM)
        self.hub.held = True
        self.successResultOf(self.get())
        served = self.successResultOf(self.get(route=self.other))
        self.assertEqual((served.cached, served.repository.name), (Cached.FOLLOWED, "library/other"))
        self.hub.transfers[0].release()
        for name in (NAME, "library/other"):
            linked = self.here.repositories.blob(Repository("docker.io", name), self.digest)
            self.assertEqual(self.successResultOf(Deferred.fromCoroutine(linked)), len(RANDOM))

    def test_other_starts_its_own(self) -> None:
        """A repository whose fill fails for want of the blob does not fail another that has it."""
        self.hub.hung = Deferred()
        nobody = self.get(route=self.other)
        mine = self.get()
        self.hub.hung.callback(None)
        self.failureResultOf(nobody, BlobUnknown)
        self.assertEqual(self.successResultOf(self.read(self.successResultOf(mine))), RANDOM)

    def test_upstreams_in_order(self) -> None:
        """An unqualified name's blob is looked for at each upstream in order, and linked where it was found."""
        second = ScriptedUpstream("two", "ghcr.io")
        second.add_blob(NAME, RANDOM)
        self.hub.blobs.clear()
        served = self.successResultOf(self.get(route=unqualified([self.hub, second])))
        self.assertEqual((served.repository.namespace, served.upstream), ("ghcr.io", "two"))

    def test_head_moves_no_bytes(self) -> None:
        """HEAD asks upstream only for what a stored manifest lists."""

        def describe() -> Deferred[Served[int]]:
            return Deferred.fromCoroutine(self.here.pull.describe_blob(self.route, self.digest, ANONYMOUS))

        self.failureResultOf(describe(), BlobUnknown)
        self.assertEqual(self.hub.asked, [])
        self.here.index.listed(Repository("docker.io", NAME), [Descriptor("", self.digest, len(RANDOM))])
        self.assertEqual(self.successResultOf(describe()).content, len(RANDOM))
        self.assertEqual(self.hub.asked, [("head blob", NAME, self.digest, 0)])
        self.successResultOf(self.get())
        self.assertEqual(self.successResultOf(describe()).cached, Cached.HIT)


class SpaceTests(BlobTestCase):
    """A full disk costs the cache, not the clients."""

    def fill_up(self, after: int) -> None:
        """Let the part take no more than `after` bytes."""
        real = os.pwrite

        def pwrite(descriptor: int, data: bytes, offset: int) -> int:
            if offset + len(data) > after:
                if offset >= after:
                    raise OSError(28, "No space left on device")
                data = data[: after - offset]
            return real(descriptor, data, offset)

        self.patch(os, "pwrite", pwrite)

    def test_full_on_the_way(self) -> None:
        """Followers go on with transfers of their own, verified; nothing is left behind."""
        self.fill_up(MIB + 7)
        self.hub.held = True
        served = [self.successResultOf(self.get()) for _ in range(3)]
        reading = [
            self.read(served[0]),
            self.read(served[1], 100),
            self.read(served[2], 2 * MIB, 2 * MIB + 9),
        ]
        self.hub.held = False
        self.hub.transfers[0].release()
        self.assertEqual(self.successResultOf(reading[0]), RANDOM)
        self.assertEqual(self.successResultOf(reading[1]), RANDOM[100:])
        self.assertEqual(self.successResultOf(reading[2]), RANDOM[2 * MIB : 2 * MIB + 9])
        self.assertFalse(self.part().exists())
        self.assertEqual(self.here.counts.seen["no_space"], 1)

    def test_lie_on_a_full_disk(self) -> None:
        """Past the store, too, a wrong byte keeps the last one back."""
        self.fill_up(MIB)
        self.hub.corrupt = lambda data: data[:-5] + b"wrong"
        self.hub.held = True
        reading = self.read(self.successResultOf(self.get()))
        self.hub.held = False
        self.hub.transfers[0].release()
        self.failureResultOf(reading, Unverified)

    def test_too_large_for_the_disk(self) -> None:
        """What cannot fit is not begun to be stored; a small one is verified before its headers."""
        self.patch(self.here.parts, "free", lambda: 3)
        served = self.successResultOf(self.get())
        self.assertEqual(served.cached, Cached.BYPASS)
        self.assertEqual(self.successResultOf(self.read(served)), RANDOM)
        self.digest = self.hub.add_blob(NAME, b"small")
        small = self.successResultOf(self.get())
        self.successResultOf(small.content.verified())
        self.assertEqual(self.successResultOf(self.read(small, 1)), b"mall")

    def test_break_past_the_store(self) -> None:
        """A transfer past the store is resumed as well."""
        self.patch(self.here.parts, "free", lambda: 3)
        self.hub.held = True
        reading = self.read(self.successResultOf(self.get()))
        own = self.hub.transfers[-1]
        own.send(MIB)
        own.cut()
        self.here.turn(1.0)
        self.hub.transfers[-1].release()
        self.assertEqual(self.successResultOf(reading), RANDOM)

    def test_full_at_publication(self) -> None:
        """A disk that is full at the last moment: the clients have their bytes, and the next one gets them too."""

        async def publish(path: str, digest: Digest) -> None:
            raise NoSpace("full")

        with_patch = self.patch(self.here.blobs, "publish", publish)
        self.hub.held = True
        served = self.successResultOf(self.get())
        self.hub.transfers[0].release()
        self.assertEqual(self.successResultOf(self.read(served)), RANDOM)
        self.assertFalse(self.is_published())
        self.hub.held = False
        with_patch.restore()
        self.assertEqual(self.successResultOf(self.read(self.successResultOf(self.get()))), RANDOM)
        self.assertTrue(self.is_published())


class FarRangeTests(BlobTestCase):
    """A range far ahead of a slow fill goes straight upstream."""

    def test_far_range(self) -> None:
        """Its bytes come at once; the blob's last one still waits for the fill's verification."""
        self.hub.held = True
        served = self.successResultOf(self.get())
        self.hub.transfers[0].send(1000)
        self.here.turn(2.0)
        middle = self.read(self.successResultOf(self.get()), 2 * MIB, 2 * MIB + 10)
        tail = self.read(self.successResultOf(self.get()), len(RANDOM) - 10)
        self.assertEqual(len(self.hub.transfers), 3)
        for transfer in self.hub.transfers[1:]:
            transfer.send(MIB)
            transfer.finish()
        self.assertEqual(self.successResultOf(middle), RANDOM[2 * MIB : 2 * MIB + 10])
        self.assertNoResult(tail)
        self.hub.transfers[0].release()
        self.assertEqual(self.successResultOf(tail), RANDOM[-10:])
        served.content.close()


class ProcessesTests(BlobTestCase):
    """Two processes of one store."""

    def setUp(self) -> None:
        super().setUp()
        self.there = self.process(clock=self.here.clock)
        self.hub.held = True

    def test_trailing(self) -> None:
        """One leads, the other follows its file: one transfer."""
        first = self.read(self.successResultOf(self.get()))
        second = self.read(self.successResultOf(self.get(self.there)))
        self.hub.transfers[0].send(MIB)
        self.here.turn(0.1)
        self.hub.transfers[0].release()
        self.here.turn(0.1)
        self.assertEqual(self.successResultOf(first), RANDOM)
        self.assertEqual(self.successResultOf(second), RANDOM)
        self.assertEqual((self.hub.asked_for("blob"), self.hub.asked_for("head blob")), (1, 1))
        self.assertEqual(self.there.counts.seen["elsewhere"], 1)

    def test_rights_hold_across_processes(self) -> None:
        """A fill led elsewhere is no way round the right."""
        self.successResultOf(self.get())
        self.failureResultOf(self.get(self.there, qualified([self.hub], "library/other")), BlobUnknown)
        self.hub.transfers[0].release()

    def test_leads_on(self) -> None:
        """The leader dies: the follower takes the part over where it stopped, and its client notices nothing."""
        dying = self.read(self.successResultOf(self.get()))
        reading = self.read(self.successResultOf(self.get(self.there)))
        self.hub.transfers[0].send(MIB)
        self.here.turn(0.1)
        self.here.locks.close()  # as death does
        self.here.turn(0.1)
        self.hub.transfers[1].release()
        self.assertEqual(self.successResultOf(reading), RANDOM)
        self.assertEqual([asked[3] for asked in self.hub.asked if asked[0] == "blob"], [0, MIB])
        dying.cancel()
        self.failureResultOf(dying)

    def test_published_elsewhere_meanwhile(self) -> None:
        """What another process stored is linked here after a HEAD."""
        self.hub.held = False
        self.successResultOf(self.get())
        other = qualified([self.hub], "library/other")
        self.hub.add_blob("library/other", RANDOM)
        served = self.successResultOf(self.get(self.there, other))
        self.assertEqual(self.successResultOf(self.read(served)), RANDOM)
        self.assertEqual(self.hub.asked_for("blob"), 1)
