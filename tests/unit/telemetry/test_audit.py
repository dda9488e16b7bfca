"""The audit log: whole lines, in order, bounded, and never in the way."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from nora.telemetry import AuditEvent, AuditLog
from nora.telemetry.audit import FIELDS, MAX_LINES

DOCS = Path(__file__).parents[3] / "docs"

EVENT = AuditEvent(
    time=1_700_000_000.1234,
    id="r1",
    client="192.0.2.1",
    method="GET",
    repository="library/x",
    reference="1",
    status=200,
    sent=5,
    seconds=0.12345678,
    aborted=False,
)


class Threads:
    """Threads that work when they are told to, or at once."""

    def __init__(self) -> None:
        self.held: list[Callable[[], object]] | None = None

    def run(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Work."""
        if self.held is None:
            return maybeDeferred(work, *arguments)
        done: Deferred[Any] = Deferred()
        self.held.append(lambda: maybeDeferred(work, *arguments).chainDeferred(done))
        return done


class EventTests(SynchronousTestCase):
    """`AuditEvent`."""

    def test_line(self) -> None:
        """A line is one JSON object with every field, in their order."""
        line = EVENT.line()
        self.assertTrue(line.endswith(b"}\n"))
        told = json.loads(line)
        self.assertEqual(tuple(told), FIELDS)
        self.assertEqual(told["time"], "2023-11-14T22:13:20.123Z")
        self.assertEqual((told["bytes"], told["seconds"], told["action"]), (5, 0.123457, "pull"))

    def test_hostile_strings(self) -> None:
        """Whatever a client calls itself, the line is one line of bounded length."""
        hostile = '"\n\r\x00\u2028\ud800' * 1000
        event = attrs.evolve(EVENT, agent=hostile, repository=hostile, reference=hostile, method=hostile)
        line = event.line()
        self.assertEqual(line.count(b"\n"), 1)
        self.assertLess(len(line), 10_000)
        self.assertEqual(json.loads(line)["agent"], hostile[:256])

    def test_documented(self) -> None:
        """Each field stands in docs/audit.md, and nothing else does."""
        lines = (DOCS / "audit.md").read_text("utf-8").splitlines()
        told = {line.split("`")[1] for line in lines if line.startswith("| `")}
        self.assertEqual(told, set(FIELDS))


class AuditLogTests(SynchronousTestCase):
    """`AuditLog`."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "audit.jsonl")
        self.events: list[Any] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.clock = Clock()
        self.threads = Threads()
        self.dropped: list[int] = []
        self.audit = AuditLog(self.path, self.clock, self.threads, self.dropped.append)
        self.addCleanup(lambda: self.successResultOf(Deferred.fromCoroutine(self.audit.stop())))

    def lines(self) -> list[str]:
        """Read the ids that are in the file."""
        return [json.loads(line)["id"] for line in Path(self.path).read_text("ascii").splitlines() if line]

    def record(self, *ids: str) -> None:
        for id_ in ids:
            self.audit.record(attrs.evolve(EVENT, id=id_))

    def test_each_second(self) -> None:
        """Lines are written together a second after the first, and no timer runs without any."""
        self.audit.start()
        self.record("a", "b")
        self.assertEqual(self.lines(), [])
        self.clock.advance(1)
        self.assertEqual(self.lines(), ["a", "b"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_each_64_kib(self) -> None:
        """A full buffer does not wait for the second."""
        self.record(*(f"{number}" for number in range(400)))
        self.assertGreater(len(self.lines()), 100)

    def test_mode(self) -> None:
        """The file is not for everyone."""
        previous = os.umask(0o022)
        self.addCleanup(os.umask, previous)
        self.audit.start()
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o640)

    def test_start_fails(self) -> None:
        """A file that cannot be made is told at the start."""
        audit = AuditLog(os.path.join(self.path, "x", "y"), self.clock, self.threads)
        self.assertRaises(OSError, audit.start)

    def test_stop(self) -> None:
        """The end writes what is there, also behind a write that still runs."""
        self.threads.held = []
        self.record("a")
        self.clock.advance(1)
        self.record("b")
        stopped = Deferred.fromCoroutine(self.audit.stop())
        while self.threads.held:
            self.assertNoResult(stopped)
            self.threads.held.pop(0)()
        self.successResultOf(stopped)
        self.threads.held = None
        self.assertEqual(self.lines(), ["a", "b"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_write_at_a_time(self) -> None:
        """What comes while a write runs waits for it, and keeps its order."""
        self.threads.held = []
        self.record("a")
        self.clock.advance(1)
        self.record("b")
        self.clock.advance(1)
        self.assertEqual(len(self.threads.held), 1)
        self.threads.held.pop()()
        self.clock.advance(1)
        self.threads.held.pop()()
        self.threads.held = None
        self.assertEqual(self.lines(), ["a", "b"])

    def test_full_buffer_behind_a_write(self) -> None:
        """A buffer that filled up while a write ran is written at once after it."""
        self.threads.held = []
        self.record("a")
        self.clock.advance(1)
        self.record(*(f"{number}" for number in range(400)))
        self.assertEqual(len(self.threads.held), 1)
        self.threads.held.pop()()
        self.assertEqual(len(self.threads.held), 1)
        self.threads.held.pop()()
        self.threads.held = None
        self.assertEqual(len(self.lines()), 401)

    def test_memory_is_bounded(self) -> None:
        """Behind a disk that hangs, lines past the bound are dropped, counted, and logged once."""
        self.threads.held = []
        for number in range(MAX_LINES * 2):
            self.record(str(number))
        written = len(self.threads.held)
        self.assertEqual(written, 1)
        self.assertGreater(sum(self.dropped), MAX_LINES // 2)
        self.assertLess(sum(self.dropped), MAX_LINES)
        self.assertEqual(len(self.flushed("loses lines")), 1)
        while self.threads.held:
            self.threads.held.pop()()
        self.threads.held = None
        self.assertEqual(len(self.lines()) + sum(self.dropped), MAX_LINES * 2)

    def flushed(self, text: str) -> list[Any]:
        """Give what was logged with `text` in it."""
        return [event for event in self.events if text in str(event.get("log_format"))]

    def test_full_disk(self) -> None:
        """A full disk drops lines, counts them and says so once; when there is room, it goes on."""
        self.audit.start()
        with mock.patch("os.write", side_effect=OSError(28, "No space left on device")):
            for _ in range(3):
                self.record("a", "b")
                self.clock.advance(1)
        self.assertEqual(self.dropped, [2, 2, 2])
        self.assertEqual(len(self.flushed("loses lines")), 1)
        self.record("c")
        self.clock.advance(1)
        self.assertEqual(self.lines(), ["c"])
        with mock.patch("os.write", side_effect=OSError(28, "No space left on device")):
            self.record("d")
            self.clock.advance(1)
        self.assertEqual(len(self.flushed("loses lines")), 2)

    def test_torn_line(self) -> None:
        """A disk that fills up within a line costs that line, and not the one after it."""
        self.audit.start()
        real = os.write
        with mock.patch("os.write", side_effect=lambda fd, data: real(fd, data[: len(data) // 2])):
            self.record("a", "b", "c")
            self.clock.advance(1)
        self.assertEqual(self.dropped, [2])
        self.record("d")
        self.clock.advance(1)
        text = Path(self.path).read_text("ascii").splitlines()
        self.assertEqual(json.loads(text[0])["id"], "a")
        self.assertEqual(json.loads(text[-1])["id"], "d")

    def test_reopen(self) -> None:
        """After a rotation, what was recorded before is in the old file and what comes later in the new one."""
        self.audit.start()
        self.record("a")
        os.rename(self.path, self.path + ".1")
        self.successResultOf(Deferred.fromCoroutine(self.audit.reopen()))
        self.record("b")
        self.clock.advance(1)
        self.assertEqual(self.lines(), ["b"])
        self.assertIn('"id":"a"', Path(self.path + ".1").read_text("ascii"))

    def test_reopen_fails(self) -> None:
        """When the new file cannot be made, that is logged, lines are lost and counted, and it is tried again."""
        self.audit.start()
        with mock.patch("os.open", side_effect=PermissionError(13, "Permission denied")):
            self.successResultOf(Deferred.fromCoroutine(self.audit.reopen()))
            self.record("a")
            self.clock.advance(1)
        self.assertEqual(self.dropped, [1])
        self.assertEqual(len(self.flushed("loses lines")), 1)
        self.record("b")
        self.clock.advance(1)
        self.assertEqual(self.lines(), ["b"])

    def test_shared_file(self) -> None:
        """Two logs on one file do not tear each other's lines."""
        other = AuditLog(self.path, self.clock, self.threads)
        for number in range(100):
            self.record(f"a{number}")
            other.record(attrs.evolve(EVENT, id=f"b{number}"))
            self.clock.advance(1)
        self.assertEqual(len(self.lines()), 200)
        self.successResultOf(Deferred.fromCoroutine(other.stop()))
