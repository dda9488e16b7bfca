"""Waiters, single-flight and background work."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from nora.concurrency import Background, SingleFlight, Waiters


class WaitersTests(SynchronousTestCase):
    """One event for many."""

    def test_each_hears(self) -> None:
        """All who wait hear the event, and those who come later wait for the next."""
        waiters: Waiters[int] = Waiters()
        early = [waiters.wait(), waiters.wait()]
        waiters.succeed(1)
        late = waiters.wait()
        self.assertEqual([self.successResultOf(each) for each in early], [1, 1])
        self.assertNoResult(late)
        waiters.fail(ValueError("no"))
        self.failureResultOf(late, ValueError)

    def test_one_leaves(self) -> None:
        """A waiter that is cancelled takes nobody with it, and is not kept."""
        waiters: Waiters[int] = Waiters()
        leaving, staying = waiters.wait(), waiters.wait()
        leaving.cancel()
        self.failureResultOf(leaving)
        self.assertEqual(len(waiters), 1)
        waiters.succeed(2)
        self.assertEqual(self.successResultOf(staying), 2)

    def test_one_cancels_another(self) -> None:
        """A waiter that cancels another when it hears does no harm."""
        waiters: Waiters[int] = Waiters()
        first, second = waiters.wait(), waiters.wait()
        first.addCallback(lambda _: second.cancel())
        waiters.succeed(1)
        self.failureResultOf(second)
        third, fourth = waiters.wait(), waiters.wait()
        third.addErrback(lambda _: fourth.cancel())
        waiters.fail(ValueError("no"))
        self.failureResultOf(fourth)


class SingleFlightTests(SynchronousTestCase):
    """Work that is done once."""

    def setUp(self) -> None:
        self.background = Background()
        self.flights: SingleFlight[str, int] = SingleFlight(self.background)
        self.runs = 0
        self.gate: Deferred[int] = Deferred()

    async def work(self) -> int:
        self.runs += 1
        return await self.gate

    def test_once(self) -> None:
        """Those who ask while it runs share it; who asks afterwards runs it again."""
        waiting = [self.flights.run("key", self.work) for _ in range(3)]
        self.assertIn("key", self.flights)
        waiting[0].cancel()
        self.failureResultOf(waiting[0])
        self.gate.callback(7)
        self.assertEqual([self.successResultOf(each) for each in waiting[1:]], [7, 7])
        self.assertNotIn("key", self.flights)
        self.assertEqual(self.runs, 1)
        self.gate = Deferred()
        self.assertNoResult(self.flights.run("key", self.work))
        self.assertEqual(self.runs, 2)

    def test_failure(self) -> None:
        """All hear of a failure, and it is not remembered."""
        waiting = [self.flights.run("key", self.work) for _ in range(2)]
        self.gate.errback(ValueError("no"))
        for each in waiting:
            self.failureResultOf(each, ValueError)
        self.assertNotIn("key", self.flights)

    def test_asked_again_in_the_answer(self) -> None:
        """Who asks again while the answer goes out starts new work, and does not hang."""
        again: list[Deferred[int]] = []
        first = self.flights.run("key", self.work)

        def ask(_: int) -> None:
            self.gate = Deferred()
            again.append(self.flights.run("key", self.work))

        first.addCallback(ask)
        self.gate.callback(1)
        self.gate.callback(2)
        self.assertEqual(self.successResultOf(again[0]), 2)


class BackgroundTests(SynchronousTestCase):
    """Work that nobody waits for."""

    def test_idle(self) -> None:
        """`idle` waits for all of it, and fires at once when there is none."""
        background = Background()
        self.successResultOf(background.idle())
        gate: Deferred[None] = Deferred()

        async def work() -> None:
            await gate

        background.start(work())
        idle = background.idle()
        self.assertNoResult(idle)
        self.assertEqual(len(background), 1)
        gate.callback(None)
        self.successResultOf(idle)

    def test_defects_are_logged(self) -> None:
        """An exception is logged, and not lost."""

        async def work() -> None:
            raise ValueError("a defect")

        Background().start(work())
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_cancel(self) -> None:
        """Cancelled work ends quietly."""
        background = Background()

        async def work() -> None:
            await Deferred()

        background.start(work())
        background.cancel()
        self.successResultOf(background.idle())
        self.assertEqual(self.flushLoggedErrors(), [])
