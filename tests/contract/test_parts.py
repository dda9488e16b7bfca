"""What every `Parts` promises, told to those on disk: with work done at once, and in threads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from nora.oci import Digest, Repository
from nora.storage.blobs import DiskBlobs
from nora.storage.disk import ThreadedDisk
from nora.storage.interfaces import Blobs, Disk, Parts, Published, Trailing, Writing, Written
from nora.storage.layout import Layout
from nora.storage.locks import DiskLocks
from nora.storage.parts import DiskParts
from tests.support.storage_fakes import ImmediateDisk, MemoryIndex, temporary_folder

if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object

DATA = b"".join(i.to_bytes(4, "big") for i in range(80_000))
DIGEST = Digest.of(DATA)
HERE = Repository("docker.io", "library/thing")


class PartsContract(_Base):
    """The suite. `one` and `other` are the parts of two processes on one store, `blobs` what is published there."""

    one: Parts
    other: Parts
    blobs: Blobs

    async def lead(self, parts: Parts | None = None, digest: Digest = DIGEST) -> Writing:
        """Claim a part that nobody leads."""
        claimed = await (parts or self.one).claim(digest)
        assert isinstance(claimed, Writing), claimed
        return claimed

    async def trail(self, parts: Parts | None = None) -> Trailing:
        """Claim a part that another leads."""
        claimed: Any = await (parts or self.other).claim(DIGEST)
        self.assertNotIsInstance(claimed, Writing)
        self.assertNotIsInstance(claimed, Published)
        self.addCleanup(claimed.close)
        trailing: Trailing = claimed
        return trailing

    def content(self, part: Writing | Trailing) -> bytes:
        """Read all of a part by a descriptor of its own."""
        descriptor = part.open()
        with os.fdopen(descriptor, "rb") as file:
            file.seek(0)
            return file.read()

    async def test_first_leads_others_trail(self) -> None:
        """One of all who claim leads, in its own process and in another; each key is a matter of its own."""
        writing = await self.lead()
        self.assertEqual((writing.digest, writing.written, writing.size), (DIGEST, 0, None))
        for parts in (self.one, self.other):
            trailing = await self.trail(parts)
            self.assertEqual(trailing.digest, DIGEST)
            self.assertTrue(trailing.led())
        elsewhere = await self.lead(self.other, Digest.of(b"something else"))
        await elsewhere.abandon(keep=False)
        await writing.abandon(keep=False)

    async def test_no_two_leaders(self) -> None:
        """Of many who claim at once exactly one leads."""
        claims = [Deferred.fromCoroutine(parts.claim(DIGEST)) for parts in (self.one, self.other) * 10]
        claimed = await gatherResults(claims)
        leaders = [each for each in claimed if isinstance(each, Writing)]
        self.assertEqual(len(leaders), 1)
        for each in claimed:
            if not isinstance(each, (Writing, Published)):
                each.close()
        await leaders[0].abandon(keep=False)

    async def test_growth_is_seen(self) -> None:
        """What was appended is in the file, in order, and a follower sees how much it is."""
        writing, trailing = await self.lead(), await self.trail()
        self.assertEqual(trailing.look(), Written(0, False, False))
        await writing.append([DATA[:10], DATA[10:30]])
        self.assertEqual(writing.written, 30)
        self.assertEqual(trailing.look(), Written(30, False, False))
        await writing.append([])
        await writing.append([b"", DATA[30:1000]])
        self.assertEqual((writing.written, trailing.look().size), (1000, 1000))
        self.assertEqual(self.content(trailing), DATA[:1000])
        self.assertEqual(self.content(writing), DATA[:1000])
        await writing.abandon(keep=False)

    async def test_before_the_file(self) -> None:
        """A leader that has not made its file yet looks like one that has written nothing."""
        writing, trailing = await self.lead(), await self.trail()
        self.assertEqual(trailing.look(), Written(0, False, False))
        self.assertIsNone(trailing.size())
        await writing.abandon(keep=False)

    async def test_descriptors_are_the_callers(self) -> None:
        """A descriptor outlives who gave it, and closing it takes nothing from others."""
        writing, trailing = await self.lead(), await self.trail()
        await writing.append([DATA])
        trailing.look()
        mine, theirs = writing.open(), trailing.open()
        os.close(writing.open())
        os.close(trailing.open())
        self.assertEqual(self.content(trailing), DATA)
        trailing.close()
        trailing.close()
        self.assertTrue(await writing.verify())
        await writing.publish()
        for descriptor in (mine, theirs):
            self.assertEqual(os.pread(descriptor, 10, 100), DATA[100:110])
            os.close(descriptor)

    async def test_described(self) -> None:
        """The size is told to followers; before that, and where it is not known, it is None."""
        writing, trailing = await self.lead(), await self.trail()
        await writing.describe(None, HERE, "hub")
        self.assertIsNone(trailing.size())
        await writing.describe(len(DATA), HERE, "hub")
        self.assertEqual((writing.size, trailing.size()), (len(DATA), len(DATA)))
        await writing.abandon(keep=False)

    async def test_verified_and_published(self) -> None:
        """Followers hear of the verification before the publication, which frees the lock and needs no part."""
        writing, trailing = await self.lead(), await self.trail()
        await writing.append([DATA])
        self.assertFalse(trailing.look().verified)
        self.assertTrue(await writing.verify())
        self.assertEqual(trailing.look(), Written(len(DATA), True, False))
        self.assertIsNone(self.blobs.size(DIGEST))
        self.assertTrue(trailing.led())
        await writing.publish()
        self.assertEqual(self.blobs.size(DIGEST), len(DATA))
        self.assertEqual(await self.blobs.read(DIGEST, len(DATA)), DATA)
        self.assertFalse(trailing.led())
        self.assertEqual(trailing.look(), Written(len(DATA), True, False))
        for parts in (self.one, self.other):
            self.assertEqual(await parts.claim(DIGEST), Published(DIGEST))
        await writing.abandon(keep=False)
        self.assertEqual(self.blobs.size(DIGEST), len(DATA))

    async def test_found_late(self) -> None:
        """A follower that looks only after the publication sees the whole."""
        writing, trailing = await self.lead(), await self.trail()
        await writing.append([DATA])
        await writing.verify()
        await writing.publish()
        self.assertEqual(trailing.look(), Written(len(DATA), True, False))
        self.assertEqual(self.content(trailing), DATA)

    async def test_wrong_bytes(self) -> None:
        """Bytes that do not hash to the digest are never verified, for anybody."""
        writing, trailing = await self.lead(), await self.trail()
        await writing.append([DATA[:-1], b"!"])
        self.assertFalse(await writing.verify())
        self.assertFalse(trailing.look().verified)
        await writing.abandon(keep=False)
        self.assertIsNone(self.blobs.size(DIGEST))

    async def test_restart(self) -> None:
        """Starting over is another file: who saw the old one is told, and its bytes stay as they were."""
        writing, trailing = await self.lead(), await self.trail()
        await writing.append([b"wrong"])
        trailing.look()
        await writing.restart()
        self.assertEqual(writing.written, 0)
        self.assertEqual(trailing.look(), Written(5, False, True))
        self.assertEqual(self.content(trailing), b"wrong")
        self.assertTrue(trailing.led())
        again = await self.trail()
        await writing.append([DATA])
        self.assertEqual(again.look(), Written(len(DATA), False, False))
        self.assertTrue(await writing.verify())
        await writing.publish()
        self.assertEqual(await self.blobs.read(DIGEST, len(DATA)), DATA)

    async def test_kept(self) -> None:
        """What is kept is led on from where it stands, in another process, and verified as a whole."""
        writing, trailing = await self.lead(), await self.trail()
        await writing.describe(len(DATA), HERE, "hub")
        await writing.append([DATA[:70_000]])
        trailing.look()
        await writing.abandon(keep=True)
        await writing.abandon(keep=False)
        self.assertFalse(trailing.led())
        self.assertEqual(trailing.look(), Written(70_000, False, False))
        resumed = await self.lead(self.other)
        self.assertEqual((resumed.written, resumed.size), (70_000, len(DATA)))
        self.assertTrue(trailing.led())
        for at in range(70_000, len(DATA), 50_000):
            await resumed.append([DATA[at : at + 50_000]])
        self.assertEqual(trailing.look().size, len(DATA))
        self.assertTrue(await resumed.verify())
        await resumed.publish()
        self.assertEqual(await self.blobs.read(DIGEST, len(DATA)), DATA)

    async def test_kept_wrong(self) -> None:
        """Kept bytes are hashed too: a right end does not make a wrong beginning right."""
        writing = await self.lead()
        await writing.append([b"?" + DATA[1:1000]])
        await writing.abandon(keep=True)
        resumed = await self.lead(self.other)
        await resumed.append([DATA[1000:]])
        self.assertFalse(await resumed.verify())
        await resumed.abandon(keep=False)

    async def test_kept_whole(self) -> None:
        """A part that was whole when its leader died is verified without another byte."""
        writing = await self.lead()
        await writing.append([DATA])
        self.assertTrue(await writing.verify())
        await writing.abandon(keep=True)
        resumed = await self.lead(self.other)
        trailing = await self.trail(self.one)
        self.assertFalse(trailing.look().verified)
        self.assertTrue(await resumed.verify())
        await resumed.publish()
        self.assertEqual(self.blobs.size(DIGEST), len(DATA))

    async def test_given_up(self) -> None:
        """What is not kept is gone: who saw it is told, and the next begins at nothing."""
        writing, trailing = await self.lead(), await self.trail()
        await writing.describe(len(DATA), HERE, "hub")
        await writing.append([DATA[:1000]])
        trailing.look()
        await writing.abandon(keep=False)
        self.assertEqual(trailing.look(), Written(1000, False, True))
        self.assertFalse(trailing.led())
        again = await self.lead(self.other)
        self.assertEqual((again.written, again.size), (0, None))
        await again.abandon(keep=False)

    async def test_nothing_to_keep(self) -> None:
        """A part without bytes leaves nothing, kept or not."""
        writing, trailing = await self.lead(), await self.trail()
        trailing.look()
        await writing.describe(5, HERE, "hub")
        await writing.abandon(keep=True)
        self.assertTrue(trailing.look().abandoned)
        again = await self.lead()
        self.assertIsNone(again.size)
        await again.abandon(keep=False)

    async def test_free(self) -> None:
        """The free bytes are told."""
        self.assertGreater(self.one.free(), 0)


class _DiskCase(PartsContract):
    """Parts on disk, of two processes as the kernel sees them: each has the lock file open for itself."""

    def disk(self) -> Disk:
        """Make the disk of one process."""
        raise NotImplementedError

    def setUp(self) -> None:
        """Make an empty store."""
        layout = Layout(temporary_folder(self))
        layout.prepare()
        made = []
        for _ in range(2):
            disk, locks = self.disk(), DiskLocks(layout.locks, Clock())
            locks.open()
            self.addCleanup(locks.close)
            self.blobs = DiskBlobs(layout, disk, MemoryIndex())
            made.append(DiskParts(layout, disk, locks, self.blobs))
        self.one, self.other = made


class ImmediatePartsTests(_DiskCase, TestCase):
    """With work done at once."""

    def disk(self) -> Disk:
        """Make one."""
        return ImmediateDisk()


class ThreadedPartsTests(_DiskCase, TestCase):
    """With work done in threads, as the daemon does it."""

    def disk(self) -> Disk:
        """Make one."""
        reactor: Any = installed
        disk = ThreadedDisk(reactor)
        disk.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(disk.stop()))
        return disk
