"""A proxy that a test plays: it knows CONNECT alone, and leads every tunnel to where the test says.

    proxy = ConnectProxy(reactor, upstream.port)
    proxy.start()
    ...
    await proxy.stop()

What was asked is in `heads`; all that came through the tunnels from the client is in `through`.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater


class _Far(Protocol):
    """The tunnel's other end."""

    def __init__(self, near: _Near) -> None:
        self._near = near

    def connectionMade(self) -> None:
        self._near.proxy.open.add(self)

    def dataReceived(self, data: bytes) -> None:
        self._near.transport.write(data)  # type: ignore[union-attr]

    def connectionLost(self, reason: Any = None) -> None:
        self._near.proxy.open.discard(self)
        self._near.transport.loseConnection()  # type: ignore[union-attr]


class _Near(Protocol):
    """One client's connection."""

    def __init__(self, proxy: ConnectProxy) -> None:
        self.proxy = proxy
        self._head = b""
        self._asked = False
        self._far: _Far | None = None

    def connectionMade(self) -> None:
        self.proxy.open.add(self)

    def dataReceived(self, data: bytes) -> None:
        if self._asked:
            self.proxy.through += data
            self._far.transport.write(data)  # type: ignore[union-attr]
            return
        self._head += data
        if not self._head.endswith(b"\r\n\r\n"):
            return
        self._asked = True
        self.proxy.heads.append(self._head.decode())
        if self.proxy.answer is not None:
            self.transport.write(self.proxy.answer)  # type: ignore[union-attr]
            if self.proxy.closes:
                self.transport.loseConnection()  # type: ignore[union-attr]
            return
        self._far = _Far(self)
        where = TCP4ClientEndpoint(self.proxy.reactor, "127.0.0.1", self.proxy.target)
        connectProtocol(where, self._far).addCallbacks(
            lambda _: self.transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n"),  # type: ignore[union-attr]
            lambda _: self.transport.write(b"HTTP/1.1 502 Bad gateway\r\n\r\n"),  # type: ignore[union-attr]
        )

    def connectionLost(self, reason: Any = None) -> None:
        self.proxy.open.discard(self)
        if self._far is not None and self._far.transport is not None:
            self._far.transport.loseConnection()


class ConnectProxy:
    """The proxy. With `answer` it makes no tunnel but says that, and with `closes` hangs up."""

    def __init__(self, reactor: Any, target: int) -> None:
        self.reactor = reactor
        self.target = target
        self.port = 0
        self.answer: bytes | None = None
        self.closes = False
        self.heads: list[str] = []
        self.through = b""
        self.open: set[Any] = set()
        self._listening: Any = None

    @property
    def targets(self) -> list[str]:
        """What was asked for, as `host:port`."""
        return [head.split(" ")[1] for head in self.heads]

    def start(self) -> None:
        """Listen on a port that the kernel chooses."""
        factory: Any = Factory()
        factory.noisy = False
        factory.buildProtocol = lambda _: _Near(self)
        self._listening = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.port = self._listening.getHost().port

    async def stop(self) -> None:
        """Listen no more, and end what is open. A second call does nothing."""
        listening, self._listening = self._listening, None
        if listening is None:
            return
        await listening.stopListening()
        for each in list(self.open):
            each.transport.abortConnection()
        while self.open:
            await deferLater(self.reactor, 0.005)

    def stopped(self) -> Deferred[None]:
        """Stop, as a Deferred."""
        return Deferred.fromCoroutine(self.stop())
