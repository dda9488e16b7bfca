"""The disk: its threads, and their end."""

from __future__ import annotations

import threading
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import TestCase

from nora.storage import DiskStopped, ThreadedDisk
from nora.storage import disk as disk_module


class ThreadedDiskTests(TestCase):
    """On the real reactor, with real threads."""

    timeout = 20.0

    def setUp(self) -> None:
        self.disk = ThreadedDisk(cast(IReactorFromThreads, reactor), threads=2)
        self.disk.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.disk.stop()))

    async def test_result(self) -> None:
        """Work runs in another thread; its result, or what it raised, comes back on the reactor's."""

        def work(left: int, right: int) -> tuple[int, int]:
            return left + right, threading.get_ident()

        total, thread = await self.disk.run(work, 1, 2)
        self.assertEqual(total, 3)
        self.assertNotEqual(thread, threading.get_ident())

        def fails() -> None:
            raise LookupError("x")

        with self.assertRaises(LookupError):
            await self.disk.run(fails)

    async def test_threads_are_bounded(self) -> None:
        """No more work runs at once than there are threads; the rest is done when they are free."""
        entered, go_on = threading.Semaphore(0), threading.Event()
        self.addCleanup(go_on.set)
        running: list[int] = []

        def work() -> int:
            running.append(1)
            entered.release()
            go_on.wait(10)
            count = len(running)
            running.pop()
            return count

        results = [self.disk.run(work) for _ in range(6)]
        for _ in range(2):
            self.assertTrue(entered.acquire(timeout=10))
        go_on.set()
        self.assertTrue(all([(await result) <= 2 for result in results]))

    async def test_bringing_leaves_threads(self) -> None:
        """Half of the threads at most bring what is read: the rest of the work is done meanwhile."""
        entered, go_on = threading.Semaphore(0), threading.Event()
        self.addCleanup(go_on.set)
        begun: list[int] = []

        def bring(descriptor: int, start: int, stop: int) -> None:
            begun.append(descriptor)
            entered.release()
            go_on.wait(10)

        self.patch(disk_module, "bring", bring)
        brought = [self.disk.bring(number, 0, 10) for number in range(4)]
        self.assertTrue(entered.acquire(timeout=10))
        self.assertEqual(await self.disk.run(int, "7"), 7)
        self.assertEqual(begun, [0])
        for given_up in (brought[0], brought[1]):  # one that is under way, and one that waits for its turn
            given_up.cancel()
            self.failureResultOf(given_up, CancelledError)
        self.assertEqual(await self.disk.run(int, "7"), 7)
        self.assertEqual(begun, [0])
        go_on.set()
        await brought[2]
        await brought[3]
        self.assertEqual(begun, [0, 2, 3])

    async def test_bringing_fails(self) -> None:
        """What the disk says is told, and the turn is given on; a disk that has stopped refuses."""
        for _ in range(3):
            with self.assertRaises(OSError):
                await self.disk.bring(-1, 0, 10)
        await self.disk.stop()
        for _ in range(3):
            self.failureResultOf(self.disk.bring(-1, 0, 10), DiskStopped)

    async def test_stop_waits_for_work(self) -> None:
        """Stopping takes no new work, and ends when what was taken, given up or not, has ended."""
        go_on = threading.Event()
        self.addCleanup(go_on.set)
        ended: list[str] = []

        def work(name: str) -> None:
            go_on.wait(10)
            ended.append(name)

        kept, given_up = self.disk.run(work, "kept"), self.disk.run(work, "given up")
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        stopped = Deferred.fromCoroutine(self.disk.stop())
        self.assertNoResult(stopped)
        self.failureResultOf(self.disk.run(work, "late"), DiskStopped)
        go_on.set()
        await stopped
        await kept
        self.assertEqual(sorted(ended), ["given up", "kept"])
        self.assertEqual([t for t in threading.enumerate() if "-disk-" in t.name], [])

    async def test_never_started(self) -> None:
        """A disk that was never started refuses work, and stops at once."""
        disk = ThreadedDisk(cast(IReactorFromThreads, reactor))
        self.failureResultOf(disk.run(int), DiskStopped)
        await disk.stop()
