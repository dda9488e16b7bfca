"""A push into a real store in a temporary folder, with bodies that a test plays and a fake clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from nora.access import Action, Rights
from nora.concurrency import Background
from nora.oci.errors import Broken
from nora.push.mounts import Mounts
from nora.push.sessions import Sessions
from nora.push.targets import HostedTargets
from nora.storage.blobs import DiskBlobs
from nora.storage.holdings import Holdings
from nora.storage.interfaces import Disk
from nora.storage.layout import Layout
from nora.storage.locks import DiskLocks
from nora.storage.names import RecordedNames
from nora.storage.records import DiskRecords
from nora.storage.repositories import RecordedRepositories
from nora.storage.uploads import DiskUploads
from nora.upstream.routing import RoutedUpstream, Routing
from tests.support.scripted import ScriptedUpstream
from tests.support.storage_fakes import ImmediateDisk, MemoryIndex

PUSHER = Rights("alice", frozenset({Action.PULL, Action.PUSH}))
STRANGER = Rights(None, frozenset({Action.PULL, Action.PUSH}))


class PlayedBody:
    """A request's body that comes as the test says."""

    def __init__(self, length: int | None = None) -> None:
        self.length = length
        self.paused = False
        self.aborted = False
        self.sink: Callable[[bytes], None] | None = None
        """None before it is read."""
        self._done: Deferred[None] = Deferred()

    def deliver(self, sink: Callable[[bytes], None]) -> Deferred[None]:
        """Begin."""
        self.sink = sink
        return self._done

    def pause(self) -> None:
        """Note it."""
        self.paused = True

    def resume(self) -> None:
        """Note it."""
        self.paused = False

    def abort(self) -> None:
        """End it as a client that is cut off ends."""
        self.aborted = True
        self.break_off()

    def send(self, *chunks: bytes) -> None:
        """Let bytes arrive."""
        for chunk in chunks:
            assert self.sink is not None, "nobody reads this body"
            self.sink(chunk)

    def end(self) -> None:
        """End cleanly."""
        self._done.callback(None)

    def break_off(self, error: Exception | None = None) -> None:
        """Let the client go in the middle, or `error` be found."""
        self._done.errback(error or Broken("the client left"))


class WholeBody(PlayedBody):
    """A body that is there at once."""

    def __init__(self, data: bytes, length: int | None = None, *, counted: bool = True) -> None:
        super().__init__(len(data) if counted and length is None else length)
        self._data = data

    def deliver(self, sink: Callable[[bytes], None]) -> Deferred[None]:
        """Send all of it."""
        done = super().deliver(sink)
        if self._data:
            self.send(self._data)
        if not done.called:
            self.end()
        return done


class Pushing:
    """One process's push into the store at `root`. Two of them on one root are two processes, or one restarted."""

    def __init__(
        self,
        root: str,
        *,
        clock: Clock | None = None,
        disk: Disk | None = None,
        max_size: int = 1 << 40,
        max_uploads: int = 100,
        hosted: Collection[str] = (),
        index: MemoryIndex | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.later = 0.0
        """Seconds that the wall clock is ahead of the real one, which files get their times from."""
        self.layout = Layout(root)
        self.layout.prepare()
        self.disk = disk or ImmediateDisk()
        self.locks = DiskLocks(self.layout.locks, self.clock)
        self.index = index or MemoryIndex()
        self.blobs = DiskBlobs(self.layout, self.disk, self.index)
        self.records = DiskRecords(self.layout, self.disk)
        self.repositories = RecordedRepositories(self.records, self.index)
        self.names = RecordedNames(self.records, self.repositories, self.locks, self.now)
        self.uploads = DiskUploads(self.layout, self.disk, self.locks, self.blobs, self.now, max_uploads)
        self.hub, self.ghcr = ScriptedUpstream("hub", "docker.io"), ScriptedUpstream("ghcr", "ghcr.io")
        self.routing = Routing(
            [RoutedUpstream(self.hub, "hub"), RoutedUpstream(self.ghcr, "gh")],
            own_hosts=("nora.internal:4000",),
            hosted=hosted,
        )
        self.holdings = Holdings(self.layout, self.disk, self.records)
        self.targets = HostedTargets(self.routing, self.names, self.holdings)
        self.mounts = Mounts(
            self.routing,
            self.targets,
            self.blobs,
            self.repositories,
            self.records,
            self.names,
            self.index,
            self.locks,
        )
        self.background = Background()
        self.push = Sessions(
            self.uploads,
            self.repositories,
            self.locks,
            self.targets,
            self.mounts,
            self.background,
            max_size,
        )

    def now(self) -> float:
        """Tell the time."""
        return time.time() + self.later


def started(work: Any) -> Deferred[Any]:
    """Start a coroutine."""
    return Deferred.fromCoroutine(work)
