"""The pump where a flow has a tap."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from nora.concurrency import Drawing, Pump


class Spring:
    """A flow and its tap; a test says what it gives, and when."""

    def __init__(self) -> None:
        self.sink: Callable[[bytes], None] = lambda _: None
        self.done: Deferred[None] = Deferred()
        self.waiting: list[Deferred[bool]] = []
        self.there = b""
        self.told: list[int] = []
        self.tapped = 0
        self.aborted = False

    def deliver(self, sink: Callable[[bytes], None]) -> Deferred[None]:
        """Begin with two bytes that were there already."""
        self.sink = sink
        sink(b"ab")
        return self.done

    def pause(self) -> None:
        """Never needed."""
        raise AssertionError("a flow that is drawn has no need to pause")

    resume = pause

    def abort(self) -> None:
        """End it."""
        self.aborted = True
        self.done.errback(ValueError("given up"))

    def tap(self) -> Spring:
        """Give itself."""
        self.tapped += 1
        return self

    def ready(self) -> Deferred[bool]:
        """Wait for the test."""
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def read(self, into: memoryview) -> int:
        """Give what is there."""
        count = min(len(into), len(self.there))
        into[:count] = self.there[:count]
        self.there = self.there[count:]
        return count

    def drew(self, count: int) -> None:
        """Note it."""
        self.told.append(count)


class DrawingTests(SynchronousTestCase):
    """Bytes that a thread reads."""

    def setUp(self) -> None:
        self.flow = Spring()
        self.file = b""
        self.seen: list[bytes] = []
        self.appending: Deferred[None] | None = None
        self.error: Exception | None = None

    def run_pump(self, tap: bool = True, skip: int = 0) -> Deferred[None]:
        """Start one."""
        drawing = Drawing(self.flow.tap if tap else lambda: None, self.draw)
        return Pump(self.flow, self.append, skip, lambda: self.seen.append(self.file), drawing).run()

    def append(self, chunks: Sequence[bytes]) -> Deferred[None]:
        """Write, or wait for the test with `appending`."""
        self.file += b"".join(chunks)
        return self.appending or succeed(None)

    def draw(self, read: Callable[[memoryview], int], most: int) -> Deferred[int]:
        """Write what is there, or fail with `error`."""
        if self.error is not None:
            return fail(self.error)
        buffer = memoryview(bytearray(100))
        count = read(buffer)
        self.file += bytes(buffer[:count])
        return succeed(count)

    def test_in_order(self) -> None:
        """What was there is written first, then what is drawn, at last what the sink gets; each step is told."""
        self.appending = Deferred()
        done = self.run_pump()
        self.assertEqual((self.file, self.flow.waiting), (b"ab", []))  # nothing is drawn beside an append
        appending, self.appending = self.appending, None
        appending.callback(None)
        for data in (b"cd", b"", b"ef"):
            self.flow.there = data
            self.flow.waiting[-1].callback(True)
        self.flow.waiting[-1].callback(False)
        self.assertNoResult(done)
        self.flow.sink(b"g")
        self.flow.done.callback(None)
        self.successResultOf(done)
        self.assertEqual(self.file, b"abcdefg")
        self.assertEqual(self.flow.told, [2, 0, 2])
        self.assertEqual(self.seen, [b"ab", b"abcd", b"abcd", b"abcdef", b"abcdefg"])

    def test_broken(self) -> None:
        """A flow that breaks while its tap is waited for fails the pump, after all that came was written."""
        done = self.run_pump()
        self.flow.waiting[-1].callback(False)
        self.flow.done.errback(KeyError("broken"))
        self.failureResultOf(done, KeyError)
        self.assertEqual(self.file, b"ab")

    def test_broken_while_drawing(self) -> None:
        """A flow that breaks while a thread reads fails the pump once the thread is done."""
        drawn: Deferred[int] = Deferred()
        self.draw = lambda read, most: drawn  # type: ignore[method-assign]
        done = self.run_pump()
        self.flow.waiting[-1].callback(True)
        self.flow.done.errback(KeyError("broken"))
        self.assertNoResult(done)
        drawn.callback(5)
        self.flow.waiting[-1].callback(False)
        self.failureResultOf(done, KeyError)
        self.assertEqual(self.flow.told, [5])

    def test_failing_disk(self) -> None:
        """What the writing raises aborts the flow and fails the pump; the tap hears that the thread is done."""
        done = self.run_pump()
        self.error = OSError("no")
        self.flow.waiting[-1].callback(True)
        self.failureResultOf(done, OSError)
        self.assertEqual((self.flow.aborted, self.flow.told), (True, [0]))

    def test_no_tap(self) -> None:
        """Without a tap the sink gets everything; where bytes must be skipped none is asked for."""
        for tap, skip, left in ((False, 0, b"abc"), (True, 3, b"")):
            self.flow, self.file = Spring(), b""
            done = self.run_pump(tap, skip)
            self.flow.sink(b"c")
            self.flow.done.callback(None)
            self.successResultOf(done)
            self.assertEqual((self.file, self.flow.tapped), (left, 0))
