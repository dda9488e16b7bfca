"""A body's socket in the hands of the thread that stores it, over real connections."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from nora.concurrency import Tap
from nora.oci import Digest
from nora.oci.errors import Broken
from nora.upstream.incoming import Transfer
from nora.upstream.tap import SocketTap
from tests.support.authority import Authority
from tests.support.fake_upstream import FakeUpstream, Fault
from tests.support.upstreams import REACTOR, REPOSITORY, UpstreamTestCase

DATA = os.urandom(3_000_000)


class Drawn:
    """A transfer of which everything is drawn that can be."""

    def __init__(self, transfer: Transfer) -> None:
        self.transfer = transfer
        self.drawn = 0
        self.whole = bytearray()
        self.done = transfer.deliver(self.whole.extend)
        self.tap = transfer.tap()

    async def draw(self, most: int = 1 << 30) -> None:
        """Read by the tap until about `most` bytes are there, or until it says that nothing is left."""
        assert self.tap is not None
        buffer = memoryview(bytearray(100_000))
        while len(self.whole) < most and await self.tap.ready():
            count = self.tap.read(buffer)
            self.whole += buffer[:count]
            self.drawn += count
            self.tap.drew(count)


class TapTests(UpstreamTestCase):
    """What a tap promises."""

    async def begin(self, data: bytes = DATA, **options: Any) -> tuple[FakeUpstream, Drawn]:
        """Begin a transfer from a registry that has `data`; an option `fault` spoils its blobs."""
        fault, start = options.pop("fault", None), options.pop("start", 0)
        upstream = await self.fake(**options)
        digest = upstream.add_blob(REPOSITORY, data)
        if fault is not None:
            upstream.fault("*/blobs/*", fault)
        self.client = self.registry(
            upstream.url,
            **({"ca_file": self.ca_file(options["authority"])} if "authority" in options else {}),
        )
        transfer = await self.client.blob(REPOSITORY, digest, start)
        await deferLater(REACTOR, 0)  # out of the read that brought the head
        return upstream, Drawn(transfer)

    async def test_whole(self) -> None:
        """All of a body comes, most of it by the tap, each byte once and counted; the connection serves again."""
        upstream, drawn = await self.begin()
        await drawn.draw()
        await drawn.done
        self.assertEqual(bytes(drawn.whole), DATA)
        self.assertGreater(drawn.drawn, len(DATA) // 2)
        self.assertEqual(self.notes.bytes, len(DATA))
        again = upstream.add_blob(REPOSITORY, b"another")
        self.assertEqual(await self.download(self.client, again), b"another")
        self.assertEqual(upstream.connections, 1)

    async def test_from_the_middle(self) -> None:
        """The rest of a blob is drawn like a whole one."""
        _, drawn = await self.begin(start=1_000_000)
        await drawn.draw()
        await drawn.done
        self.assertEqual(bytes(drawn.whole), DATA[1_000_000:])

    async def test_cut(self) -> None:
        """A connection that breaks is `Broken`, and all that came before was drawn."""
        _, drawn = await self.begin(fault=Fault(truncate=1_000_000))
        await drawn.draw()
        await self.assertFailure(drawn.done, Broken)
        self.assertEqual(bytes(drawn.whole), DATA[:1_000_000])

    async def test_silence(self) -> None:
        """Silence is `Broken` while the socket is waited for, and ends the waiting; a slow disk's is not."""
        upstream = await self.fake()
        digest = upstream.add_blob(REPOSITORY, DATA)
        upstream.fault("*/blobs/*", Fault(stall=1_000_000))
        transfer = await self.registry(upstream.url, read_timeout=0.2).blob(REPOSITORY, digest)
        await deferLater(REACTOR, 0)
        drawn = Drawn(transfer)
        assert drawn.tap is not None
        self.assertTrue(await drawn.tap.ready())
        await deferLater(REACTOR, 0.5)  # the disk is busy
        self.assertFalse(drawn.done.called)
        drawn.tap.drew(0)
        await drawn.draw()
        await self.assertFailure(drawn.done, Broken)
        self.assertEqual(bytes(drawn.whole), DATA[:1_000_000])

    async def test_abort(self) -> None:
        """A transfer may be given up while its socket is waited for, and while a thread reads."""
        for reading in (False, True):
            upstream, drawn = await self.begin(fault=Fault(stall=1_000_000))
            tap: Tap | None = drawn.tap
            assert tap is not None
            if reading:
                self.assertTrue(await tap.ready())
                drawn.transfer.abort()
                tap.read(memoryview(bytearray(10)))
                tap.drew(10)
                waiting = tap.ready()
            else:
                await drawn.draw(1_000_000)
                waiting = tap.ready()
                if waiting.called:  # nobody looked yet whether there is more
                    tap.drew(tap.read(memoryview(bytearray(10))))
                    waiting = tap.ready()
                drawn.transfer.abort()
            self.assertFalse(await waiting)
            await self.assertFailure(drawn.done, Broken)
            await self.until(lambda: upstream.closed == upstream.connections)  # noqa: B023

    async def test_descriptors(self) -> None:
        """However a transfer with a tap ends, its duplicate of the socket is closed."""
        for fault in (None, Fault(truncate=1_000_000)):
            _, drawn = await self.begin(fault=fault)
            await drawn.draw()
            await drawn.done.addErrback(lambda failure: failure.trap(Broken))
            assert isinstance(drawn.tap, SocketTap)
            self.assertEqual(drawn.tap.fileno(), -1)

    async def test_none(self) -> None:
        """Without a length, over TLS, and for a small rest there is no tap, and the sink gets everything."""
        small = os.urandom(100_000)
        cases: list[tuple[bytes, dict[str, Any]]] = [
            (DATA, {"fault": Fault(chunked=True)}),
            (DATA, {"authority": Authority()}),
            (small, {}),
        ]
        for data, options in cases:
            _, drawn = await self.begin(data, **options)
            self.assertIsNone(drawn.tap)
            await drawn.done
            self.assertEqual(Digest.of(bytes(drawn.whole)), Digest.of(data))

    async def test_not_amid_a_read(self) -> None:
        """While the read that brought the head is parsed there is no tap: what it brought of the body comes first."""
        upstream = await self.fake()
        digest = upstream.add_blob(REPOSITORY, DATA)
        begun: list[Drawn] = []
        asking = Deferred.fromCoroutine(self.registry(upstream.url).blob(REPOSITORY, digest))
        asking.addCallback(lambda transfer: begun.append(Drawn(transfer)))
        await asking
        (drawn,) = begun
        self.assertIsNone(drawn.tap)
        await drawn.done
        self.assertEqual(bytes(drawn.whole), DATA)
