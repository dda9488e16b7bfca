"""Request bodies that stream: from the socket to whoever takes them, and never into memory as a whole.

A body is read no faster than it is taken: before `deliver`, and between `pause` and `resume`, the connection is not
read. What Twisted had read already, less than 128 KiB, waits here. A client that asked to be told before it sends
(`Expect: 100-continue`) is told when somebody wants the body, so a refusal costs it nothing.

While the body is wanted it has to come: with less than 16 KiB in `stall_timeout` seconds it fails, and the answer that
tells so is the last one on its connection (RFC 9110 section 15.5.9).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from nora.concurrency import Waiters
from nora.oci.errors import Broken, InvalidRequest, TooSlow

LEAST = 16 * 1024
"""Bytes that have to come in every `stall_timeout`, unless the body ends before."""
DRAINED = 1024 * 1024
"""What is left of a body that nobody wants, in bytes, is read and dropped up to this, to keep the connection."""
_LOOKS = 4


class Line(Protocol):
    """The connection a body comes over."""

    def hold(self) -> None:
        """Stop reading."""

    def release(self) -> None:
        """Read on."""

    def go_ahead(self) -> None:
        """Tell a client that waits for it to send the body (RFC 9110 section 15.2.1)."""


class IncomingBody:
    """The body of one request; a `nora.push.interfaces.Body`. `length` is None where it comes in chunks."""

    def __init__(
        self, line: Line, clock: IReactorTime, stall_timeout: float, length: int | None, *, expected: bool
    ) -> None:
        """`expected`: the client waits to be told before it sends."""
        self.length = length
        self.received = 0
        self.is_open = True
        """Bytes of it may still come."""
        self._line = line
        self._clock = clock
        self._timeout = stall_timeout
        self._expected = expected
        self._early: list[bytes] = []
        self._sink: Callable[[bytes], None] | None = None
        self._done: Waiters[None] = Waiters()
        self._error: BaseException | None = None
        self._held = False
        self._dropped = False
        self._slow = False
        self._call: IDelayedCall | None = None
        self._since = 0.0
        self._seen = 0

    @property
    def is_short(self) -> bool:
        """Whether what is left of it is little enough to be read and dropped."""
        if not self.is_open or self.length is None or self._expected or self._slow:
            return not self.is_open
        return self.length - self.received <= DRAINED

    # For who takes it.

    def deliver(self, sink: Callable[[bytes], None]) -> Deferred[None]:
        """Begin; see `nora.concurrency.Flow`. Fails with `Broken`, `TooSlow`, or what `sink` raises: that ends it."""
        done = self._done.wait()
        self._sink = sink
        early, self._early = self._early, []
        error = self._error
        for chunk in early:
            self._hand(sink, chunk)
            if self._error is not error:
                break
        if self._error is not None:
            self._done.fail(self._error)
        elif not self.is_open:
            self._done.succeed(None)
        elif len(self._done):
            self._watch()
            if not self._held:
                self._read()
        return done

    def pause(self) -> None:
        """Stop reading from the socket until `resume`."""
        if self.is_open and not self._held and not self._dropped:
            self._held = True
            self._line.hold()

    def resume(self) -> None:
        """Go on reading."""
        if self._held and self.is_open and not self._dropped:
            self._held = False
            self._since, self._seen = self._clock.seconds(), self.received
            if self._sink is not None:
                self._read()

    def abort(self) -> None:
        """Take no more of it: `deliver` fails; the request can still be answered."""
        if self.is_open and not self._dropped:
            self._give_up(Broken("the transfer was given up"))
            self._line.hold()

    # For the request.

    def wait(self) -> None:
        """Leave the rest unread until somebody wants it."""
        if self.is_open and self._sink is None and not self._dropped:
            self._line.hold()

    def take(self, data: bytes) -> None:
        """Take a piece that came."""
        self.received += len(data)
        # A client that sends needs no telling any more.
        self._expected = False
        if self._dropped:
            return
        if self._sink is None:
            self._early.append(data)
        else:
            self._hand(self._sink, data)

    def ended(self) -> None:
        """Tell that it came whole."""
        self.is_open = False
        self._stop()
        self._line.release()
        if self._sink is not None and not self._dropped:
            self._done.succeed(None)

    def malformed(self) -> None:
        """Tell that its form is broken: nobody knows where it ends, and nothing of it counts."""
        if self.is_open and not self._dropped:
            self._give_up(InvalidRequest("the body does not have the form of chunks"))

    def broke(self) -> None:
        """Tell that the connection is lost."""
        if self.is_open:
            self.is_open = False
            # What came may still be delivered, before the failure.
            self._give_up(Broken("the client left before the end of the body"), forget=False)

    def drop(self) -> None:
        """Read what is left and keep nothing of it: the request is answered."""
        if self.is_open:
            self._give_up(Broken("the request was answered before the end of its body"))
            self._line.release()

    def _hand(self, sink: Callable[[bytes], None], chunk: bytes) -> None:
        try:
            sink(chunk)
        except Exception as error:
            self._give_up(error)
            if self.is_open:
                self._line.hold()

    def _read(self) -> None:
        if self._expected:
            self._expected = False
            self._line.go_ahead()
        self._line.release()

    def _give_up(self, error: BaseException, *, forget: bool = True) -> None:
        self._stop()
        if forget:
            self._early = []
        if not self._dropped:
            self._dropped = True
            self._error = error
            self._done.fail(error)

    def _watch(self) -> None:
        self._since, self._seen = self._clock.seconds(), self.received
        self._call = self._clock.callLater(self._timeout / _LOOKS, self._look)

    def _look(self) -> None:
        self._call = None
        now = self._clock.seconds()
        if self._held or self.received - self._seen >= LEAST:
            self._since, self._seen = now, self.received
        elif now - self._since >= self._timeout:
            self._slow = True
            self._give_up(TooSlow(f"less than {LEAST} bytes of the body came in {self._timeout:g} seconds"))
            self._line.hold()
            return
        self._call = self._clock.callLater(self._timeout / _LOOKS, self._look)

    def _stop(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
