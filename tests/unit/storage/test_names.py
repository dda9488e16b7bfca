"""Names: hosted or owned, never both, whoever comes at the same moment."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.oci.errors import InvalidName, Overloaded
from nora.storage.interfaces import Disk, OwnerRecord
from nora.storage.layout import Layout
from nora.storage.locks import DiskLocks
from nora.storage.names import RecordedNames, hosted_key
from nora.storage.records import DiskRecords
from nora.storage.repositories import RecordedRepositories
from tests.support.storage_fakes import ImmediateDisk, MemoryIndex, SteppedDisk, temporary_folder

NAME = "team/app"
OWNER = OwnerRecord("hub", "docker.io", provisional=False, since=1.0)


class Worker:
    """One process's view of the names of a store."""

    def __init__(self, root: str, clock: Clock, disk: Disk | None = None) -> None:
        self.layout = Layout(root)
        self.layout.prepare()
        self.locks = DiskLocks(self.layout.locks, clock)
        self.locks.open()
        self.records = DiskRecords(self.layout, disk or ImmediateDisk())
        self.repositories = RecordedRepositories(self.records, MemoryIndex())
        self.names = RecordedNames(self.records, self.repositories, self.locks, lambda: 5.0)


class NamesTests(SynchronousTestCase):
    """Two workers of one store."""

    def setUp(self) -> None:
        self.root, self.clock = temporary_folder(self), Clock()
        self.steps = SteppedDisk()
        self.pulls = self.worker(self.steps)
        self.pushes = self.worker()

    def worker(self, disk: Disk | None = None) -> Worker:
        worker = Worker(self.root, self.clock, disk)
        self.addCleanup(worker.locks.close)
        return worker

    def start(self, work: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(work)

    def finish(self, work: Deferred[bool]) -> bool:
        """Let the stepped disk work and the time pass until `work` has ended."""
        for _ in range(20):
            self.steps.drain()
            self.clock.advance(0.01)
        return bool(self.successResultOf(work))

    def assert_one(self, hosted: bool, name: str = NAME) -> None:
        """Check that the name is hosted, or owned, and not both."""
        for worker in (self.pulls, self.pushes):
            self.assertEqual(worker.names.known(name), hosted)
            self.assertEqual(self.successResultOf(self.start(worker.names.owned(name))), not hosted)

    def test_hosted_for_ever(self) -> None:
        """A marked name is hosted for every worker, and what is resolved later is not remembered."""
        self.assertFalse(self.pulls.names.known(NAME))
        self.assertTrue(self.successResultOf(self.start(self.pushes.names.mark(NAME))))
        self.assertTrue(self.successResultOf(self.start(self.pushes.names.mark(NAME))))
        record = self.successResultOf(self.start(self.pushes.records.get(hosted_key(NAME))))
        assert record is not None
        self.assertEqual(record.value, {"since": 5.0})
        self.assertFalse(self.finish(self.start(self.pulls.names.resolved(NAME, OWNER))))
        self.assert_one(hosted=True)

    def test_owned(self) -> None:
        """A name that an upstream owns is not hosted by a push, unless the configuration covers it: then alone."""
        self.assertTrue(self.finish(self.start(self.pulls.names.resolved(NAME, OWNER))))
        self.assertFalse(self.successResultOf(self.start(self.pushes.names.mark(NAME))))
        self.assert_one(hosted=False)
        self.assertTrue(self.successResultOf(self.start(self.pushes.names.mark(NAME, covered=True))))
        self.assert_one(hosted=True)

    def test_library(self) -> None:
        """What is owned under `library/` is owned for the one component; a longer name has nothing to do with it."""
        self.assertTrue(self.finish(self.start(self.pulls.names.resolved("library/nginx", OWNER))))
        self.assertFalse(self.successResultOf(self.start(self.pushes.names.mark("nginx"))))
        self.assertTrue(self.successResultOf(self.start(self.pushes.names.mark("team/nginx"))))

    def test_push_while_a_pull_resolves(self) -> None:
        """A push that comes between a pull's look and its record waits for it, and then finds the owner."""
        resolving = self.start(self.pulls.names.resolved(NAME, OWNER))
        self.assertEqual(len(self.steps.waiting), 1, "the owner's record is about to be written")
        marking = self.start(self.pushes.names.mark(NAME))
        self.assertNoResult(marking)
        self.assertTrue(self.finish(resolving))
        self.assertFalse(self.finish(marking))
        self.assert_one(hosted=False)

    def test_pull_resolves_while_a_push_marks(self) -> None:
        """A pull that comes while a push makes the name hosted waits for it, and remembers nothing."""
        marking = self.start(self.pulls.names.mark(NAME))
        self.assertGreater(len(self.steps.waiting), 0)
        resolving = self.start(self.pushes.names.resolved(NAME, OWNER))
        self.assertNoResult(resolving)
        self.assertTrue(self.finish(marking))
        self.assertFalse(self.finish(resolving))
        self.assert_one(hosted=True)

    def test_both_names_of_one(self) -> None:
        """`nginx` and `library/nginx` at the same moment: the push of one waits for the pull of the other."""
        resolving = self.start(self.pulls.names.resolved("library/nginx", OWNER))
        marking = self.start(self.pushes.names.mark("nginx"))
        self.assertNoResult(marking)
        self.assertTrue(self.finish(resolving))
        self.assertFalse(self.finish(marking))

    def test_held_for_too_long(self) -> None:
        """Who holds the lock for 10 s ends the waiting: a push is refused for now, a pull remembers nothing."""
        lock = self.successResultOf(self.start(self.pulls.locks.hold(f"name:{NAME}")))
        self.assertIsNotNone(lock)
        marking = self.start(self.pushes.names.mark(NAME))
        resolving = self.start(self.pushes.names.resolved(NAME, OWNER))
        self.clock.pump([1.0] * 11)
        self.failureResultOf(marking, Overloaded)
        self.assertFalse(self.successResultOf(resolving))
        self.assertEqual(self.successResultOf(self.start(self.pushes.names.owned(NAME))), False)

    def test_strange_names(self) -> None:
        """What is no name reaches no path."""
        for name in ("..", "a/../b", "A", "", "a\0"):
            with self.assertRaises(InvalidName):
                self.pushes.names.known(name)
