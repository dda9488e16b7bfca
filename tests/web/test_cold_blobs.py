"""Blobs whose files are not in memory, and many clients that read slowly: the reactor waits for neither."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads

from nora.oci import Digest
from nora.pull.contents import StoredContent
from nora.pull.window import WINDOW
from nora.storage import ThreadedDisk
from nora.storage.blobs import BlobFile
from nora.storage.interfaces import Disk
from tests.support.cold_disk import ColdDisk
from tests.support.http_client import RawClient
from tests.support.storage_fakes import ImmediateDisk, temporary_folder
from tests.support.web_site import SiteTestCase, reactor
from tests.web.test_streaming import resident
from tests.web.test_tls import OverTLS

MIB = 1024 * 1024
BIG = random.Random(4).randbytes(9 * MIB + 3)


class CountingDisk(ThreadedDisk):
    """A disk that counts how often something was brought."""

    brought = 0

    def bring(self, descriptor: int, start: int, stop: int) -> Deferred[None]:
        """Count, and bring."""
        self.brought += 1
        return super().bring(descriptor, start, stop)


class ColdTests(SiteTestCase):
    """Cold files, in clear text: by `sendfile`."""

    def add(self, disk: Disk, data: bytes = BIG) -> Digest:
        """Have a blob in a file, on that disk."""
        digest = Digest.of(data)
        self.path = Path(temporary_folder(self)) / "blob"
        self.path.write_bytes(data)
        content: Any = StoredContent(BlobFile(os.open(self.path, os.O_RDONLY), len(data)), disk, lambda: None)
        self.addCleanup(content.close)
        self.pull.blobs[str(digest)] = content
        return digest

    async def test_others_are_answered(self) -> None:
        """While the disk is asked for a blob's bytes, others are answered; no byte goes out before it is there."""
        disk = ColdDisk()
        digest = self.add(disk)
        client = await self.client()
        client.request("GET", f"/v2/x/blobs/{digest}")
        await client.head()
        for _ in range(3):
            self.assertEqual((await self.ask("GET", "/v2/")).status, 200)
        self.assertEqual((client.received, len(disk.bringing)), (b"", 1))
        disk.step()
        await client.has(WINDOW)
        self.assertTrue(client.received == BIG[:WINDOW])
        await self.eventually(lambda: len(disk.bringing) == 1)
        disk.step()
        await self.eventually(lambda: len(disk.bringing) == 1)
        disk.step()
        await client.has(len(BIG))
        self.assertTrue(client.received == BIG)

    async def test_leaving_while_the_disk_works(self) -> None:
        """A client leaves while the disk is slow: everything is closed, and what comes then harms nobody."""
        disk = ColdDisk()
        digest = self.add(disk)
        client = await self.client()
        client.request("GET", f"/v2/x/blobs/{digest}")
        await client.head()
        client.transport.abortConnection()
        await client.closed()
        await self.eventually(lambda: self.site.in_flight == 0)
        self.assertTrue(disk.bringing[0][0].called)
        disk.step()
        self.assertEqual((await self.ask("GET", "/v2/")).status, 200)

    async def test_broken_disk(self) -> None:
        """A disk that fails breaks the answer off."""
        disk = ColdDisk()
        client = await self.client()
        client.request("GET", f"/v2/x/blobs/{self.add(disk)}")
        await client.head()
        disk.step(OSError(5, "I/O error"))
        await client.closed()
        self.assertEqual(client.received, b"")

    async def test_dropped_from_memory(self) -> None:
        """A real file that the kernel was told to drop is brought by a thread, and is right; then no thread is used."""
        disk = CountingDisk(cast(IReactorFromThreads, reactor), threads=2)
        disk.start()
        try:
            digest = self.add(disk)
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            client = await self.client()
            self.assertTrue((await client.ask("GET", f"/v2/x/blobs/{digest}")).body == BIG)
            # A kernel may keep the file in memory all the same, as tmpfs does; then no thread is used at all.
            before = disk.brought
            self.add(disk)
            self.assertTrue((await client.ask("GET", f"/v2/x/blobs/{digest}")).body == BIG)
            self.assertEqual(disk.brought, before)
        finally:
            await disk.stop()


class ColdTLSTests(OverTLS, ColdTests):
    """The same, over TLS: by reading."""


class CrowdTests(SiteTestCase):
    """Many clients that take little."""

    async def test_slow_readers_cost_no_memory(self) -> None:
        """Two hundred clients in the middle of a blob hold two hundred files open, and no bytes of them."""
        digest = Digest.of(BIG)
        path = Path(temporary_folder(self)) / "blob"
        path.write_bytes(BIG)
        clients: list[RawClient] = []
        before, files = resident(), len(os.listdir("/proc/self/fd"))
        for _ in range(200):
            content: Any = StoredContent(
                BlobFile(os.open(path, os.O_RDONLY), len(BIG)), ImmediateDisk(), lambda: None
            )
            self.pull.blobs[str(digest)] = content
            client = await self.client()
            client.request("GET", f"/v2/x/blobs/{digest}")
            await client.head()
            client.transport.pauseProducing()
            clients.append(client)
        await self.turn(0.05)
        self.assertEqual(self.site.in_flight, 200)
        unread = sum(len(client.received) for client in clients)
        self.assertLess(resident() - before - unread, 32 * MIB)
        # A socket at each end, the blob and its reader.
        self.assertLess(len(os.listdir("/proc/self/fd")) - files, 200 * 4 + 20)
        self.assertEqual((await self.ask("GET", "/v2/")).status, 200)
        for client in clients[::50]:
            client.transport.resumeProducing()
            await client.has(len(BIG))
            self.assertTrue(client.received == BIG)
