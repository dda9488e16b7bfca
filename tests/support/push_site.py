"""A site that can be pushed to, standing on fakes, over real sockets or without any."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from nora.access import Action, Rights
from nora.concurrency import Background
from nora.oci.errors import NoraError
from nora.web import Limits, build_site
from nora.web.channel import RegistryChannel
from nora.web.requests import RegistryRequest
from tests.support.http_client import Reply
from tests.support.web_site import SiteTestCase

EVERYTHING = Rights("kim", frozenset(Action))


class FakeDoorkeeper:
    """Lets in with `rights`, or raises `error`, at once or when `gate` is fired."""

    def __init__(self) -> None:
        self.rights = EVERYTHING
        self.error: NoraError | None = None
        self.gate: Any = None
        self.asked = 0
        self.instead: NoraError | None = None

    def at_once(self, request: RegistryRequest) -> Rights | None:
        """Need time."""
        return None

    async def admit(self, request: RegistryRequest) -> Rights:
        """Let in."""
        self.asked += 1
        if self.gate is not None:
            await self.gate()
        if self.error is not None:
            raise self.error
        return self.rights

    def answer(self, request: RegistryRequest, error: NoraError) -> NoraError:
        """Give `instead`, if there is one."""
        return self.instead or error


class PushSiteTestCase(SiteTestCase):
    """A site that lets in whom `self.door` does: everybody, as long as it is not told otherwise."""

    limits = Limits(stall_timeout=60)

    def setUp(self) -> None:
        """Build it anew, with a door."""
        self.door = FakeDoorkeeper()
        self.background = Background()
        super().setUp()

    def build(self) -> Any:
        """Build the site."""
        self.backend.doorkeeper = self.door
        return build_site(
            clock=self.clock,
            backend=self.backend,
            metrics=self.metrics,
            audit=self.events,  # type: ignore[arg-type]
            health=self._ask_health,
            ready=lambda: True,
            instance="nora-0123456789abcdef",
            background=self.background,
            limits=self.limits,
        )


class Wire(StringTransport):
    """A socket of which the test sees whether it is read, and how it ends."""

    aborted = False
    half_closed = False

    def abortConnection(self) -> None:
        """Be aborted."""
        self.aborted = True
        super().abortConnection()

    def loseWriteConnection(self) -> None:
        """Be closed for writing."""
        self.half_closed = True

    @property
    def paused(self) -> bool:
        """Whether it is not read."""
        return self.producerState == "paused"


class Exchange:
    """One connection without a socket: a real channel on a `Wire`."""

    def __init__(self, site: Any) -> None:
        self.wire = Wire()
        self.left = False
        self.channel: RegistryChannel = RegistryChannel()
        self.channel.factory = site
        self.channel.site = site
        self.channel.requestFactory = site.requestFactory
        self.channel.timeOut = site.timeOut
        self.channel.callLater = site.clock.callLater  # type: ignore[method-assign]
        self.channel.makeConnection(self.wire)

    def send(self, text: str | bytes) -> None:
        """Send bytes."""
        self.channel.dataReceived(text.encode("latin-1") if isinstance(text, str) else text)

    def request(self, method: str, path: str, *headers: str, version: str = "1.1") -> None:
        """Send the head of a request."""
        lines = [f"{method} {path} HTTP/{version}", "Host: nora.example", *headers, "", ""]
        self.send("\r\n".join(lines))

    def replies(self) -> list[Reply]:
        """Take what was answered, in order."""
        data = self.wire.value()
        self.wire.clear()
        found = []
        while data:
            head, _, data = data.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers: dict[str, str] = {}
            for line in lines:
                name, _, value = line.partition(": ")
                headers[name.lower()] = (
                    f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
                )
            length = int(headers.get("content-length", "0"))
            found.append(Reply(int(first.split()[1]), headers, data[:length]))
            data = data[length:]
        return found

    def reply(self) -> Reply:
        """Take the one answer."""
        (only,) = self.replies()
        return only

    def ask(self, method: str, path: str, *headers: str, body: bytes = b"") -> Reply:
        """Send a request with a body, and take the answer."""
        self.request(method, path, f"Content-Length: {len(body)}", *headers)
        if body:
            self.send(body)
        return self.reply()

    def leave(self) -> None:
        """Lose the connection."""
        if not self.left:
            self.left = True
            self.channel.connectionLost(Failure(ConnectionDone()))


class WireTestCase(PushSiteTestCase):
    """The same, on a clock of the test's own and without sockets."""

    def make_clock(self) -> Any:
        """Give the clock."""
        self.fake = Clock()
        return self.fake

    def listen(self) -> Any:
        """Listen nowhere."""
        return None

    async def tearDown(self) -> None:  # type: ignore[override]
        """End every connection; no timer may be left."""
        for exchange in self.exchanges:
            exchange.leave()
        self.assertEqual(self.fake.getDelayedCalls(), [])
        self.assertEqual((self.site.connections, self.site.in_flight, len(self.background)), (0, 0, 0))

    def setUp(self) -> None:
        """Begin with no connections."""
        self.exchanges: list[Exchange] = []
        super().setUp()

    def connect(self) -> Exchange:
        """Open a connection."""
        exchange = Exchange(self.site)
        self.exchanges.append(exchange)
        return exchange
