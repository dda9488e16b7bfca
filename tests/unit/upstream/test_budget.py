"""Work within a bound of time."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.oci.errors import TimedOut, Unavailable
from nora.upstream.budget import within


class BudgetTests(SynchronousTestCase):
    """`within` has the last word on time and cancellation."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.waited: Deferred[str] = Deferred()
        self.late: list[object] = []
        self.seen: list[type[BaseException]] = []

    async def work(self) -> str:
        try:
            return await self.waited
        except BaseException as error:
            self.seen.append(type(error))
            raise

    async def stubborn(self) -> str:
        try:
            return await self.waited
        except CancelledError:
            return "late"

    async def translating(self) -> str:
        try:
            return await self.waited
        except CancelledError:
            raise Unavailable("cancelled, said in other words") from None

    async def faulty(self) -> str:
        try:
            return await self.waited
        finally:
            raise ZeroDivisionError

    def test_result(self) -> None:
        """What the work gives or raises passes through, and no timer is left."""
        done = within(self.clock, 5, self.work())
        self.waited.callback("it")
        self.assertEqual(self.successResultOf(done), "it")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.waited = Deferred()
        done = within(self.clock, 5, self.work())
        self.waited.errback(Unavailable("down"))
        self.failureResultOf(done, Unavailable)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_at_once(self) -> None:
        """Work that waits for nothing is done at once."""
        self.waited.callback("it")
        self.assertEqual(self.successResultOf(within(self.clock, 5, self.work())), "it")

    def test_time_is_up(self) -> None:
        """When the time is up the work is cancelled, and the failure says so, with the budget."""
        done = within(self.clock, 5, self.work())
        self.clock.advance(4.9)
        self.assertNoResult(done)
        self.clock.advance(0.1)
        self.assertIn("5 s", self.failureResultOf(done, TimedOut).value.message)
        self.assertEqual(self.seen, [CancelledError])

    def test_cancelled(self) -> None:
        """Cancelling cancels the work, and is always seen as cancellation."""
        for work in (self.work, self.translating, self.stubborn):
            self.waited = Deferred()
            done = within(self.clock, 5, work())
            done.cancel()
            self.failureResultOf(done, CancelledError)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_late_result(self) -> None:
        """A result that comes in spite of everything is handed to whoever must end it."""
        done = within(self.clock, 5, self.stubborn(), self.late.append)
        self.clock.advance(5)
        self.failureResultOf(done, TimedOut)
        self.assertEqual(self.late, ["late"])
        self.waited = Deferred()
        self.failureResultOf(self.cancelled(within(self.clock, 5, self.stubborn())), CancelledError)

    def test_defects_are_logged(self) -> None:
        """A defect in work that was given up is not lost."""
        self.failureResultOf(self.cancelled(within(self.clock, 5, self.faulty())), CancelledError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def cancelled(self, done: Deferred[str]) -> Deferred[str]:
        done.cancel()
        return done
