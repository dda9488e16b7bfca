"""How large turns are, by themselves and over real sockets."""

from __future__ import annotations

import os
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.web.turns import ROUND, TURN, Turns
from tests.support.web_site import SiteTestCase


class Stream:
    """A body that only takes turns."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._last = turns.taken

    def turn(self) -> int:
        """Take one; tells its size."""
        size = self._turns.take(self._last)
        self._last = self._turns.taken
        return size


class TurnsTests(SynchronousTestCase):
    """`Turns` by itself."""

    def test_alone(self) -> None:
        """A stream that is alone has the whole round, each time."""
        stream = Stream(Turns())
        self.assertEqual([stream.turn() for _ in range(5)], [ROUND] * 5)

    @given(st.integers(1, 200))
    def test_shared(self, count: int) -> None:
        """Streams that go round share the round; beyond eight each has the least."""
        turns = Turns()
        streams = [Stream(turns) for _ in range(count)]
        for stream in streams:
            stream.turn()
        for _ in range(3):
            sizes = [stream.turn() for stream in streams]
            self.assertEqual(set(sizes), {max(TURN, ROUND // count)})

    def test_slow(self) -> None:
        """Streams that take a turn now and then leave a fast one its size, and get the least themselves."""
        turns = Turns()
        fast, slow = Stream(turns), [Stream(turns) for _ in range(50)]
        for one in slow:
            sizes = [fast.turn() for _ in range(20)]
            self.assertEqual(sizes[1:], [ROUND] * 19)
            self.assertGreaterEqual(sizes[0], ROUND // 2)
            self.assertEqual(one.turn(), TURN)

    def test_gone(self) -> None:
        """When the others have ended, who is left has the whole round at the turn after the next."""
        turns = Turns()
        streams = [Stream(turns) for _ in range(8)]
        for stream in streams * 2:
            stream.turn()
        self.assertEqual([streams[0].turn() for _ in range(2)], [TURN, ROUND])


class SharingTests(SiteTestCase):
    """Turns of clients that take as fast as they can."""

    async def test_shared(self) -> None:
        """One client alone is sent more at a time than each of eight."""
        digest, _ = self.pull.add_blob(bytes(16 * 1024 * 1024))
        with mock.patch("os.sendfile", wraps=os.sendfile) as sendfile:
            await self.ask("GET", f"/v2/x/blobs/{digest}")
            self.assertEqual(max(call.args[3] for call in sendfile.call_args_list), ROUND)
            sendfile.reset_mock()
            clients = [await self.client() for _ in range(8)]
            for client in clients:
                client.request("GET", f"/v2/x/blobs/{digest}")
            for client in clients:
                await client.has(16 * 1024 * 1024)
            sizes = sorted(call.args[3] for call in sendfile.call_args_list)
            self.assertLess(sizes[len(sizes) // 2], ROUND // 2)
