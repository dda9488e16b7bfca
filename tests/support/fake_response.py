"""A response whose body a test plays, with the transport that its reader pauses and ends."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss


class FakeTransport:
    """Notes what the reader wants."""

    def __init__(self) -> None:
        self.paused = False
        self.stopped = False

    def pauseProducing(self) -> None:
        """Note it."""
        self.paused = True

    def resumeProducing(self) -> None:
        """Note it."""
        self.paused = False

    def stopProducing(self) -> None:
        """Note it."""
        self.stopped = True


class FakeResponse:
    """The part of `twisted.web.iweb.IResponse` that bodies need."""

    def __init__(self) -> None:
        self.transport = FakeTransport()
        self.protocol: Protocol | None = None

    def deliverBody(self, protocol: Any) -> None:
        """Begin."""
        assert self.protocol is None, "a body is delivered once"
        self.protocol = protocol
        protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        """Let bytes come."""
        assert self.protocol is not None
        self.protocol.dataReceived(data)

    def finish(self) -> None:
        """End as the protocol says a whole body ends."""
        self._lose(ResponseDone())

    def close(self) -> None:
        """End where only the connection's end tells it."""
        self._lose(PotentialDataLoss())

    def cut(self) -> None:
        """Break off."""
        self._lose(ResponseFailed([Failure(ConnectionLost())]))

    def _lose(self, reason: Exception) -> None:
        assert self.protocol is not None
        self.protocol.connectionLost(Failure(reason))
