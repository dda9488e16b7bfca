"""What every `Locks` promises, told to the real one and to the fake."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.storage.interfaces import Lock, Locks
from nora.storage.locks import DiskLocks
from tests.support.storage_fakes import LockTable, MemoryLocks, temporary_folder

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object


class LocksContract(_Base):
    """The suite. `one` and `other` are the locks of two processes on one store."""

    clock: Clock
    one: Locks
    other: Locks

    def held(self, locks: Locks, key: str = "a") -> Lock:
        lock: Lock | None = self.successResultOf(locks.hold(key))
        assert lock is not None
        return lock

    def waiting(self, locks: Locks, wait: float = 5.0, key: str = "a") -> Deferred[Lock | None]:
        return Deferred.fromCoroutine(locks.hold(key, wait))

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.01)):
            self.clock.advance(0.01)

    def test_one_holder(self) -> None:
        """A held lock is refused at once, in the same process and in another."""
        self.held(self.one)
        self.assertIsNone(self.successResultOf(self.one.hold("a")))
        self.assertIsNone(self.successResultOf(self.other.hold("a")))

    def test_keys_are_independent(self) -> None:
        """Holding one key keeps nobody from another."""
        self.held(self.one, "a")
        self.held(self.one, "b")
        self.held(self.other, "c")

    def test_held_is_seen_by_all(self) -> None:
        """`held` tells of the lock to its own process and to others, until it is free."""
        lock = self.held(self.one)
        self.assertEqual([self.one.held("a"), self.other.held("a"), self.one.held("b")], [True, True, False])
        lock.release()
        self.assertEqual([self.one.held("a"), self.other.held("a")], [False, False])

    def test_release_frees_once(self) -> None:
        """A second release does not free the lock of whoever took it since."""
        lock = self.held(self.one)
        lock.release()
        self.held(self.one)
        lock.release()
        self.assertTrue(self.one.held("a"))

    def test_waiters_are_served_in_order(self) -> None:
        """Those who wait in one process get the lock in the order in which they came."""
        lock: Lock | None = self.held(self.one)
        waiters = [self.waiting(self.one) for _ in range(3)]
        for waiter in waiters:
            self.assertNoResult(waiter)
            assert lock is not None
            lock.release()
            lock = self.successResultOf(waiter)
            assert lock is not None

    def test_waiting_ends(self) -> None:
        """Who waited its time gets None, and the lock stays with its holder."""
        self.held(self.one)
        waiters = [self.waiting(self.one, 1.0), self.waiting(self.other, 1.0)]
        self.pass_time(0.9)
        for waiter in waiters:
            self.assertNoResult(waiter)
        self.pass_time(0.2)
        self.assertEqual([self.successResultOf(waiter) for waiter in waiters], [None, None])
        self.assertTrue(self.one.held("a"))

    def test_across_processes(self) -> None:
        """Who waits in another process has a freed lock within two hundredths of a second."""
        lock = self.held(self.one)
        waiter = self.waiting(self.other)
        self.pass_time(0.5)
        self.assertNoResult(waiter)
        lock.release()
        self.pass_time(0.02)
        self.assertIsNotNone(self.successResultOf(waiter))
        self.assertIsNone(self.successResultOf(self.one.hold("a")))

    def test_cancelled_waiter_is_passed_over(self) -> None:
        """Cancelling one who waits takes only that one out of the queue."""
        lock = self.held(self.one)
        first, second, third = (self.waiting(self.one) for _ in range(3))
        second.cancel()
        self.failureResultOf(second, CancelledError)
        lock.release()
        got = self.successResultOf(first)
        assert got is not None
        got.release()
        self.assertIsNotNone(self.successResultOf(third))

    def test_last_waiter_cancelled(self) -> None:
        """When all who waited are gone, the lock is free after its release, and no timer is left."""
        lock = self.held(self.one)
        waiter = self.waiting(self.one)
        waiter.cancel()
        self.failureResultOf(waiter, CancelledError)
        lock.release()
        self.assertFalse(self.other.held("a"))
        self.pass_time(0.02)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_waiter_that_releases_at_once(self) -> None:
        """A long queue of those who free the lock as soon as they have it does not overflow the stack."""
        lock = self.held(self.one)
        served = []

        async def brief(number: int) -> None:
            mine = await self.one.hold("a", 5.0)
            assert mine is not None
            served.append(number)
            mine.release()

        for number in range(self.queue_length):
            Deferred.fromCoroutine(brief(number))
        lock.release()
        self.assertEqual(served, list(range(self.queue_length)))
        self.assertFalse(self.one.held("a"))

    queue_length = 1000


class DiskLocksTests(LocksContract, SynchronousTestCase):
    """The real locks: two descriptions of one file, as two processes have them."""

    def setUp(self) -> None:
        self.clock = Clock()
        path = os.path.join(temporary_folder(self), "locks")
        one, other = DiskLocks(path, self.clock), DiskLocks(path, self.clock)
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        self.one, self.other = one, other


class MemoryLocksTests(LocksContract, SynchronousTestCase):
    """The fake, with one table for both processes."""

    queue_length = 20

    def setUp(self) -> None:
        self.clock = Clock()
        table = LockTable()
        self.one, self.other = MemoryLocks(self.clock, table), MemoryLocks(self.clock, table)
