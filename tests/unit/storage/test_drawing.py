"""Parts whose bytes the thread that writes them reads itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Digest
from nora.oci.errors import NoSpace
from nora.storage import parts as module
from nora.storage.blobs import DiskBlobs
from nora.storage.interfaces import Writing
from nora.storage.layout import Layout
from nora.storage.locks import DiskLocks
from nora.storage.parts import DiskParts
from tests.support.storage_fakes import ImmediateDisk, MemoryIndex, temporary_folder

MIB = 1024 * 1024
DATA = os.urandom(5 * MIB + 12_345)


def reading(data: bytes, piece: int) -> Callable[[memoryview], int]:
    """Read `data` in pieces of at most `piece` bytes, then nothing."""
    at = 0

    def read(into: memoryview) -> int:
        nonlocal at
        found = data[at : at + min(piece, len(into))]
        into[: len(found)] = found
        at += len(found)
        return len(found)

    return read


class DrawingTests(SynchronousTestCase):
    """What `Writing.draw` promises."""

    def setUp(self) -> None:
        layout = Layout(temporary_folder(self))
        layout.prepare()
        locks = DiskLocks(layout.locks, Clock())
        locks.open()
        self.addCleanup(locks.close)
        self.parts = DiskParts(
            layout, ImmediateDisk(), locks, DiskBlobs(layout, ImmediateDisk(), MemoryIndex())
        )
        self.digest = Digest.of(DATA)

    def lead(self) -> Writing:
        """Claim the part."""
        claimed = self.successResultOf(Deferred.fromCoroutine(self.parts.claim(self.digest)))
        assert isinstance(claimed, Writing)
        return claimed

    def content(self, writing: Writing) -> bytes:
        """Read the part."""
        with open(writing.open(), "rb") as file:
            file.seek(0)
            return file.read()

    def test_beside_appending(self) -> None:
        """Bytes drawn and bytes appended follow each other, whatever the pieces, and are hashed as they come."""
        for piece in (700, 64 * 1024, 3 * MIB):
            writing = self.lead()
            self.successResultOf(writing.append([DATA[:10], DATA[10:1000]]))
            drawn = self.successResultOf(writing.draw(reading(DATA[1000:-1], piece), 100 * MIB))
            self.assertEqual((drawn, writing.written), (len(DATA) - 1001, len(DATA) - 1))
            self.successResultOf(writing.append([DATA[-1:]]))
            self.assertEqual(self.content(writing), DATA)
            self.assertTrue(self.successResultOf(writing.verify()))
            self.successResultOf(writing.abandon(keep=False))

    def test_bounded(self) -> None:
        """One call writes about as much as it may, at most a buffer more, and the next one goes on."""
        writing, read = self.lead(), reading(DATA, 300_000)
        first = self.successResultOf(writing.draw(read, 2 * MIB))
        self.assertTrue(2 * MIB <= first < 3 * MIB, first)
        self.assertEqual(self.content(writing), DATA[:first])
        self.assertEqual(self.successResultOf(writing.draw(read, 100 * MIB)), len(DATA) - first)
        self.assertEqual(self.successResultOf(writing.draw(read, 100 * MIB)), 0)
        self.assertTrue(self.successResultOf(writing.verify()))
        self.successResultOf(writing.abandon(keep=False))

    def test_wrong_bytes(self) -> None:
        """Wrong bytes do not verify, however they came."""
        writing = self.lead()
        self.successResultOf(writing.draw(reading(DATA[:-1] + bytes([DATA[-1] ^ 1]), MIB), 100 * MIB))
        self.assertFalse(self.successResultOf(writing.verify()))
        self.successResultOf(writing.abandon(keep=False))

    def test_resumed(self) -> None:
        """After another process began, the hash follows the file while more is drawn."""
        writing = self.lead()
        self.successResultOf(writing.append([DATA[:4_000_000]]))
        self.successResultOf(writing.abandon(keep=True))
        writing = self.lead()
        self.successResultOf(writing.draw(reading(DATA[4_000_000:], 100_000), 100 * MIB))
        self.assertTrue(self.successResultOf(writing.verify()))
        self.successResultOf(writing.abandon(keep=False))

    def test_full_disk(self) -> None:
        """A disk that is full is `NoSpace`, and `written` is what the file has."""
        writing = self.lead()
        room = 2 * MIB

        def write_at(descriptor: int, data: memoryview, at: int) -> int:
            os.pwrite(descriptor, data[: max(0, room - at)], at)
            if at + len(data) > room:
                raise OSError(28, "no space")
            return at + len(data)

        with patch.object(module, "write_at", write_at):
            self.failureResultOf(writing.draw(reading(DATA, 300_000), 100 * MIB), NoSpace)
        self.assertEqual(writing.written, room)
        self.successResultOf(writing.abandon(keep=False))
