"""One blob on its way from an upstream: a body that obeys its reader.

`Transfer` counts: a body that ends before its size is `Broken`, and so is one that goes on after it. It keeps
time: silence is `Broken` too, except while the reader itself has paused. Whatever happens, `deliver`'s Deferred fires
once, and afterwards the sink is not called any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.iweb import IResponse

from nora.concurrency import Tap
from nora.oci.errors import Broken
from nora.upstream.bodies import abort_body
from nora.upstream.tap import SocketTap
from nora.upstream.transport import connection_of


def _ignore(_: int) -> None:
    """Hear of bytes and do nothing."""


class Transfer:
    """The response to a blob GET, as `nora.upstream.interfaces.Incoming`.

    `size` is the whole blob's in bytes, or None; `start` the offset of the first byte; `read_timeout` the longest
    silence in seconds, also the longest wait for `deliver`; `received` hears of every chunk's length.
    """

    def __init__(
        self,
        response: IResponse,
        size: int | None,
        start: int,
        *,
        clock: IReactorTime,
        read_timeout: float,
        received: Callable[[int], None] = _ignore,
    ) -> None:
        self.size = size
        self.start = start
        self._response = response
        self._left = None if size is None else size - start
        self._clock = clock
        self._timeout = read_timeout
        self._received = received
        self._sink: Callable[[bytes], None] | None = None
        self._body: _Body | None = None
        self._tap: SocketTap | None = None
        self._done: Deferred[None] | None = None
        self._ended = False
        self._paused = False
        self._heard = clock.seconds()
        self._timer: IDelayedCall | None = clock.callLater(read_timeout, self._tick)

    def deliver(self, sink: Callable[[bytes], None]) -> Deferred[None]:
        """Begin; at most once. What `sink` raises ends the transfer and is what the Deferred fails with.

        Cancelling the Deferred closes the connection. After `pause`, up to 128 KiB that were read already may still
        come.
        """
        if self._done is not None:
            raise RuntimeError("a transfer is delivered once")
        done = self._done = Deferred(self._cancelled)
        if self._ended:
            done.errback(Failure(Broken("the transfer was given up before it began")))
            return done
        self._sink = sink
        self._heard = self._clock.seconds()
        self._body = _Body(self)
        self._response.deliverBody(self._body)
        if self._paused and not self._ended:
            self._body.pause()
        return done

    def tap(self) -> Tap | None:
        """Let a thread read the rest from the socket; None where it cannot."""
        connection = connection_of(self._response)
        if connection is None or self._ended or self._paused or self._body is None or self._left is None:
            return None
        self._tap = connection.tap(self._left, self._drew)
        return self._tap

    def _drew(self, count: int) -> None:
        self._heard = self._clock.seconds()
        if self._left is not None:
            self._left -= count
        self._received(count)

    def pause(self) -> None:
        """Stop reading from the socket; silence is not measured until `resume`."""
        self._paused = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._body is not None and not self._ended:
            self._body.pause()

    def resume(self) -> None:
        """Go on reading."""
        self._paused = False
        if self._ended:
            return
        self._heard = self._clock.seconds()
        if self._timer is None:
            self._timer = self._clock.callLater(self._timeout, self._tick)
        if self._body is not None:
            self._body.resume()

    def abort(self) -> None:
        """Close the connection; `deliver`'s Deferred fails with `Broken`. After the end it does nothing."""
        self._fail("the transfer was given up")

    def arrived(self, data: bytes) -> None:
        """Take a chunk from the body."""
        if self._ended:
            return
        self._heard = self._clock.seconds()
        if self._left is not None:
            if len(data) > self._left:
                self._fail("more bytes came than the blob has")
                return
            self._left -= len(data)
        self._received(len(data))
        if self._sink is not None:
            try:
                self._sink(data)
            except Exception:
                self._finish(Failure())

    def closed(self, clean: bool) -> None:
        """Hear of the body's end; `clean` means that the protocol says it is whole."""
        if not clean:
            self._fail("the connection broke")
        elif self._left:
            self._fail("the body ended early")
        else:
            self._finish(None)

    def _tick(self) -> None:
        self._timer = None
        left = self._heard + self._timeout - self._clock.seconds()
        if self._tap is not None and self._tap.drawing:
            left = self._timeout  # it is the disk that is waited for
        if left > 0:
            self._timer = self._clock.callLater(left, self._tick)
        else:
            self._fail(f"nothing came for {self._timeout:g} s")

    def _cancelled(self, _: Deferred[None]) -> None:
        self._stop()

    def _fail(self, reason: str) -> None:
        if self._left is not None and self.size is not None:
            reason = f"{reason}, {self._left} of {self.size} bytes missing"
        self._finish(Failure(Broken(reason)))

    def _finish(self, result: Failure | None) -> None:
        if self._ended:
            return
        self._stop()
        if self._done is not None and not self._done.called:
            self._done.callback(result)  # a Failure is an errback

    def _stop(self) -> None:
        """Leave nothing behind. The connection of a body that ended well is the pool's by now, out of reach."""
        self._ended = True
        self._sink = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._tap is not None:
            self._tap.close()
        if self._body is None:
            abort_body(self._response)
        else:
            self._body.stop()


class _Body(Protocol):
    """Twisted's end of it."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer

    def dataReceived(self, data: bytes) -> None:
        self._transfer.arrived(data)

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: B008
        # PotentialDataLoss, an end that only the connection's end tells, is not clean: it may be a cut.
        self._transfer.closed(reason.check(ResponseDone) is not None)

    def pause(self) -> None:
        """Stop reading."""
        cast(IPushProducer, self.transport).pauseProducing()

    def resume(self) -> None:
        """Read on."""
        cast(IPushProducer, self.transport).resumeProducing()

    def stop(self) -> None:
        """Close the connection."""
        cast(IPushProducer, self.transport).stopProducing()
