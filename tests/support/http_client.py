"""An HTTP client for tests that sees every byte: it pipelines, stalls and leaves when it is told to."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure

from nora.concurrency import Waiters


@attrs.frozen
class Reply:
    """One answer: its headers have lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes

    def error(self) -> dict[str, Any]:
        """Give the one error of an OCI error body."""
        assert self.headers["content-type"] == "application/json", self.headers
        (entry,) = json.loads(self.body)["errors"]
        assert isinstance(entry, dict)
        return entry


class RawClient(Protocol):
    """A connection. `received` is all that came and was not taken as a `Reply`."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None
        self._changed: Waiters[None] = Waiters()
        self._connected: Deferred[None] = Deferred()

    def opened(self) -> Deferred[None]:
        """Wait, once, until the connection is there."""
        return self._connected

    def connectionMade(self) -> None:
        """Be connected."""
        self._connected.callback(None)

    def dataReceived(self, data: bytes) -> None:
        """Keep what comes."""
        self.received += data
        self._changed.succeed(None)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Be closed."""
        self.lost = reason
        self._changed.succeed(None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition`, looking whenever something comes."""
        while not condition():
            if self.lost is not None:
                raise ConnectionError(f"closed: {self.lost.getErrorMessage()}: {self.received[:300]!r}")
            await self._changed.wait()

    async def has(self, count: int) -> None:
        """Wait until `count` bytes are there."""
        await self.until(lambda: len(self.received) >= count)

    async def closed(self) -> Failure:
        """Wait until the connection is closed; tells why."""
        while self.lost is None:
            await self._changed.wait()
        return self.lost

    def request(self, method: str, path: str, *headers: str, version: str = "1.1", body: bytes = b"") -> None:
        """Send a request; a `body` brings its length."""
        length = [f"Content-Length: {len(body)}"] if body else []
        lines = [f"{method} {path} HTTP/{version}", "Host: nora.example", *headers, *length, "", ""]
        self.transport.write("\r\n".join(lines).encode("latin-1") + body)

    async def head(self) -> Reply:
        """Wait for the headers of an answer, and take them alone."""
        await self.until(lambda: b"\r\n\r\n" in self.received)
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return Reply(int(first.split()[1]), headers, b"")

    async def reply(self, *, body: bool = True) -> Reply:
        """Wait for an answer with Content-Length and take it; `body=False` for HEAD."""
        told = await self.head()
        length = int(told.headers.get("content-length", "0")) if body and told.status != 304 else 0
        await self.until(lambda: len(self.received) >= length)
        data, self.received = self.received[:length], self.received[length:]
        return attrs.evolve(told, body=data)

    async def ask(
        self, method: str, path: str, *headers: str, version: str = "1.1", body: bytes = b""
    ) -> Reply:
        """Send a request and wait for its answer."""
        self.request(method, path, *headers, version=version, body=body)
        return await self.reply(body=method != "HEAD")


async def connect(reactor: IReactorTCP, port: int) -> RawClient:
    """Open a connection to a port of this machine."""
    client = RawClient()
    factory = ClientFactory()
    factory.noisy = False
    factory.buildProtocol = lambda address: client  # type: ignore[method-assign,assignment]
    reactor.connectTCP("127.0.0.1", port, factory)
    await client.opened()
    return client
