"""Small bodies: read whole within a bound, drained to keep the connection, or given up.

A response whose body nobody reads pins its connection, so every response ends in one of these or in a transfer.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse

from nora.oci.errors import Broken, Unverified

_DRAIN_BYTES = 64 * 1024
_DRAIN_SECONDS = 1.0


def abort_body(response: IResponse) -> None:
    """Give the body up: its connection is closed, unless all of the body is here already."""
    response.deliverBody(_Drain(0))


def drain_body(response: IResponse, clock: IReactorTime) -> Deferred[None]:
    """Read what is left, up to 64 KiB and 1 second, so that the connection can serve again; else close it.

    The Deferred fires when that is done, however it went; cancelling it closes the connection.
    """
    drain = _Drain(_DRAIN_BYTES)
    drain.timer = clock.callLater(_DRAIN_SECONDS, drain.stop)
    response.deliverBody(drain)
    return drain.finished


def read_body(response: IResponse, limit: int) -> Deferred[bytes]:
    """Give the whole body.

    Fails with `Unverified` past `limit` bytes, with `Broken` when it is cut short; then, and when the Deferred is
    cancelled, the connection is closed. How long it takes is the caller's to bound.
    """
    reader = _Reader(limit)
    response.deliverBody(reader)
    return reader.finished


class _Drain(Protocol):
    """Takes bytes for nothing, at most `left`."""

    timer: IDelayedCall | None = None

    def __init__(self, left: int) -> None:
        self._left = left
        self.finished: Deferred[None] = Deferred(self._cancelled)

    def connectionMade(self) -> None:
        if self._left == 0:
            self.stop()

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self.stop()

    def connectionLost(self, reason: object = None) -> None:
        self._end()

    def stop(self) -> None:
        """Close the connection."""
        cast(IPushProducer, self.transport).stopProducing()
        self._end()

    def _cancelled(self, _: Deferred[None]) -> None:
        cast(IPushProducer, self.transport).stopProducing()
        self._forget_timer()

    def _end(self) -> None:
        self._forget_timer()
        if not self.finished.called:
            self.finished.callback(None)

    def _forget_timer(self) -> None:
        if self.timer is not None and self.timer.active():
            self.timer.cancel()


class _Reader(Protocol):
    """Collects a body."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: list[bytes] = []
        self._size = 0
        self.finished: Deferred[bytes] = Deferred(self._cancelled)

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._limit:
            self._chunks.append(data)
        else:
            self._chunks.clear()
            self._end(Failure(Unverified(f"the answer is larger than {self._limit} bytes")))
            self._stop()

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: B008
        if reason.check(ResponseDone):
            self._end(b"".join(self._chunks))
        elif reason.check(PotentialDataLoss):
            # Neither a length nor chunks: the end of the connection is the end of the body (RFC 9112 section 6.3).
            # Whoever reads a small body checks its digest or parses it.
            self._end(b"".join(self._chunks))
        else:
            self._end(Failure(Broken("the answer broke off")))

    def _end(self, result: bytes | Failure) -> None:
        if not self.finished.called:
            self.finished.callback(result)

    def _cancelled(self, _: Deferred[bytes]) -> None:
        self._stop()

    def _stop(self) -> None:
        cast(IPushProducer, self.transport).stopProducing()
