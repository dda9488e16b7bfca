"""Requests known by their bytes: answered as if they were read, and only when they say the same to everybody."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.protocol import ClientFactory

from nora.oci.manifest import OCI_MANIFEST
from nora.storage.interfaces import Stamp
from nora.web import hot as hot_module
from nora.web.hot import Hot
from nora.web.requests import RegistryRequest
from tests.support.hot_case import BODY, KEY, HotCase
from tests.support.http_client import RawClient
from tests.support.web_site import reactor


class KnownTests(HotCase):
    """A request that comes again."""

    def setUp(self) -> None:
        super().setUp()
        self.read = 0

        def counted(*arguments: Any) -> RegistryRequest:
            self.read += 1
            return RegistryRequest(*arguments)

        self.site.requestFactory = counted  # type: ignore[assignment]

    async def often(self, *requests: bytes, by: RawClient | None = None) -> list[bytes]:
        """Send each request four times, one after the other; gives what came last, but for date and id."""
        client = await self.client() if by is None else by
        said = []
        for request in requests:
            before = None
            for _ in range(4):
                client.transport.write(request)
                reply = await client.reply(body=not request.startswith(b"HEAD"))
                del reply.headers["date"]
                if b"X-Request-ID" not in request:
                    del reply.headers["x-request-id"]
                self.assertEqual(reply, before or reply)
                before = reply
            said.append(reply.body)
        return said

    def get(self, *headers: str, path: str = "", method: str = "GET") -> bytes:
        """Make the bytes of a request."""
        lines = [f"{method} {path or self.path} HTTP/1.1", "Host: nora.example", *headers, "", ""]
        return "\r\n".join(lines).encode()

    async def test_same_answer(self) -> None:
        """From the third time on a request is not read any more, and its answer is the same."""
        digest, _ = self.pull.add_blob(b"x" * 100_000)
        for number, (request, body) in enumerate(
            [
                (self.get("User-Agent: a"), BODY),
                (self.get("User-Agent: b"), BODY),
                (self.get(method="HEAD"), b""),
                (self.get(path=f"/v2/library/x/blobs/{digest}"), b"x" * 100_000),
                (self.get("X-Forwarded-For: 192.0.2.1", "Accept: a/b", "Accept: c/d"), BODY),
            ]
        ):
            self.read = 0
            self.assertEqual(await self.often(request), [body])
            # The answer itself may have been prepared for the request before.
            self.assertEqual(self.read, 1 if number in (1, 4) else 2, request)

    async def test_told(self) -> None:
        """Metrics and audit log hear of each, with an id of its own."""
        await self.often(self.get("User-Agent: docker/24"))
        events = [attrs.evolve(event, time=0, id="", seconds=0) for event in self.events.list]
        self.assertEqual(events, [events[0]] * 4)
        self.assertEqual((events[0].agent, events[0].client), ("docker/24", "127.0.0.1"))
        self.assertEqual(len({event.id for event in self.events.list}), 4)
        self.assertEqual(
            self.count("nora_requests_total", method="GET", endpoint="manifest", status="200"), 4
        )
        self.assertEqual(self.count("nora_request_seconds_count", endpoint="manifest"), 4)
        self.assertEqual(self.count("nora_docker_downloads_total"), 4)
        self.assertEqual(self.count("nora_sent_bytes_total"), 4 * len(BODY))
        self.assertIsNotNone(self.site.last_pulls.last("127.0.0.1"))
        given = [(what.client, what.reference, what.sent) for _, _, what in self.metrics.recent]
        self.assertEqual(given, [("127.0.0.1", "1", len(BODY))] * 4)
        self.assertEqual(list(self.metrics.pulls.take().values()), [4])
        self.assertEqual(self.site.in_flight, 0)

    async def test_read_each_time(self) -> None:
        """What names a user, has an id or a condition of its own, or ends the connection, is read each time."""
        for header in ("Authorization: Bearer x", "X-Request-ID: mine", "Via: 1.1 proxy", "Range: bytes=0-"):
            self.read = 0
            await self.often(self.get(header))
            self.assertEqual(self.read, 4, header)
        for _ in range(4):
            self.read = 0
            client = await self.client()
            client.transport.write(self.get("Connection: close"))
            self.assertEqual((await client.reply()).headers["connection"], "close")
            await client.closed()
            self.assertEqual(self.read, 1)

    async def test_long_ones(self) -> None:
        """A request of more than 2 KiB is not remembered."""
        await self.often(self.get(f"X: {'y' * 2048}"))
        self.assertEqual(self.read, 4)

    async def test_bounds(self) -> None:
        """So many are remembered and no more: the one not asked for longest is forgotten."""
        self.patch(hot_module, "MAX_KNOWN", 2)
        await self.often(*(self.get(f"X: {number}") for number in range(3)))
        for number, reads in ((2, 0), (1, 0), (0, 1)):
            self.read = 0
            client = await self.client()
            client.transport.write(self.get(f"X: {number}"))
            await client.reply()
            self.assertEqual(self.read, reads, number)

    async def test_in_pieces(self) -> None:
        """One that comes in pieces, or with another, is read; and what it begins is not taken for another's end."""
        request = self.get()
        await self.often(request)
        client = await self.client()
        self.read = 0
        for pieces in (
            [request[:20], request[20:]],
            [request * 2],
            [b"\r\n", request],
            [request + request[:9]],
        ):
            for piece in pieces:
                client.transport.write(piece)
                await self.turn(0.01)
            self.assertEqual((await client.reply()).body, BODY)
        self.assertEqual((await client.reply()).body, BODY)
        client.transport.write(request[9:])
        self.assertEqual((await client.reply()).body, BODY)
        self.assertGreaterEqual(self.read, 5)

    async def test_inside_of_a_body(self) -> None:
        """The bytes of a known request that are another one's body are no request."""
        request = self.get()
        await self.often(request)
        client = await self.client()
        client.transport.write(self.get(f"Content-Length: {len(request)}"))
        await self.turn(0.01)
        before = len(self.events.list)
        client.transport.write(request)
        await client.reply()
        await self.often(request, by=client)
        self.assertEqual(len(self.events.list), before + 5)

    async def test_a_body_that_came_along(self) -> None:
        """A request with a body is known with it, and by nothing less."""
        self.assertEqual(await self.often(self.get("Content-Length: 3") + b"abc"), [BODY])
        self.read = 0
        client = await self.client()
        client.transport.write(self.get("Content-Length: 3"))
        await self.turn(0.01)
        client.transport.write(b"abc")
        self.assertEqual((await client.reply()).body, BODY)
        self.assertEqual(self.read, 1)

    async def test_another_address(self) -> None:
        """The same bytes from another address are another request."""
        await self.often(self.get())
        client = RawClient()
        factory = ClientFactory()
        factory.noisy = False
        factory.buildProtocol = lambda address: client  # type: ignore[method-assign,assignment]
        reactor.connectTCP("127.0.0.1", self.port.getHost().port, factory, bindAddress=("127.0.0.2", 0))
        await client.opened()
        self.clients.append(client)
        self.read = 0
        await self.often(self.get(), by=client)
        self.assertEqual(self.read, 1)
        self.assertEqual({event.client for event in self.events.list}, {"127.0.0.1", "127.0.0.2"})

    async def test_changed(self) -> None:
        """Records, time, rules, and a server that drains send it the long way."""

        def change_record() -> None:
            self.pull.stamps[KEY] = (2, 2, 2)

        def pass_time() -> None:
            self.time += 61

        for change in (change_record, pass_time, self.site.forget):
            await self.often(self.get())
            asked = self.pull.asked
            change()
            await self.often(self.get())
            self.assertEqual(self.pull.asked, asked + 1)
        self.site.drain()
        self.assertEqual((await self.ask("GET", self.path)).headers["connection"], "close")

    async def test_idle_connection(self) -> None:
        """A connection on which only known requests come is not idle, and one that falls silent ends."""
        await self.often(self.get())
        self.site.timeOut = 0.3
        client = await self.client()
        for _ in range(5):
            client.transport.write(self.get())
            await client.reply()
            await self.turn(0.1)
        self.assertIsNone(client.lost)
        await client.closed()


class TurnTests(HotCase):
    """Requests that came together."""

    def setUp(self) -> None:
        super().setUp()
        self.looked = 0
        self.soon: list[Callable[[], None]] = []
        self.site.hot = Hot(self.look, lambda _: self.rights, lambda: self.time, soon=self.soon.append)

    def look(self, key: str) -> Stamp | None:
        """Tell a record's stamp, and count."""
        self.looked += 1
        return self.stamp(key)

    async def get(self) -> bytes:
        """Ask once."""
        return (await self.ask("GET", self.path)).body

    async def test_one_look_a_turn(self) -> None:
        """Within a turn the first look serves all; the next turn looks anew, and sees what changed."""
        for _ in range(3):
            await self.get()
        self.assertEqual(len(self.soon), 1)
        self.looked = 0
        for _ in range(3):
            await self.get()
        self.assertEqual((self.looked, len(self.soon), self.pull.asked), (0, 1, 1))
        self.pull.stamps[KEY] = (9, 9, 9)
        self.pull.add_manifest(BODY + b" ", OCI_MANIFEST, "1")
        self.soon.pop()()
        self.assertEqual(await self.get(), BODY + b" ")
        self.assertEqual(self.pull.asked, 2)

    async def test_one_that_is_read_looks_itself(self) -> None:
        """A request that had to be read may be younger than the turn: it looks."""
        for _ in range(3):
            await self.get()
        self.looked = 0
        await self.ask("GET", self.path, "X: y")
        self.assertEqual(self.looked, 2)
