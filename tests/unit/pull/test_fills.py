"""Fills and followers: one transfer, verified, resumed, in whichever process."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.defer import Deferred

from nora.oci import Digest
from nora.oci.errors import Broken, TooLarge, Unavailable, Unverified
from nora.pull.interfaces import Cached
from tests.support.blob_case import RANDOM, BlobTestCase
from tests.support.pulling import MIB, NAME
from tests.support.storage_fakes import SteppedDisk


class OneTransferTests(BlobTestCase):
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


class LieTests(BlobTestCase):
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


class ResumeTests(BlobTestCase):
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
