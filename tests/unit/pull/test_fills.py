"""Fills and followers: one transfer, verified, resumed, in whichever process."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from nora.access import ANONYMOUS
from nora.oci import Descriptor, Digest, Repository
from nora.oci.errors import BlobUnknown, Broken, NoSpace, TooLarge, Unavailable, Unverified
from nora.pull.interfaces import Cached, Content, Served
from nora.upstream.interfaces import Route
from tests.support.pulling import MIB, NAME, Pulling, qualified, read_all, unqualified
from tests.support.scripted import ScriptedUpstream
from tests.support.storage_fakes import SteppedDisk

RANDOM = b"".join(i.to_bytes(4, "big") for i in range(3 * MIB // 4))


class FillTestCase(SynchronousTestCase):
    """A store, an upstream with one blob, and a route to it."""

    def setUp(self) -> None:
        self.root = self.mktemp()
        self.hub = ScriptedUpstream()
        self.digest = self.hub.add_blob(NAME, RANDOM)
        self.here = self.process()
        self.route = qualified([self.hub])

    def process(self, **options: object) -> Pulling:
        process = Pulling(self.root, **options)  # type: ignore[arg-type]
        self.addCleanup(process.close)
        return process

    def get(self, process: Pulling | None = None, route: Route | None = None) -> Deferred[Served[Content]]:
        pull = (process or self.here).pull
        return Deferred.fromCoroutine(pull.blob(route or self.route, self.digest, ANONYMOUS))

    def read(self, served: Served[Content], start: int = 0, stop: int | None = None) -> Deferred[bytes]:
        return Deferred.fromCoroutine(read_all(served.content, start, stop))

    def part(self) -> Path:
        return Path(self.here.layout.part(self.digest))

    def is_published(self) -> bool:
        return self.here.blobs.size(self.digest) == len(RANDOM)


class OneTransferTests(FillTestCase):
    """What is transferred once serves all."""

    def test_miss_then_hit(self) -> None:
        """A cold blob comes whole, is stored, and is served from the store without the upstream."""
        first = self.successResultOf(self.get())
        self.assertEqual((first.cached, first.upstream), (Cached.MISS, "hub"))
        self.assertEqual(self.successResultOf(self.read(first)), RANDOM)
        self.assertTrue(self.is_published())
        self.hub.error = Unavailable("dead")
        second = self.successResultOf(self.get())
        self.assertEqual(second.cached, Cached.HIT)
        self.assertEqual(self.successResultOf(self.read(second)), RANDOM)
        self.assertEqual(self.hub.asked_for("blob"), 1)
        self.assertFalse(self.part().exists())

    def test_followers_share(self) -> None:
        """Twenty clients at once on a cold blob, ranges among them: one transfer, right bytes for each."""
        self.hub.held = True
        served = [self.successResultOf(self.get()) for _ in range(20)]
        self.assertEqual([each.cached for each in served], [Cached.MISS] + [Cached.FOLLOWED] * 19)
        starts = [0] * 4 + [i * 1000 for i in range(16)]
        reading = [self.read(each, start) for each, start in zip(served, starts, strict=True)]
        self.hub.transfers[0].send(MIB)
        self.hub.transfers[0].release()
        for read, start in zip(reading, starts, strict=True):
            self.assertEqual(self.successResultOf(read), RANDOM[start:])
        self.assertEqual(self.hub.asked_for("blob"), 1)

    def test_leavers_do_not_end_it(self) -> None:
        """The only client leaves at the first byte: the fill completes."""
        self.hub.held = True
        served = self.successResultOf(self.get())
        reading = self.read(served)
        self.hub.transfers[0].send(100)
        reading.cancel()
        self.failureResultOf(reading)
        self.hub.transfers[0].release()
        self.assertTrue(self.is_published())

    def test_impatient_before_the_size(self) -> None:
        """A client that leaves before the upstream answered does not take the others' answer with it."""
        self.hub.hung = Deferred()
        first, second = self.get(), self.get()
        first.cancel()
        self.failureResultOf(first)
        self.hub.hung.callback(None)
        self.assertEqual(self.successResultOf(self.read(self.successResultOf(second))), RANDOM)

    def test_last_byte_is_held_back(self) -> None:
        """All bytes are here and the digest is not verified yet: the last one waits."""
        self.hub.held = True
        served = self.successResultOf(self.get())
        reader = self.successResultOf(Deferred.fromCoroutine(served.content.reader(0, len(RANDOM))))
        self.addCleanup(reader.close)
        self.hub.transfers[0].send(len(RANDOM))
        self.assertEqual(reader.ready(), len(RANDOM) - 1)
        self.hub.transfers[0].finish()
        self.assertEqual(reader.ready(), len(RANDOM))

    def test_upstream_is_paused(self) -> None:
        """Bytes that the disk has not taken pause the upstream."""
        disk = SteppedDisk()
        process = self.process(disk=disk)
        self.hub.held = True
        getting = self.get(process)
        while not getting.called:
            disk.step()
        incoming = self.hub.transfers[0]
        for _ in range(3):
            incoming.send(MIB - 1)
        self.assertTrue(incoming.paused)
        incoming.release()
        disk.drain()
        self.assertFalse(incoming.paused)
        self.assertTrue(self.is_published())

    def test_no_content_length(self) -> None:
        """An upstream that tells no size: the answer waits for the end, and is right."""
        self.hub.tells_size = False
        self.hub.held = True
        getting = self.get()
        self.hub.transfers[0].send(1000)
        self.assertNoResult(getting)
        self.hub.transfers[0].release()
        self.assertEqual(self.successResultOf(self.read(self.successResultOf(getting))), RANDOM)

    def test_too_large(self) -> None:
        """A blob past `max_blob_size` is refused by its length, or where that is not told, on the way."""
        small = self.process(max_blob_size=MIB)
        self.failureResultOf(self.get(small), TooLarge)
        self.hub.tells_size = False
        self.failureResultOf(self.get(small), TooLarge)
        self.assertFalse(self.part().exists())

    def test_empty_blob(self) -> None:
        """A blob of no bytes is stored like any other."""
        self.digest = self.hub.add_blob(NAME, b"")
        self.assertEqual(self.successResultOf(self.read(self.successResultOf(self.get()))), b"")
        self.assertEqual(self.successResultOf(self.get()).cached, Cached.HIT)


class LieTests(FillTestCase):
    """Nothing unverified is ever whole."""

    def test_corrupt_blob(self) -> None:
        """Wrong bytes never get their last one out, and are not stored."""
        self.hub.corrupt = lambda data: data[:-1] + b"?"
        self.hub.held = True
        served = self.successResultOf(self.get())
        reading = self.read(served)
        self.hub.transfers[0].release()
        self.failureResultOf(reading, Unverified)
        self.assertFalse(self.is_published())
        self.assertFalse(self.part().exists())

    def test_corrupt_then_right(self) -> None:
        """After a lie the next client's request starts afresh."""
        self.hub.corrupt = lambda data: b"x" * len(data)
        served = self.successResultOf(self.get())
        self.failureResultOf(self.read(served), Unverified)
        self.hub.corrupt = lambda data: data
        self.assertEqual(self.successResultOf(self.read(self.successResultOf(self.get()))), RANDOM)

    def test_small_corrupt_blob_is_known_before_the_headers(self) -> None:
        """`verified` fails, so that a small lie ends as an error and not as a short read."""
        self.digest = self.hub.add_blob(NAME, b"small")
        self.hub.corrupt = lambda data: b"smell"
        self.hub.held = True
        served = self.successResultOf(self.get())
        verified = served.content.verified()
        self.hub.transfers[0].release()
        self.failureResultOf(verified, Unverified)

    def test_truncated_blob_of_the_store(self) -> None:
        """A stored blob of another size than recorded is a miss, and goes to quarantine."""
        self.successResultOf(self.read(self.successResultOf(self.get())))
        path = self.here.layout.blob(self.digest)
        os.chmod(path, 0o600)
        os.truncate(path, 100)
        self.assertEqual(self.successResultOf(self.read(self.successResultOf(self.get()))), RANDOM)
        self.assertEqual(self.hub.asked_for("blob"), 2)


class ResumeTests(FillTestCase):
    """What broke off goes on at its last byte."""

    def test_break_is_not_noticed(self) -> None:
        """The upstream breaks off twice: the client gets all, each byte came once."""
        self.hub.held = True
        served = self.successResultOf(self.get())
        reading = self.read(served)
        self.hub.transfers[0].send(MIB)
        self.hub.transfers[0].cut()
        self.here.turn(1.0)
        self.hub.transfers[1].send(MIB)
        self.hub.transfers[1].cut()
        self.here.turn(1.0)
        self.hub.transfers[2].release()
        self.assertEqual(self.successResultOf(reading), RANDOM)
        self.assertEqual([asked[3] for asked in self.hub.asked], [0, MIB, 2 * MIB])
        self.assertEqual(self.here.counts.seen["resumed"], 2)

    def test_upstream_without_ranges(self) -> None:
        """An upstream that begins at 0 again is skipped forward."""
        self.hub.held, self.hub.knows_ranges = True, False
        reading = self.read(self.successResultOf(self.get()))
        self.hub.transfers[0].send(MIB)
        self.hub.transfers[0].cut()
        self.here.turn(1.0)
        self.hub.transfers[1].release()
        self.assertEqual(self.successResultOf(reading), RANDOM)

    def test_gives_up(self) -> None:
        """An upstream that only breaks off ends the fill, bounded; what it brought is kept."""
        self.hub.held = True
        reading = self.read(self.successResultOf(self.get()))
        self.hub.transfers[0].send(MIB)
        for _ in range(10):
            if self.hub.transfers[-1].ended:
                break
            self.hub.transfers[-1].cut()
            self.here.turn(4.0)
        self.failureResultOf(reading, Broken)
        self.assertEqual(self.hub.asked_for("blob"), 5)
        self.assertEqual(self.part().stat().st_size, MIB)

    def test_resumes_after_a_restart(self) -> None:
        """A part that a dead process left is continued, hashed from its beginning."""
        self.part().write_bytes(RANDOM[:MIB])
        served = self.successResultOf(self.get())
        self.assertEqual(self.successResultOf(self.read(served)), RANDOM)
        self.assertEqual(self.hub.asked, [("blob", NAME, self.digest, MIB)])
        self.assertEqual(self.here.counts.seen, {"started": 1, "resumed": 1, "stored": 1})

    def test_rotten_part_starts_over(self) -> None:
        """A part with wrong bytes does not verify: the fill starts once more from 0, and whoever waits gets all."""
        self.part().write_bytes(b"x" * MIB)
        self.hub.held = True
        served = self.successResultOf(self.get())
        late = self.read(served, 2 * MIB + 5)
        self.hub.transfers[0].release()
        self.hub.transfers[1].release()
        self.assertEqual([asked[3] for asked in self.hub.asked], [MIB, 0])
        self.assertTrue(self.is_published())
        self.assertEqual(self.successResultOf(late), RANDOM[2 * MIB + 5 :])

    def test_who_was_sent_rotten_bytes_is_cut_off(self) -> None:
        """A client that was sent bytes of the wrong part is never completed with the right ones."""
        self.part().write_bytes(b"x" * MIB)
        self.hub.held = True
        reading = self.read(self.successResultOf(self.get()))
        self.hub.transfers[0].release()
        self.hub.transfers[1].release()
        self.failureResultOf(reading, Broken)
        self.assertTrue(self.is_published())

    def test_whole_part_is_only_confirmed(self) -> None:
        """A part that lacked nothing but its publication costs a HEAD."""
        self.part().write_bytes(RANDOM)
        Path(self.here.layout.sidecar(self.digest)).write_text(f'{{"size": {len(RANDOM)}}}')
        self.assertEqual(self.successResultOf(self.read(self.successResultOf(self.get()))), RANDOM)
        self.assertEqual(self.hub.asked, [("head blob", NAME, self.digest, 0)])
        self.assertTrue(self.is_published())

    def test_part_of_another_size(self) -> None:
        """A part whose sidecar tells another size than the upstream does is not continued."""
        self.part().write_bytes(RANDOM[:MIB])
        Path(self.here.layout.sidecar(self.digest)).write_text('{"size": 77777777}')
        self.assertEqual(self.successResultOf(self.read(self.successResultOf(self.get()))), RANDOM)
        self.assertEqual([asked[3] for asked in self.hub.asked], [MIB, 0])

    def test_stop_keeps_what_is_written(self) -> None:
        """Stopping breaks the transfer off, keeps the part and frees its lock."""
        self.hub.held = True
        reading = self.read(self.successResultOf(self.get()))
        self.hub.transfers[0].send(MIB)
        self.successResultOf(self.here.fills.stop())
        self.failureResultOf(reading, Broken)
        self.assertEqual(self.part().stat().st_size, MIB)
        self.assertFalse(self.here.locks.held(f"fill:{self.digest}"))
        self.failureResultOf(self.get(), Broken)

    def test_old_parts_are_swept(self) -> None:
        """A part that nobody leads and nobody wrote to for a day goes; a running one stays."""
        other = Path(self.here.layout.part(Digest.of(b"other")))
        other.write_bytes(b"half")
        os.utime(other, (0, 0))
        self.hub.held = True
        self.successResultOf(self.get())
        os.utime(self.part(), (0, 0))
        swept = self.successResultOf(Deferred.fromCoroutine(self.here.parts.sweep(86400)))
        self.assertEqual((swept, other.exists(), self.part().exists()), (1, False, True))
        self.successResultOf(self.here.fills.stop())


class RightsTests(FillTestCase):
    """Knowing a digest is no right to read it."""

    def setUp(self) -> None:
        super().setUp()
        self.other = qualified([self.hub], "library/other")

    def test_stored_for_another(self) -> None:
        """A blob that is stored for one repository is unknown in another whose upstream has it not."""
        self.successResultOf(self.read(self.successResultOf(self.get())))
        self.failureResultOf(self.get(route=self.other), BlobUnknown)

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


class SpaceTests(FillTestCase):
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


class FarRangeTests(FillTestCase):
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


class ProcessesTests(FillTestCase):
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
