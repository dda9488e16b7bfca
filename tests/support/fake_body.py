"""The bodies that `tests.support.fake_server` sends: as slow, as stuck or as short as a fault wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import LoopingCall
from zope.interface import implementer

if TYPE_CHECKING:
    from tests.support.fake_server import Fault
    from tests.support.fake_upstream import FakeUpstream

_CHUNK = 64 * 1024
_TURNS = 20


@implementer(IPushProducer)
class FakeBody:
    """One body on its way out, no faster than the client reads."""

    def __init__(self, upstream: FakeUpstream, request: Any, path: str, body: bytes, fault: Fault) -> None:
        self._upstream = upstream
        self._request = request
        self._path = path
        self._body = body
        self._fault = fault
        self._at = 0
        self._stop = len(body) if fault.stall is None else min(fault.stall, len(body))
        self._paused = False
        self._ended = False
        self._ticking: LoopingCall | None = None

    def start(self) -> None:
        """Begin."""
        self._request.registerProducer(self, True)
        self._request.notifyFinish().addBoth(lambda _: self.stopProducing())
        if self._fault.stall is not None:
            self._upstream.held().addCallback(lambda _: self._unstall())
        if self._fault.rate is None:
            self._push()
        else:
            self._ticking = LoopingCall(self._tick, max(1, self._fault.rate // _TURNS))
            self._ticking.clock = self._upstream.reactor
            self._ticking.start(1 / _TURNS)

    def pauseProducing(self) -> None:
        """Wait: the client does not read."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Go on."""
        self._paused = False
        if self._ticking is None:
            self._push()

    def stopProducing(self) -> None:
        """Forget it: the client left, or all is sent."""
        self._ended = True
        if self._ticking is not None and self._ticking.running:
            self._ticking.stop()

    def _unstall(self) -> None:
        self._stop = len(self._body)
        self._push()

    def _tick(self, count: int) -> None:
        if not self._paused:
            self._write(count)

    def _push(self) -> None:
        while not self._paused and not self._ended and self._ticking is None:
            if self._at >= self._stop and self._stop < len(self._body):
                self._request.write(b"")  # the headers go out even when nothing of the body does
                return
            self._write(_CHUNK)

    def _write(self, count: int) -> None:
        if self._ended:
            return
        stop = self._stop if self._fault.truncate is None else min(self._stop, self._fault.truncate)
        data = self._body[self._at : min(self._at + count, stop)]
        self._at += len(data)
        self._upstream.sent[self._path] += len(data)
        self._request.write(data)
        if self._fault.truncate is not None and self._at >= self._fault.truncate:
            self._end()
            self._request.transport.loseConnection()
        elif self._at >= len(self._body):
            self._end()
            self._request.finish()

    def _end(self) -> None:
        self.stopProducing()
        self._request.unregisterProducer()
