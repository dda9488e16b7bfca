"""Pulling when things go wrong at the worst moment: each test tells what must hold even then."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail

from nora.access import ANONYMOUS
from nora.oci import Digest
from nora.oci.errors import BlobUnknown, NoraError, NoSpace, Unverified
from nora.pull.fills import Fills
from nora.pull.interfaces import Served
from nora.pull.leading import Limits
from tests.support.blob_case import RANDOM, BlobTestCase
from tests.support.pulling import MIB, NAME, Pulling, qualified
from tests.support.scripted import ScriptedUpstream
from tests.support.storage_fakes import ImmediateDisk, SteppedDisk, temporary_folder


def descriptors() -> int:
    """Count this process's open descriptors."""
    return len(os.listdir("/proc/self/fd"))


class FillingDisk(ImmediateDisk):
    """Does the work at once, but has no space for work whose function's name and arguments hold `full`."""

    full: str | None = None

    def run(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Call `work(*arguments)` now, or fail with ENOSPC."""
        if self.full is not None and self.full in f"{work.__qualname__} {arguments}":
            return fail(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        return super().run(work, *arguments)


class WrongBytesTests(BlobTestCase):
    """A wrong byte never looks like a right one."""

    def test_far_range_is_checked(self) -> None:
        """The bytes of a range that went past the fill are what the digest vouches for, or it ends short."""
        self.hub.held = True
        served = self.successResultOf(self.get())
        self.hub.transfers[0].send(100_000)
        self.here.clock.advance(2)
        self.hub.transfers[0].send(1000)
        start = 2 * MIB
        self.hub.corrupt = lambda data: data[: 2 * MIB + 5] + b"X" + data[2 * MIB + 6 :]
        reading = self.read(self.successResultOf(self.get()), start)
        self.hub.transfers[0].send(1000)
        self.assertEqual(len(self.hub.transfers), 2, "the range goes straight upstream")
        self.hub.transfers[1].release()
        self.hub.transfers[0].release()
        self.assertTrue(reading.called)
        outcome = []
        reading.addCallbacks(
            lambda data: outcome.append(data == RANDOM[start:]), lambda _: outcome.append("short")
        )
        self.assertNotEqual(outcome, [False], "wrong bytes were given as a whole range")
        del served

    def test_lying_head_elsewhere(self) -> None:
        """An upstream whose HEAD tells too small a size does not make a truncated blob look whole elsewhere."""
        self.hub.held = True
        self.successResultOf(self.get())
        liar = ScriptedUpstream()
        liar.blobs = self.hub.blobs

        async def lie(repository: str, digest: Digest) -> int | None:
            return 2 * MIB

        liar.describe_blob = lie  # type: ignore[method-assign]
        there = self.process(clock=self.here.clock)
        getting = self.get(there, qualified([liar]))
        there.turn(0.05)
        served = self.successResultOf(getting)
        reading = self.read(served)
        self.hub.transfers[0].release()
        there.turn(0.05)
        if not reading.called:
            reading.cancel()
            self.failureResultOf(reading)
            self.fail("the client waits for ever")
        outcome = []
        reading.addCallbacks(outcome.append, lambda _: outcome.append(b""))
        self.assertIn(outcome[0], (b"", RANDOM), f"{len(outcome[0])} of {len(RANDOM)} bytes look whole")

    def test_lying_head_larger(self) -> None:
        """An upstream whose HEAD tells too large a size does not leave a client waiting for ever."""
        self.hub.held = True
        self.successResultOf(self.get())
        liar = ScriptedUpstream()
        liar.blobs = self.hub.blobs

        async def lie(repository: str, digest: Digest) -> int | None:
            return 4 * MIB

        liar.describe_blob = lie  # type: ignore[method-assign]
        there = self.process(clock=self.here.clock)
        getting = self.get(there, qualified([liar]))
        there.turn(0.05)
        reading = self.read(self.successResultOf(getting))
        self.hub.transfers[0].release()
        there.turn(1)
        called = reading.called
        reading.addErrback(lambda _: None)
        reading.cancel()
        self.assertTrue(called, "the client waits for ever")

    def test_kept_bytes_without_ranges(self) -> None:
        """Kept bytes that are wrong, and an upstream without ranges: the fill starts over and the client is served."""
        self.part().write_bytes(b"x" * 1000)
        self.hub.knows_ranges = False
        served = self.successResultOf(self.get())
        self.assertEqual(self.successResultOf(self.read(served)), RANDOM)

    def test_kept_bytes_too_many(self) -> None:
        """A part that is longer than the blob, of unknown size, and an upstream without ranges: not for ever."""
        self.part().write_bytes(b"x" * (len(RANDOM) + 1000))
        self.hub.knows_ranges = False
        for _ in range(2):
            getting = self.get()
            self.here.turn(20, 0.1)
            outcome: list[Any] = []
            getting.addBoth(outcome.append)
            if outcome and isinstance(outcome[0], Served):
                reading = self.read(outcome[0])
                self.here.turn(20, 0.1)
                if reading.called and self.given(reading) == RANDOM:
                    return
        self.fail("no client is ever served")

    def given(self, reading: Deferred[bytes]) -> bytes:
        """Give what was read, empty after a failure."""
        got: list[bytes] = []
        reading.addCallbacks(got.append, lambda _: got.append(b""))
        return got[0]


class RightsTests(BlobTestCase):
    """The right to read is per repository, whatever else happens."""

    def test_published_while_queued(self) -> None:
        """A fill that waits its turn, confirmed for another repository, and the blob appears: no right leaks."""
        process = self.process(max_fills=1)
        other = self.hub.add_blob(NAME, b"y" * 2 * MIB)
        self.hub.held = True
        busy = Deferred.fromCoroutine(process.pull.blob(self.route, other, ANONYMOUS))
        self.successResultOf(busy)
        stranger = ScriptedUpstream("stranger", "stranger.example")
        mine = self.get(process, qualified([stranger]))  # it has nothing
        self.assertNoResult(mine)
        theirs = self.get(process)  # confirmed by HEAD, waits
        self.successResultOf(Deferred.fromCoroutine(process.blobs.add(RANDOM, self.digest)))
        self.hub.transfers[0].release()
        self.failureResultOf(mine, BlobUnknown)
        self.assertEqual(self.successResultOf(self.read(self.successResultOf(theirs))), RANDOM)

    def test_trailing_confirmed_for_another(self) -> None:
        """As above, where another process leads the fill by then."""
        there = self.process(clock=self.here.clock, max_fills=1)
        other = self.hub.add_blob(NAME, b"y" * 2 * MIB)
        self.hub.held = True
        self.successResultOf(Deferred.fromCoroutine(there.pull.blob(self.route, other, ANONYMOUS)))
        self.successResultOf(self.get())  # led here
        stranger = ScriptedUpstream("stranger", "stranger.example")
        mine = self.get(there, qualified([stranger]))
        theirs = self.get(there)
        self.hub.transfers[0].release()
        there.turn(0.1)
        outcome: list[Any] = []
        mine.addBoth(outcome.append)
        self.assertFalse(outcome and isinstance(outcome[0], Served), "a stranger was served")
        self.hub.transfers[1].release()
        there.turn(0.1)
        if outcome:
            outcome[0].trap(BlobUnknown)
        self.successResultOf(theirs)

    def test_served_for_whom_it_was_asked(self) -> None:
        """The repository and upstream that are told of an answer are the asker's own."""
        other = ScriptedUpstream("other", "other.example")
        other.add_blob(NAME, RANDOM)
        self.hub.hung = Deferred()
        mine = self.get()
        self.get(route=qualified([other]))
        self.hub.hung.callback(None)
        self.assertEqual(self.successResultOf(mine).upstream, "hub")


class NoSpaceTests(BlobTestCase):
    """No space costs the cache, never the answer."""

    def setUp(self) -> None:
        """Have a disk that can be full."""
        super().setUp()
        self.disk = FillingDisk()
        self.here = self.process(disk=self.disk)

    def test_part_cannot_be_made(self) -> None:
        """No inode for the part: clients are served past the store."""
        self.disk.full = "_open_growing"
        served = self.successResultOf(self.get())
        self.assertEqual(self.successResultOf(self.read(served)), RANDOM)

    def test_link_cannot_be_made(self) -> None:
        """Stored for one repository, confirmed for another, no space for its link: served all the same."""
        self.successResultOf(self.read(self.successResultOf(self.get())))
        other = ScriptedUpstream("other", "other.example")
        other.add_blob(NAME, RANDOM)
        # What the real writing of a record makes of ENOSPC.
        self.patch(self.disk, "run", lambda work, *arguments: fail(NoSpace("full")))
        served = self.successResultOf(self.get(route=qualified([other])))
        self.assertEqual(served.content.size, len(RANDOM))
        served.content.close()

    def test_unknown_size(self) -> None:
        """An upstream that tells no size, and no space: the client hears so, or is served; it does not hang."""
        self.hub.tells_size = False
        self.disk.full = "WritingFile._write"
        getting = self.get()
        self.here.turn(1)
        answered = getting.called
        getting.addErrback(lambda _: None)
        getting.cancel()
        self.assertTrue(answered, "the client waits for ever")

    def test_start_over_without_space(self) -> None:
        """A fill starts over and finds no space: a follower that had bytes of the first inode hears of it."""
        self.part().write_bytes(b"x" * 1000 + RANDOM[1000 : 2 * MIB])
        self.hub.held = True
        reader = self.reader(self.successResultOf(self.get()))
        while reader.position < MIB:
            self.successResultOf(Deferred.fromCoroutine(reader.read(MIB - reader.position)))
        self.hub.transfers[0].release()  # what is put together does not verify: over from 0
        self.assertEqual(len(self.hub.transfers), 2)
        waiting = reader.more()
        self.disk.full = "WritingFile._write"
        self.hub.held = False
        self.hub.transfers[1].send(1000)
        self.assertEqual(len(self.here.fills), 0)
        self.successResultOf(waiting)

        async def rest() -> None:
            while reader.position < reader.stop:
                await reader.read(MIB)

        # It was sent wrong bytes, so the right rest must not make a whole.
        self.failureResultOf(Deferred.fromCoroutine(rest()), Unverified)
        self.assertEqual(reader.position, len(RANDOM) - 1)
        reader.close()


class LeftoverTests(BlobTestCase):
    """What a killed process left does not stand in the way."""

    def test_read_only_part(self) -> None:
        """Killed, or out of space, between the part's last mode and its rename: the next demand leads it on."""
        self.root = temporary_folder(self)
        self.here = self.process()
        self.part().write_bytes(RANDOM)
        self.part().chmod(0o444)
        if os.geteuid() == 0:
            for folder, _, files in os.walk(self.root):
                for name in (".", *files):
                    os.chown(os.path.join(folder, name), 65534, 65534)
            os.seteuid(65534)
            self.addCleanup(os.seteuid, 0)
        served = self.successResultOf(self.get())
        self.assertEqual(self.successResultOf(self.read(served)), RANDOM)


class LeakTests(BlobTestCase):
    """Descriptors are closed whatever happens."""

    def test_change_of_file_cancelled(self) -> None:
        """A client leaves while its reader compares the old and the new inode: no descriptor stays."""
        disk = SteppedDisk()
        self.part().write_bytes(b"x" * 1000)
        process = self.process(disk=disk)
        before = descriptors()
        getting = self.get(process)
        while not getting.called:
            disk.step()
        content = self.successResultOf(getting).content
        reader = self.successResultOf(Deferred.fromCoroutine(content.reader(2 * MIB - 10, len(RANDOM))))
        fill = process.fills.find(self.digest)
        assert fill is not None
        while not reader.ready():
            disk.step()
        reader.advance(5)
        generation = fill.generation
        waiting = None
        while fill.generation == generation or fill.written < 2 * MIB:
            disk.step()
            if fill.generation != generation and waiting is None:
                waiting = reader.more()
        assert waiting is not None
        self.assertNoResult(waiting)
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        reader.close()
        disk.drain()
        self.getclosed(process)
        content.close()
        self.assertEqual(descriptors(), before)

    def getclosed(self, process: Pulling) -> None:
        """Wait for the fill's end."""
        self.assertEqual(len(process.fills), 0)


class StarvationTests(BlobTestCase):
    """One bad upstream does not take the others' turns."""

    def test_hung_upstream(self) -> None:
        """An upstream that answers nobody has more waiters than there are slots: another is still served."""
        process = self.process()
        process.fills = Fills(
            process.parts,
            process.blobs,
            process.repositories,
            process.disk,
            process.clock,
            Limits(1 << 40, 4, 2),
            process.counts,
        )
        process.pull._blobs._fills = process.fills
        hung = ScriptedUpstream("hung", "hung.example")
        hung.hung = Deferred()
        for i in range(4):
            digest = hung.add_blob(NAME, b"%d" % i)
            waiting = Deferred.fromCoroutine(process.pull.blob(qualified([hung]), digest, ANONYMOUS))
            self.addCleanup(waiting.addErrback, lambda _: None)
        served = self.get(process)
        self.assertEqual(self.successResultOf(self.read(self.successResultOf(served))), RANDOM)


class ResumeTests(BlobTestCase):
    """Resumption."""

    def test_size_learned_on_resumption(self) -> None:
        """The first answer tells no size and breaks off; the one that resumes it tells the size: that is fine."""
        self.hub.tells_size = False
        self.hub.held = True
        getting = self.get()
        self.hub.transfers[0].send(MIB)
        self.hub.tells_size = True
        self.hub.transfers[0].cut()
        self.here.turn(1)
        self.assertEqual(len(self.hub.transfers), 2)
        self.assertFalse(self.hub.transfers[1].aborted, "the resumption was given up")
        self.hub.transfers[1].release()
        self.assertEqual(self.successResultOf(self.read(self.successResultOf(getting))), RANDOM)

    def test_lying_sidecar(self) -> None:
        """A sidecar that tells any other size, kept bytes right or wrong: the client has right bytes or an error."""
        for kept in (RANDOM[:MIB], b"x" * MIB, RANDOM, b"x" * len(RANDOM)):
            for size in (MIB, 10, len(RANDOM), 4 * MIB, 0, None):
                for tells in (True, False):
                    with self.subTest(size=size, tells=tells):
                        self.part().write_bytes(kept)
                        text = "{}" if size is None else f'{{"size": {size}}}'
                        Path(self.here.layout.sidecar(self.digest)).write_text(text)
                        self.hub.tells_size = tells
                        outcome: list[Any] = []
                        getting = self.get()
                        self.here.turn(20, 0.1)
                        if not getting.called:
                            getting.addErrback(lambda _: None)
                            getting.cancel()
                            self.fail("hangs before the headers")
                        reading: Deferred[Any] = getting.addCallback(self.read)
                        self.here.turn(20, 0.1)
                        reading.addBoth(outcome.append)
                        self.assertTrue(outcome, "hangs")
                        if isinstance(outcome[0], bytes):
                            self.assertEqual(outcome[0], RANDOM)
                        else:
                            outcome[0].trap(NoraError)
                        self.assertEqual(len(self.here.fills), 0)
                        self.successResultOf(Deferred.fromCoroutine(self.here.blobs.remove(self.digest)))
