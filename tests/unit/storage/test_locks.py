"""The real locks between real processes, and the lock of the one daemon."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.storage import DiskLocks, StoreBusy, StoreError, StoreLock
from nora.storage.locks import seize
from tests.support.storage_fakes import temporary_folder

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
CONTENDER = """
import sys, time
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from nora.storage.locks import DiskLocks

clock = Clock()
locks = DiskLocks(sys.argv[1], clock)
# The clock is driven faster than time passes: the wait must not end before the test does.
waiting = Deferred.fromCoroutine(locks.hold("a", 1e6))
got = []
waiting.addCallback(got.append)
print("ready", flush=True)
while not got:
    time.sleep(0.002)
    clock.advance(0.01)
# Freed in one step with the other by whoever had both: it is taken only when two have the first at once.
witness = []
Deferred.fromCoroutine(locks.hold("witness")).addCallback(witness.append)
print("gave up" if got[0] is None else "held" if witness[0] else "held twice", flush=True)
sys.stdin.read()
"""
DAEMON = """
import sys
from nora.storage.locks import StoreLock
StoreLock(sys.argv[1]).acquire(0)
print("held", flush=True)
sys.stdin.read()
"""


def start(case: SynchronousTestCase, script: str, *arguments: str) -> subprocess.Popen[bytes]:
    # Unbuffered: a line that a buffer took along with the one before is one that `select` never tells of.
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env={**os.environ, "PYTHONPATH": ROOT},
    )

    def end() -> None:
        process.kill()
        process.communicate()

    case.addCleanup(end)
    return process


def says(*processes: subprocess.Popen[bytes]) -> tuple[subprocess.Popen[bytes], str]:
    """Wait for the next line of any of them."""
    ready, _, _ = select.select([process.stdout for process in processes if process.stdout], [], [], 30)
    for process in processes:
        if process.stdout in ready:
            assert process.stdout is not None
            return process, process.stdout.readline().decode().strip()
    raise AssertionError("none of the processes said anything in 30 s")


class ProcessTests(SynchronousTestCase):
    """Locks and `kill -9`."""

    def test_killed_holders(self) -> None:
        """Of several processes one has the lock; when it is killed exactly one other has it, to the last."""
        path = os.path.join(temporary_folder(self), "locks")
        locks = DiskLocks(path, Clock())
        self.addCleanup(locks.close)
        contenders = [start(self, CONTENDER, path) for _ in range(4)]
        for contender in contenders:
            self.assertEqual(says(contender)[1], "ready")
        while contenders:
            holder, line = says(*contenders)
            self.assertEqual(line, "held")
            self.assertTrue(locks.held("a"))
            self.assertIsNone(self.successResultOf(locks.hold("a")))
            self.assertFalse(locks.held("b"))
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            contenders.remove(holder)
        self.assertFalse(locks.held("a"))
        self.assertIsNotNone(self.successResultOf(locks.hold("a")))
        self.assertEqual(os.path.getsize(path), 0)


class ClosingTests(SynchronousTestCase):
    """The end of the locks of a process."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.path = os.path.join(temporary_folder(self), "locks")
        self.locks, self.other = DiskLocks(self.path, self.clock), DiskLocks(self.path, self.clock)
        self.addCleanup(self.other.close)

    def test_close(self) -> None:
        """Closing frees what is held, sends away who waits, and ends the polling."""
        lock = self.successResultOf(self.locks.hold("a"))
        other = self.successResultOf(self.other.hold("b"))
        assert lock is not None
        assert other is not None
        waiters = [self.locks.hold("a", 5.0), self.locks.hold("b", 5.0)]
        results: list[object] = []
        for waiter in waiters:
            Deferred.fromCoroutine(waiter).addCallback(results.append)
        self.locks.close()
        self.assertEqual(results, [None, None])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(self.other.held("a"))
        lock.release()
        self.locks.close()
        self.failureResultOf(self.locks.hold("a"), RuntimeError)

    def test_a_link_is_refused(self) -> None:
        """A symbolic link in the place of the file is not followed."""
        os.symlink("/dev/null", self.path)
        self.failureResultOf(self.locks.hold("a"), OSError)

    def test_other_errors_are_not_hidden(self) -> None:
        """An error that does not mean that the lock is taken is raised."""
        self.assertRaises(OSError, seize, os.open("/dev/null", os.O_RDONLY), 0)


class StoreLockTests(SynchronousTestCase):
    """One daemon a store."""

    def setUp(self) -> None:
        self.path = os.path.join(temporary_folder(self), "daemon.lock")

    def lock(self) -> StoreLock:
        lock = StoreLock(self.path)
        self.addCleanup(lock.close)
        return lock

    def test_second_is_refused(self) -> None:
        """A second daemon waits its time, then says who has the store, and what to do."""
        self.lock().acquire(0)
        waits: list[float] = []
        error = self.assertRaises(StoreBusy, self.lock().acquire, 1.0, waits.append)
        self.assertAlmostEqual(sum(waits), 1.0)
        self.assertIsInstance(error, StoreError)
        self.assertEqual(error.pid, os.getpid())
        self.assertIn(str(os.getpid()), str(error))
        self.assertIn(os.path.dirname(self.path), str(error))

    def test_second_waits(self) -> None:
        """A second daemon has the store as soon as the first is done."""
        first, second = self.lock(), self.lock()
        first.acquire(0)
        second.acquire(5.0, lambda _: first.close())
        self.assertGreaterEqual(second.descriptor, 0)
        self.assertRaises(StoreBusy, first.acquire, 0)
        second.close()
        second.close()
        first.acquire(0)

    def test_inherited(self) -> None:
        """A worker that inherited the descriptor keeps the store when the parent is gone."""
        first, second = self.lock(), self.lock()
        first.acquire(0)
        inherited = os.dup(first.descriptor)
        first.close()
        self.assertRaises(StoreBusy, second.acquire, 0)
        os.close(inherited)
        second.acquire(0)

    def test_killed_daemon(self) -> None:
        """A killed daemon leaves no lock, though it leaves the file with its process id."""
        process = start(self, DAEMON, self.path)
        self.assertEqual(says(process)[1], "held")
        error = self.assertRaises(StoreBusy, self.lock().acquire, 0)
        self.assertEqual(error.pid, process.pid)
        process.kill()
        process.wait()
        self.lock().acquire(5.0, time.sleep)
        with open(self.path, encoding="ascii") as file:
            self.assertEqual(file.read(), f"{os.getpid()}\n")

    def test_unreadable_pid(self) -> None:
        """Without a process id in the file the message does without."""
        first = self.lock()
        first.acquire(0)
        os.ftruncate(first.descriptor, 0)
        error = self.assertRaises(StoreBusy, self.lock().acquire, 0)
        self.assertIsNone(error.pid)
        self.assertIn("another daemon", str(error))

    def test_no_place(self) -> None:
        """A lock that cannot be made is an error that names its path."""
        error = self.assertRaises(StoreError, StoreLock(f"{self.path}/x").acquire, 0)
        self.assertEqual(error.path, f"{self.path}/x")
