"""How large turns are, by themselves and over real sockets."""

from __future__ import annotations

import os
import socket
import time
from statistics import median
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from nora.web.bodies import SendfileBody
from nora.web.turns import LONE, ROUND, TURN, Turns
from tests.support.web_site import SiteTestCase

LENGTH = 16 * 1024 * 1024


class TurnsTests(SynchronousTestCase):
    """`Turns` by itself."""

    @given(st.integers(1, 200))
    def test_shared(self, count: int) -> None:
        """Streams share the round; beyond eight each has the least, and who is left at the end is alone again."""
        turns = Turns()
        self.assertEqual(turns.size, LONE)
        for streams in range(1, count + 1):
            turns.begin()
            self.assertEqual(turns.size, LONE if streams == 1 else max(TURN, ROUND // streams))
        for _ in range(count - 1):
            turns.end()
        self.assertEqual(turns.size, LONE)
        turns.end()
        self.assertEqual(turns.size, LONE)


class SharingTests(SiteTestCase):
    """Turns of clients that take as fast as they can."""

    async def test_shared(self) -> None:
        """A client that is alone is sent more at a time than one beside seven others, also of those who left."""
        digest, content = self.pull.add_blob(bytes(LENGTH))
        for _ in range(2):
            with mock.patch("os.sendfile", wraps=os.sendfile) as sendfile:
                await self.ask("GET", f"/v2/x/blobs/{digest}")
            self.assertEqual(max(call.args[3] for call in sendfile.call_args_list), LONE)
            await self.eventually(lambda: self.site.in_flight == 0)
            slow = [await self.client() for _ in range(7)]
            for client in slow:
                client.transport.pauseProducing()
                client.request("GET", f"/v2/x/blobs/{digest}")
            await self.eventually(
                lambda: sum(reader.position > 0 and not reader.closed for reader in content.readers) == 7
            )
            with mock.patch("os.sendfile", wraps=os.sendfile) as sendfile:
                await self.ask("GET", f"/v2/x/blobs/{digest}")
            # The last of the slow ones may still send a turn of its own meanwhile.
            self.assertEqual(median(call.args[3] for call in sendfile.call_args_list), TURN)
            for number, client in enumerate(slow):
                if number % 2:
                    client.transport.abortConnection()
                else:
                    client.transport.resumeProducing()
                    await client.has(LENGTH)
            await self.eventually(lambda: self.site.in_flight == 0)

    async def test_lull(self) -> None:
        """One that is alone sends on where it is, and whoever else wants something gets it meanwhile."""
        digest, content = self.pull.add_blob(bytes(4 * LENGTH))
        turns = 0
        turn = SendfileBody.doWrite

        def count(body: SendfileBody) -> None:
            nonlocal turns
            turns += 1
            turn(body)

        def take() -> int:
            taken = 0
            with socket.create_connection(("127.0.0.1", self.port.getHost().port), 30) as client:
                client.sendall(b"GET /v2/x/blobs/%b HTTP/1.0\r\n\r\n" % str(digest).encode())
                while part := client.recv(100_000):
                    taken += len(part)
                    if taken < LENGTH:
                        time.sleep(0.001)
            return taken

        with (
            mock.patch("os.sendfile", wraps=os.sendfile) as sendfile,
            mock.patch.object(SendfileBody, "doWrite", count),
        ):
            taking = deferToThread(take)
            await self.eventually(lambda: bool(content.readers) and content.readers[-1].position > 0)
            other = await self.ask("GET", "/v2/")
            position = content.readers[-1].position
            self.assertGreater(await taking, 4 * LENGTH)
        self.assertEqual(other.status, 200)
        self.assertLess(position, 4 * LENGTH)
        self.assertGreater(sendfile.call_count, turns)

    async def test_corked(self) -> None:
        """All turns go out corked, so that every packet is full, and nothing stays corked."""
        seen: list[tuple[int, bool]] = []
        sendfile = os.sendfile

        def look(out: int, file: int, offset: int, count: int) -> int:
            seen.append((count, corked(out)))
            return sendfile(out, file, offset, count)

        client = await self.client()
        with mock.patch("os.sendfile", look):
            for data in (bytes(10), bytes(LENGTH), bytes(1000)):
                digest, _ = self.pull.add_blob(data)
                self.assertEqual(len((await client.ask("GET", f"/v2/x/blobs/{digest}")).body), len(data))
        self.assertEqual((seen[0], seen[1], seen[-1]), ((10, True), (LONE, True), (1000, True)))
        self.assertEqual({state for _, state in seen}, {True})
        (channel,) = self.site._channels
        self.assertFalse(corked(channel.transport.fileno()))


def corked(descriptor: int) -> bool:
    """Tell whether a socket is corked."""
    with socket.socket(fileno=os.dup(descriptor)) as duplicate:
        return bool(duplicate.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))
