"""The streams behind the page of what happens now: when something is sent, and when they end."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import json
from functools import partial
from typing import Any

import attrs
from twisted.internet.task import Clock

from nora.oci import Repository
from nora.web.doorkeeper import OpenDoor
from nora.web.happening import Happening
from nora.web.ui import streams
from nora.web.ui.rendering import Templates
from nora.web.ui.streams import EVERY, LIFE, MOST, SIGN, TAKES, event
from tests.support.http_client import RawClient
from tests.web.test_now import NowTestCase, fill, pull, push

API = "/api/v1/now/events"
PAGE = "/ui/now/events"


class StreamsTests(NowTestCase):
    """Streams on a clock of the test's own."""

    def make_clock(self) -> Clock:
        """Give a clock that stands still."""
        return Clock()

    async def hear(self, path: str = API) -> RawClient:
        """Begin to listen, and take the first event."""
        client = await self.client()
        client.request("GET", path)
        head = await client.head()
        self.assertEqual((head.status, head.headers["content-type"]), (200, "text/event-stream"))
        self.assertEqual(head.headers["cache-control"], "no-store")
        self.assertIn("default-src 'none'", head.headers["content-security-policy"])
        await client.until(lambda: b"\ndata:" in client.received and b"\n\n\r\n" in client.received)
        return client

    async def seconds(self, count: float) -> None:
        """Let time pass, second by second, and let all that is due be sent."""
        for _ in range(int(count)):
            self.clock.advance(1)
            await self.delivered()

    async def delivered(self) -> None:
        """Let what was written go out and come in: a few turns of the reactor, for it is this machine."""
        for _ in range(5):
            await self.turn(0.0005)

    def told(self, client: RawClient) -> list[Any]:
        """Read the events that a client of the JSON was sent."""
        return [json.loads(line[6:]) for line in client.received.split(b"\n") if line.startswith(b"data: ")]

    def has(self, client: RawClient, text: str) -> bool:
        """Tell whether a client was sent a text."""
        return text.encode() in client.received

    async def ended(self, client: RawClient) -> None:
        """Wait until the stream ended in order."""
        await client.until(lambda: client.received.endswith(b"\r\n0\r\n\r\n"))

    async def test_changes(self) -> None:
        """What changes is sent a second later; while nothing changes nothing is; nobody listens, nobody looks."""
        await self.seconds(30)
        self.assertEqual(self.looks, 0)
        client = await self.hear()
        await self.seconds(10)
        self.assertEqual(len(self.told(client)), 1)
        self.happening = Happening((fill(),), (), ())
        await self.seconds(1)
        self.happening = attrs.evolve(self.happening, fills=(fill(written=6 << 20),))
        await self.seconds(3)
        await client.until(lambda: len(self.told(client)) == 3)
        stored = [[each["stored_bytes"] for each in told["fills"]] for told in self.told(client)]
        self.assertEqual(stored, [[], [5 << 20], [6 << 20]])

    async def test_once_a_second(self) -> None:
        """However fast things change and time is looked at, there is one event a second."""
        client = await self.hear()
        for number in range(40):
            self.happening = Happening((fill(written=number),), (), ())
            self.clock.advance(EVERY / 4)
            await self.delivered()
        await client.until(lambda: len(self.told(client)) >= 10)
        self.assertLessEqual(len(self.told(client)), 11)

    async def test_sign_of_life(self) -> None:
        """A stream in which nothing happens shows now and then that it lives."""
        client = await self.hear()
        client.received = b""
        await self.seconds(SIGN - 1)
        self.assertEqual(client.received, b"")
        await self.seconds(2 + SIGN)
        await client.until(lambda: client.received == b"3\r\n:\n\n\r\n" * 2)

    async def test_page(self) -> None:
        """The page's stream has the page's own parts, without a script, and without what changes by itself."""
        self.happening = Happening((fill(),), (push(),), (pull(),))
        client = await self.hear(PAGE)
        text = client.received.decode()
        for word in ("data: <section", "<progress", "team/app", "10.0.0.5"):
            self.assertIn(word, text)
        self.assertNotIn("<script", text)
        await self.seconds(5)
        self.assertEqual(client.received.decode(), text)

    async def test_filled_once(self) -> None:
        """What many see alike is written once, and what one sees otherwise is not mixed up with it."""
        written = []
        templates = Templates.fill

        def fill_in(of: Templates, name: str, **facts: object) -> bytes:
            written.append(name)
            return templates(of, name, **facts)

        self.patch(Templates, "fill", fill_in)
        clients = [await self.hear(PAGE) for _ in range(4)]
        for number in range(1, 20):
            self.happening = Happening((fill(written=number << 20, size=20 << 20),), (), ())
            await self.seconds(1)
        self.assertEqual(written, ["now_parts"] * 20)
        for client in clients:
            await self.eventually(partial(self.has, client, "19.0\xa0MiB of"))

    async def test_one_look_for_all(self) -> None:
        """Who listens beside others costs no look of its own; the last one who leaves ends the looking."""
        clients = [await self.hear(path) for path in (API, PAGE, API)]
        self.looks = 0
        await self.seconds(5)
        self.assertEqual(self.looks, 5)
        for client in clients:
            client.transport.abortConnection()
        await self.eventually(lambda: not self.site.connections)
        await self.seconds(5)
        self.assertEqual(self.looks, 5)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_end_of_its_life(self) -> None:
        """After a minute a stream ends, and its connection serves on."""
        client = await self.hear()
        await self.seconds(LIFE + 1)
        await self.ended(client)
        client.received = b""
        self.assertEqual((await client.ask("GET", "/api/v1/now")).status, 200)
        self.assertEqual(self.count("nora_requests_total", method="GET", endpoint="events", status="200"), 1)

    async def test_other_rules(self) -> None:
        """When the door is exchanged, who listens must ask anew."""
        client = await self.hear()
        self.backend.doorkeeper = OpenDoor()
        await self.seconds(1)
        await self.ended(client)

    async def test_stop(self) -> None:
        """When this server stops, streams end at once, and those that begin then, too."""
        client = await self.hear()
        waiting = await self.client()
        self.site.drain()
        await self.ended(client)
        waiting.request("GET", API)
        await self.ended(waiting)
        self.assertEqual(len(self.told(waiting)), 1)
        await self.eventually(lambda: not self.site.in_flight)

    async def test_too_many(self) -> None:
        """There are so many streams; the next one is told when to come again, and has a place when one has left."""
        self.patch(streams, "MOST", 2)
        clients = [await self.hear(), await self.hear(PAGE)]
        for path in (API, PAGE):
            reply = await self.ask("GET", path)
            self.assertEqual((reply.status, reply.headers["retry-after"]), (503, "5"))
        clients[0].transport.abortConnection()
        await self.eventually(lambda: self.site.in_flight == 1)
        await self.hear()
        self.assertGreater(MOST, 2)

    async def test_who_does_not_read(self) -> None:
        """A client that takes nothing is sent no more, and loses its connection; others do not notice."""
        other = await self.hear()
        client = await self.hear()
        client.transport.pauseProducing()
        name = Repository("docker.io", "x" * 10_240)
        for number in range(int(LIFE) - 1):
            self.happening = Happening((), (), tuple(pull(name, at=number) for _ in range(50)))
            other.received = b""
            await self.seconds(1)
            if self.site.in_flight == 1:
                break
        self.assertEqual(self.site.in_flight, 1)
        self.assertLess(number, LIFE - 2)
        self.assertGreater(number, TAKES)
        self.assertIsNone(other.lost)
        client.transport.resumeProducing()
        await client.closed()

    async def test_head(self) -> None:
        """A HEAD is answered, and begins nothing."""
        for path in (API, PAGE):
            reply = await self.ask("HEAD", path)
            self.assertEqual((reply.status, reply.body), (200, b""))
        self.assertEqual(self.site.in_flight, 0)

    async def test_http_1_0(self) -> None:
        """A client that knows no chunks gets events all the same."""
        client = await self.client()
        client.request("GET", API, version="1.0")
        await client.until(lambda: client.received.endswith(b"}\n\n"))
        self.site.drain()
        await client.closed()

    async def test_defect(self) -> None:
        """When nobody can tell what happens, streams end, and it is logged."""
        client = await self.hear()
        self.defect = RuntimeError("inside")
        await self.seconds(1)
        await self.ended(client)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_nothing_gets_out_of_its_line(self) -> None:
        """A name with ends of lines in it makes no other event."""
        self.happening = Happening((), (), (pull(user="a\r\n\nevent: x\rdata: y\n\nz"),))
        client = await self.hear(PAGE)
        (said,) = [each for each in client.received.split(b"\n\n") if b"<section" in each]
        lines = said.partition(b"data: ")[2].split(b"\n")
        self.assertTrue(all(line.startswith(b"data: ") for line in lines[1:]), lines)
        self.assertEqual(event("a\rb\r\nc\n"), b"data: a\ndata: b\ndata: c\ndata: \n\n")
