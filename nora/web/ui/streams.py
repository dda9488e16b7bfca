"""Streams: server-sent events, for those who keep the page of what happens now open.

While nobody listens nothing is done. Else everything is looked at once a second, for all listeners together; who sees
nothing new is sent nothing but a sign of life now and then. What bounds a stream: there are so many of them; one whose
client does not take it is broken off; and each ends by itself after a minute, and at once when this server stops or,
within a second, when its door is exchanged. A browser then asks anew, and is let in anew. (HTML Living Standard,
"Server-sent events".)
"""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nora.oci.errors import Overloaded
from nora.web.happening import Happening
from nora.web.requests import RegistryRequest

EVERY = 1.0
"""Seconds between two events, at least."""
SIGN = 15.0
"""Seconds after which a stream in which nothing is to be told shows that it lives."""
LIFE = 60.0
"""Seconds after which a stream ends."""
TAKES = 10.0
"""Seconds in which a client must take what was sent, once it is more than the connection holds."""
MOST = 32
"""Streams of one process."""
_LINES = re.compile(r"\r\n|\r|\n")
_BEGIN = b"retry: 1000\n\n"
_SIGN = b":\n\n"

Facts = dict[str, Any]


def event(text: str) -> bytes:
    """Write one event; a line of the text never becomes anything but data."""
    lines = "".join(f"data: {line}\n" for line in _LINES.split(text))
    return f"{lines}\n".encode("utf-8", "replace")


class Streams:
    """All streams of one process. `look` tells what happens; it may fail, and then the streams end."""

    _log = Logger()

    def __init__(self, look: Callable[[], Awaitable[Happening]], clock: IReactorTime) -> None:
        self.clock = clock
        self._look = look
        self._streams: list[Stream] = []
        self._timer: IDelayedCall | None = None
        self._looking = False

    def __len__(self) -> int:
        return len(self._streams)

    def make_room(self) -> None:
        """Raise `Overloaded` when no more can listen."""
        if len(self._streams) >= MOST:
            raise Overloaded(f"{MOST} listen already", 5)

    def add(self, stream: Stream) -> None:
        """Begin a stream; there is room."""
        self._streams.append(stream)
        stream.begin(self._ended)
        stream.check()
        self._schedule()

    def _ended(self, stream: Stream) -> None:
        if stream in self._streams:
            self._streams.remove(stream)
        if not self._streams and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        if self._streams and self._timer is None and not self._looking:
            self._timer = self.clock.callLater(EVERY, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._looking = True
        Deferred.fromCoroutine(self._round()).addErrback(self._failed).addCallback(self._again)

    async def _round(self) -> None:
        for stream in list(self._streams):
            stream.check()
        if not self._streams:
            return
        happening = await self._look()
        for stream in list(self._streams):
            await stream.show(happening)

    def _failed(self, failure: Failure) -> None:
        if self._streams:  # else this server stops
            self._log.failure("what happens now cannot be told", failure)
        for stream in list(self._streams):
            stream.end()

    def _again(self, _: object) -> None:
        self._looking = False
        self._schedule()


@implementer(IPushProducer)
class Stream:
    """One listener. `tell` makes of what happens what it may see, `write` makes of that the text of an event.

    `stays` tells whether it would still be let in by the same door. What differs in `now` alone is the same.
    """

    def __init__(
        self,
        request: RegistryRequest,
        clock: IReactorTime,
        tell: Callable[[Happening], Awaitable[Facts]],
        write: Callable[[Facts], str],
        stays: Callable[[], bool],
        first: Facts,
    ) -> None:
        self._request = request
        self._clock = clock
        self._tell = tell
        self._write = write
        self._stays = stays
        self._first = first
        self._shown: Facts = {}
        self._began = self._wrote_at = clock.seconds()
        self._full_since: float | None = None
        self._over: Callable[[Stream], None] | None = None

    def begin(self, over: Callable[[Stream], None]) -> None:
        """Send the first event; `over` is called once, at the end."""
        self._over = over
        self._request.ending = self.end
        self._request.notifyFinish().addBoth(lambda _: self._gone())
        self._request.registerProducer(self, True)
        self._request.write(_BEGIN)
        self._send(self._first)

    def check(self) -> None:
        """End it, if its time is over."""
        now = self._clock.seconds()
        if self._full_since is not None and now - self._full_since >= TAKES:
            self._request.abort()
        elif now - self._began >= LIFE or self._request.site.draining or not self._stays():
            self.end()

    async def show(self, happening: Happening) -> None:
        """Send what is new, if anything is and the client takes it."""
        now = self._clock.seconds()
        if self._over is None or self._full_since is not None or now - self._wrote_at < EVERY:
            return
        facts = await self._tell(happening)
        if self._request.gone:
            return
        if _lasting(facts) != self._shown:
            self._send(facts)
        elif now - self._wrote_at >= SIGN:
            self._wrote_at = now
            self._request.write(_SIGN)

    def end(self) -> None:
        """End it in order; one whose client takes nothing is broken off."""
        if self._over is None:
            return
        if self._full_since is not None:
            self._request.abort()
            return
        self._request.unregisterProducer()
        self._request.finish()

    # What the transport calls.

    def pauseProducing(self) -> None:
        """Send no more: the client does not take what was sent."""
        if self._full_since is None:
            self._full_since = self._clock.seconds()

    def resumeProducing(self) -> None:
        """Go on."""
        self._full_since = None

    def stopProducing(self) -> None:
        """Do nothing: the request tells that the connection is lost."""

    def _send(self, facts: Facts) -> None:
        self._shown = _lasting(facts)
        self._wrote_at = self._clock.seconds()
        self._request.write(event(self._write(facts)))

    def _gone(self) -> None:
        over, self._over = self._over, None
        self._request.ending = None
        if over is not None:
            over(self)


def _lasting(facts: Facts) -> Facts:
    return {key: value for key, value in facts.items() if key != "now"}
