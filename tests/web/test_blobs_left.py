"""Clients that leave a blob midway, read slowly, or stop reading."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import os
import random
from typing import Any

from twisted.internet.task import Clock

from tests.support.http_client import RawClient
from tests.support.pull_fakes import FakeContent
from tests.support.web_site import SiteTestCase

BIG = random.Random(1).randbytes(3 * 1024 * 1024 + 17)


class LeavingTests(SiteTestCase):
    """Clients that leave, or read slowly."""

    async def leave(self, client: RawClient, path: str) -> None:
        client.request("GET", path)
        await client.head()
        client.transport.abortConnection()
        await client.closed()

    async def test_leaving_midway(self) -> None:
        """When a client leaves, its reader and its content are closed, once each."""
        for on_disk in (True, False):
            for available in (None, 2_000_000):
                digest, content = self.pull.add_blob(BIG * 8, available=available, on_disk=on_disk)
                await self.leave(await self.client(), f"/v2/x/blobs/{digest}")
                await self.eventually(lambda: self.site.in_flight == 0)
                self.assertEqual((content.closed, content.readers[0].closed), (1, 1))
                self.assertTrue(self.events.list[-1].aborted)
                self.assertEqual(self.events.list[-1].status, 200)

    async def test_slow_reader(self) -> None:
        """A client that reads now and then gets everything, and others are not held up by it."""
        for on_disk in (True, False):
            data = BIG * 8
            digest, _ = self.pull.add_blob(data, on_disk=on_disk)
            slow = await self.client()
            slow.request("GET", f"/v2/x/blobs/{digest}")
            await slow.head()
            slow.transport.pauseProducing()
            self.assertEqual((await self.ask("GET", "/v2/")).status, 200)
            self.assertEqual(self.site.in_flight, 1)
            slow.transport.resumeProducing()
            await slow.has(len(data))
            self.assertTrue(slow.received == data)

    async def test_fairness(self) -> None:
        """A small answer does not wait for a large one that the client takes as fast as it comes."""
        digest, _ = self.pull.add_blob(BIG * 20)
        fast = await self.client()
        fast.request("GET", f"/v2/x/blobs/{digest}")
        await fast.head()
        await self.ask("GET", "/v2/")
        self.assertLess(len(fast.received), len(BIG) * 20)


class StallTests(SiteTestCase):
    """Clients that take nothing."""

    def make_clock(self) -> Any:
        self.fake = Clock()
        return self.fake

    async def test_stalled(self) -> None:
        """A client that takes nothing for a minute is let go."""
        for on_disk in (True, False):
            digest, content = self.pull.add_blob(BIG * 8, on_disk=on_disk)
            client = await self.client()
            client.transport.pauseProducing()
            client.request("GET", f"/v2/x/blobs/{digest}")
            await self.stuck(content)
            reader = content.readers[0]
            for _ in range(8):
                self.fake.advance(15)
            await self.eventually(lambda: self.site.in_flight == 0)
            self.assertEqual((reader.closed, content.closed), (1, 1))
            self.assertTrue(self.events.list[-1].aborted)
            self.assertEqual(self.fake.getDelayedCalls(), [])
            client.transport.resumeProducing()
            await client.closed()

    async def test_slow_is_not_stalled(self) -> None:
        """A client that takes a little each half minute is kept, though the socket stays full meanwhile."""
        for on_disk in (True, False):
            digest, content = self.pull.add_blob(BIG * 8, on_disk=on_disk)
            client = await self.client()
            client.transport.pauseProducing()
            client.request("GET", f"/v2/x/blobs/{digest}")
            await self.stuck(content)
            for _ in range(6):
                before = len(client.received)
                client.transport.resumeProducing()
                await client.has(before + 1)
                client.transport.pauseProducing()
                # What the client took is acknowledged a moment later.
                await self.stuck(content)
                self.fake.advance(15)
                self.fake.advance(15)
            self.assertEqual(self.site.in_flight, 1)
            client.transport.resumeProducing()
            await client.has(len(BIG) * 8 + 1)

    async def test_waiting_is_not_stalling(self) -> None:
        """A client for which there is nothing to take is not blamed, however long."""
        for on_disk in (True, False):
            digest, content = self.pull.add_blob(BIG, available=1_000_000, on_disk=on_disk)
            client = await self.client()
            client.request("GET", f"/v2/x/blobs/{digest}")
            await client.head()
            await client.has(1_000_000)
            for _ in range(20):
                self.fake.advance(15)
            content.verify()
            await client.has(len(BIG))

    async def stuck(self, content: FakeContent) -> None:
        """Wait until the socket's buffers are full: the reader is where it was for a while."""
        await self.eventually(lambda: bool(content.readers))
        last, same = -1, 0
        while same < 30:
            await self.turn(0.005)
            position = content.readers[0].position
            last, same = position, same + 1 if position == last else 0


class DescriptorTests(SiteTestCase):
    """Nothing leaks."""

    async def test_no_descriptor_leaks(self) -> None:
        """After answers, errors and departures as many files are open as before."""
        digest, _ = self.pull.add_blob(BIG)
        await self.ask("GET", f"/v2/x/blobs/{digest}")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            client = await self.client()
            client.request("GET", f"/v2/x/blobs/{digest}")
            await client.head()
            client.transport.abortConnection()
            await client.closed()
        await self.eventually(lambda: self.site.connections == 1)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
