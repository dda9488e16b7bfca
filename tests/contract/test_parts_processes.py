"""Parts that several processes want: one leads, and its death makes way for one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Digest
from nora.storage.blobs import DiskBlobs
from nora.storage.interfaces import Writing, Written
from nora.storage.layout import Layout
from nora.storage.locks import DiskLocks
from nora.storage.parts import DiskParts
from tests.support.daemon import ROOT
from tests.support.storage_fakes import ImmediateDisk, MemoryIndex, temporary_folder

_PROCESS = """
import sys
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from nora.oci import Digest, Repository
from nora.storage.blobs import DiskBlobs
from nora.storage.interfaces import Published, Writing
from nora.storage.layout import Layout
from nora.storage.locks import DiskLocks
from nora.storage.parts import DiskParts
from tests.support.storage_fakes import ImmediateDisk, MemoryIndex

layout = Layout(sys.argv[1])
disk, locks = ImmediateDisk(), DiskLocks(layout.locks, Clock())
locks.open()
parts = DiskParts(layout, disk, locks, DiskBlobs(layout, disk, MemoryIndex()))
claimed = None
print("ready", flush=True)
for line in sys.stdin:
    word, _, argument = line.strip().partition(" ")
    if word == "claim":
        done = []
        Deferred.fromCoroutine(parts.claim(Digest.parse(argument))).addBoth(done.append)
        claimed = done[0]
        kind = "leads" if isinstance(claimed, Writing) else "published" if isinstance(claimed, Published) else "trails"
        print(kind, getattr(claimed, "written", "-"), flush=True)
    elif word == "append":
        claimed.append([bytes.fromhex(argument)])
        claimed.describe(12, Repository("docker.io", "library/thing"), "hub")
        print(claimed.written, flush=True)
"""


class _Other:
    """Another process on the store, told what to do line by line."""

    def __init__(self, root: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROCESS, root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
        )
        self.pid = self._process.pid

    def told(self) -> str:
        """Wait for a line of it."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def tell(self, line: str) -> None:
        """Say a line to it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


class ProcessTests(SynchronousTestCase):
    """Real processes, of which one is killed while it leads."""

    def test_a_dead_leader_is_followed_by_one(self) -> None:
        """Of the others exactly one leads on, with the bytes that were written; the rest trail it."""
        data = b"hello, world"
        digest = Digest.of(data)
        layout = Layout(temporary_folder(self))
        layout.prepare()
        locks = DiskLocks(layout.locks, Clock())
        locks.open()
        self.addCleanup(locks.close)
        blobs = DiskBlobs(layout, ImmediateDisk(), MemoryIndex())
        parts = DiskParts(layout, ImmediateDisk(), locks, blobs)
        others = [_Other(layout.root) for _ in range(3)]
        for other in others:
            self.addCleanup(self._end(other))
        self.assertEqual([other.told() for other in others], ["ready"] * 3)

        leader = self._race(others, digest, "leads 0")
        leader.tell(f"append {data[:5].hex()}")
        self.assertEqual(leader.told(), "5")
        trailing: Any = self.successResultOf(Deferred.fromCoroutine(parts.claim(digest)))
        self.addCleanup(trailing.close)
        self.assertEqual(
            (trailing.look(), trailing.size(), trailing.led()), (Written(5, False, False), 12, True)
        )

        leader.kill()
        others.remove(leader)
        self.assertFalse(trailing.led())
        self.assertEqual(trailing.look(), Written(5, False, False))
        successor = self._race(others, digest, "leads 5")
        self.assertTrue(trailing.led())

        successor.kill()
        others.remove(successor)
        writing = self.successResultOf(Deferred.fromCoroutine(parts.claim(digest)))
        assert isinstance(writing, Writing)
        self.assertEqual((writing.written, writing.size), (5, 12))
        self.successResultOf(writing.append([data[5:]]))
        self.assertTrue(self.successResultOf(writing.verify()))
        self.successResultOf(writing.publish())
        self.assertEqual(trailing.look(), Written(12, True, False))
        others[0].tell(f"claim {digest}")
        self.assertEqual(others[0].told(), "published -")

    def _race(self, others: list[_Other], digest: Digest, expected: str) -> _Other:
        """Let all claim at once; gives the one that leads."""
        for other in others:
            other.tell(f"claim {digest}")
        told = [other.told() for other in others]
        self.assertEqual(sorted(told), sorted([expected, *["trails -"] * (len(others) - 1)]))
        return others[told.index(expected)]

    @staticmethod
    def _end(other: _Other) -> Callable[[], None]:
        def end() -> None:
            if other._process.poll() is None:
                other.kill()

        return end
