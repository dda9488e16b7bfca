"""A pull-through on a real store in a temporary folder, with scripted upstreams, work done at once and a fake clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.task import Clock

from nora.concurrency import Background
from nora.oci import Repository
from nora.pull.absences import Absences
from nora.pull.blobs import BlobPull
from nora.pull.discovery import DiscoveryThrough
from nora.pull.fills import Fills
from nora.pull.freshness import Freshness
from nora.pull.interfaces import Content
from nora.pull.leading import Limits
from nora.pull.manifests import Manifests
from nora.pull.owners import Owners
from nora.pull.tags import Tags
from nora.pull.through import PullThrough
from nora.storage.blobs import DiskBlobs
from nora.storage.interfaces import Disk
from nora.storage.layout import Layout
from nora.storage.lists import DiskLists
from nora.storage.locks import DiskLocks
from nora.storage.names import RecordedNames
from nora.storage.parts import DiskParts
from nora.storage.records import DiskRecords
from nora.storage.repositories import RecordedRepositories
from nora.upstream.interfaces import Candidate, Route
from tests.support.scripted import ScriptedUpstream
from tests.support.storage_fakes import ImmediateDisk, MemoryIndex

MIB = 1024 * 1024
NAME = "library/thing"


class Counts:
    """Counts what is observed, by word."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}

    def _count(self, word: str) -> None:
        self.seen[word] = self.seen.get(word, 0) + 1

    def fill_started(self) -> None:
        """Count."""
        self._count("started")

    def fill_ended(self, result: str) -> None:
        """Count by result."""
        self._count(result)

    def fill_resumed(self, upstream: str) -> None:
        """Count."""
        self._count("resumed")

    def provisional(self) -> None:
        """Count."""
        self._count("provisional")

    def negative_hit(self) -> None:
        """Count."""
        self._count("negative")

    def stale(self) -> None:
        """Count."""
        self._count("stale")

    def spared(self) -> None:
        """Count."""
        self._count("spared")


class Pulling:
    """One process's pull-through of the store at `root`. Two of them on one root are two processes."""

    def __init__(
        self,
        root: str,
        *,
        clock: Clock | None = None,
        disk: Disk | None = None,
        ttl: float = 300.0,
        list_ttl: float = 60.0,
        fallback: str = "image",
        max_blob_size: int = 1 << 40,
        max_fills: int = 8,
        negative_ttl: float = 0.0,
        **freshness: Any,
    ) -> None:
        self.clock = clock or Clock()
        self.counts = Counts()
        self.disk = disk or ImmediateDisk()
        self.layout = Layout(root)
        self.layout.prepare()
        self.locks = DiskLocks(self.layout.locks, self.clock)
        self.locks.open()
        self.index = MemoryIndex()
        self.blobs = DiskBlobs(self.layout, self.disk, self.index)
        self.records = DiskRecords(self.layout, self.disk)
        self.repositories = RecordedRepositories(self.records, self.index)
        self.names = RecordedNames(self.records, self.repositories, self.locks, self.clock.seconds)
        self.parts = DiskParts(self.layout, self.disk, self.locks, self.blobs)
        limits = Limits(max_blob_size, max_fills, max_fills)
        self.fills = Fills(
            self.parts, self.blobs, self.repositories, self.disk, self.clock, limits, self.counts
        )
        self.background = Background()
        self.owners = Owners(self.repositories, self.names, self.clock.seconds, fallback, self.counts)
        self.absences = Absences(self.clock, negative_ttl, self.counts)
        self.manifests = Manifests(
            self.blobs, self.repositories, self.index, self.locks, self.background, self.absences
        )
        self.tags = Tags(
            self.repositories,
            self.manifests,
            self.owners,
            self.locks,
            self.background,
            self.clock,
            self.clock.seconds,
            Freshness(ttl, 2.0, **freshness),
        )
        pull = BlobPull(
            self.blobs,
            self.repositories,
            self.index,
            self.disk,
            self.fills,
            self.owners,
            self.background,
            self.absences,
        )
        self.lists = DiskLists(self.layout, self.disk)
        self.discovery = DiscoveryThrough(
            self.lists,
            self.disk,
            self.manifests,
            self.owners,
            self.locks,
            self.absences,
            self.background,
            self.clock,
            self.clock.seconds,
            self.counts,
            list_ttl=list_ttl,
            revalidate_timeout=2.0,
        )
        self.pull = PullThrough(self.manifests, self.tags, pull, self.owners, self.counts)

    def close(self) -> None:
        """Break off what runs, and let go of the store."""
        self.fills.stop()
        self.locks.close()

    def turn(self, seconds: float, step: float = 0.005) -> None:
        """Let the time pass in small steps."""
        self.clock.pump([step] * round(seconds / step))


def qualified(upstreams: Sequence[ScriptedUpstream], name: str = NAME) -> Route:
    """Route `name` in the one namespace of `upstreams`."""
    namespace = upstreams[0].namespace
    candidates = tuple(Candidate(Repository(namespace, name), upstream) for upstream in upstreams)
    return Route(f"{namespace}/{name}", candidates, True)


def unqualified(upstreams: Sequence[ScriptedUpstream], name: str = NAME) -> Route:
    """Route the unqualified `name` to all of `upstreams`."""
    candidates = tuple(Candidate(Repository(each.namespace, name), each) for each in upstreams)
    return Route(name, candidates, False)


async def read_all(content: Content, start: int = 0, stop: int | None = None) -> bytes:
    """Read a range of a content as a copying client does."""
    reader = await content.reader(start, content.size if stop is None else stop)
    try:
        data = bytearray()
        while reader.position < reader.stop:
            data += await reader.read(MIB)
        return bytes(data)
    finally:
        reader.close()
        content.close()
