"""One stream whose client is slow: what it is sent, and when it is given up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.web.happening import Happening
from nora.web.ui.streams import EVERY, TAKES, Facts, Stream, Streams


class FakeRequest:
    """As much of a request as a stream uses."""

    gone = False
    ending: Any = None

    def __init__(self) -> None:
        self.site = SimpleNamespace(draining=False)
        self.written: list[bytes] = []
        self.ends: list[str] = []
        self._over: list[Deferred[None]] = []

    def notifyFinish(self) -> Deferred[None]:
        """Tell of the end."""
        self._over.append(Deferred())
        return self._over[-1]

    def registerProducer(self, producer: Stream, streaming: bool) -> None:
        """Know whom to stop."""
        assert streaming

    def unregisterProducer(self) -> None:
        """Know nobody any more."""

    def write(self, data: bytes) -> None:
        """Take bytes."""
        self.written.append(data)

    def finish(self) -> None:
        """End in order."""
        self._end("finished")

    def abort(self) -> None:
        """End at once."""
        self._end("aborted")

    def _end(self, how: str) -> None:
        self.ends.append(how)
        over, self._over = self._over, []
        for each in over:
            each.callback(None)


class SlowClientTests(SynchronousTestCase):
    """A stream that is told a number each second."""

    def setUp(self) -> None:
        self.clock, self.request, self.number = Clock(), FakeRequest(), 0
        self.streams = Streams(self.look, self.clock)
        self.stream = Stream(
            self.request,  # type: ignore[arg-type]
            self.clock,
            self.tell,
            lambda facts: str(facts["number"]),
            lambda: True,
            {"number": 0},
        )
        self.streams.add(self.stream)

    async def look(self) -> Happening:
        """Look, at nothing."""
        return Happening((), (), ())

    async def tell(self, happening: Happening) -> Facts:
        """Tell the next number."""
        self.number += 1
        return {"number": self.number}

    def seconds(self, count: int) -> list[bytes]:
        """Let time pass; gives what was written."""
        self.request.written = []
        for _ in range(count):
            self.clock.advance(EVERY)
        return self.request.written

    def test_waits_for_the_client(self) -> None:
        """While the client does not take what was sent nothing is sent; then it is told what is so by then."""
        self.assertEqual(self.seconds(2), [b"data: 1\n\n", b"data: 2\n\n"])
        self.stream.pauseProducing()
        self.assertEqual(self.seconds(int(TAKES) - 1), [])
        self.stream.resumeProducing()
        self.assertEqual(self.seconds(1), [b"data: 3\n\n"])
        self.assertEqual(self.request.ends, [])

    def test_given_up(self) -> None:
        """After so many seconds it is given up, and nobody looks for it any more."""
        self.seconds(1)
        self.stream.pauseProducing()
        self.stream.pauseProducing()
        self.seconds(int(TAKES))
        self.assertEqual((self.request.ends, len(self.streams)), (["aborted"], 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.stream.end()
        self.assertEqual(self.request.ends, ["aborted"])

    def test_stop(self) -> None:
        """When this server stops, one that takes nothing is broken off, and another one ends in order."""
        self.stream.pauseProducing()
        self.request.ending()
        self.assertEqual((self.request.ends, len(self.streams)), (["aborted"], 0))
        self.setUp()
        self.request.ending()
        self.assertEqual((self.request.ends, self.clock.getDelayedCalls()), (["finished"], []))
