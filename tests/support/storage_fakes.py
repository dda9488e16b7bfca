"""The rooms of storage in memory, for the unit tests of the rooms above.

The contract suites hold them to the same promises as the real ones.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.trial.unittest import SynchronousTestCase

from nora.access.rights import full_name
from nora.oci import Descriptor, Digest, Repository
from nora.oci.errors import NoSpace
from nora.oci.listing import TagList
from nora.oci.reference import LOCAL
from nora.storage.blobs import BlobFile
from nora.storage.interfaces import (
    File,
    Index,
    ListedReferrers,
    ListedTags,
    ListSource,
    Record,
    Stamp,
    Totals,
)
from nora.storage.layout import Layout
from nora.storage.records import MAX_RECORD_SIZE
from nora.storage.repositories import list_key
from tests.support.cold_disk import Warm

R = TypeVar("R")

_LAYOUT = Layout("/nowhere")
"""For the grammar of keys alone."""


def temporary_folder(case: SynchronousTestCase) -> str:
    """Make a folder for one test, gone after it."""
    folder = tempfile.mkdtemp(prefix="nora-test-")
    case.addCleanup(shutil.rmtree, folder, ignore_errors=True)
    return folder


class ImmediateDisk(Warm):
    """Does the work at once, on the caller's thread."""

    def start(self) -> None:
        """Do nothing: the fake is always ready."""

    async def stop(self) -> None:
        """Do nothing: no work is ever under way."""

    def run(self, work: Callable[..., R], *arguments: Any) -> Deferred[R]:
        """Call `work(*arguments)` now."""
        return execute(work, *arguments)


class SteppedDisk(Warm):
    """Keeps the work until `step` is called: for tests of what happens while the disk is busy."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = deque()

    def run(self, work: Callable[..., R], *arguments: Any) -> Deferred[R]:
        """Queue `work(*arguments)`."""
        result: Deferred[R] = Deferred()
        self.waiting.append((result, work, arguments))
        return result

    def step(self) -> None:
        """Do the oldest work; its result goes out unless it was cancelled meanwhile."""
        result, work, arguments = self.waiting.popleft()
        try:
            value = work(*arguments)
        except Exception as error:
            if not result.called:
                result.errback(error)
        else:
            if not result.called:
                result.callback(value)

    def drain(self) -> None:
        """Do work until none is queued."""
        while self.waiting:
            self.step()


class FullDisk(Warm):
    """Fails all work with `NoSpace`."""

    def run(self, work: Callable[..., R], *arguments: Any) -> Deferred[R]:
        """Fail."""
        return fail(NoSpace("the store's file system is full"))


class MemoryLock:
    """A lock of `MemoryLocks`."""

    def __init__(self, table: LockTable, key: str) -> None:
        self._table: LockTable | None = table
        self._key = key

    def release(self) -> None:
        """Free it; a second call does nothing."""
        table, self._table = self._table, None
        if table is not None:
            table.release(self._key)


class LockTable:
    """Who holds what, and who waits: shared by the `MemoryLocks` that stand for several processes."""

    def __init__(self) -> None:
        self.queues: dict[str, deque[tuple[Deferred[MemoryLock | None], IDelayedCall]]] = {}

    def release(self, key: str) -> None:
        """Hand `key` to the next in the queue, or free it."""
        queue = self.queues[key]
        if not queue:
            del self.queues[key]
            return
        waiter, timer = queue.popleft()
        timer.cancel()
        waiter.callback(MemoryLock(self, key))


class MemoryLocks:
    """Locks in memory. Give several of them one table, and they are the locks of several processes."""

    def __init__(self, clock: IReactorTime, table: LockTable | None = None) -> None:
        self._clock = clock
        self._table = table or LockTable()

    async def hold(self, key: str, wait: float = 0.0) -> MemoryLock | None:
        """Take the lock of `key`, waiting up to `wait` seconds."""
        queue = self._table.queues.get(key)
        if queue is None:
            self._table.queues[key] = deque()
            return MemoryLock(self._table, key)
        if wait <= 0:
            return None

        def give_up() -> None:
            waiting.remove(entry)
            waiter.callback(None)

        def leave(_: Deferred[MemoryLock | None]) -> None:
            waiting.remove(entry)
            entry[1].cancel()

        waiting = queue
        waiter: Deferred[MemoryLock | None] = Deferred(leave)
        entry = (waiter, self._clock.callLater(wait, give_up))
        waiting.append(entry)
        return await waiter

    def held(self, key: str) -> bool:
        """Tell whether anyone holds `key` now."""
        return key in self._table.queues


class MemoryRecords:
    """Records in memory. Each write has a stamp of its own."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        """What is stored; a test may put anything here."""
        self._writes = 0

    async def get(self, key: str) -> Record | None:
        """Read a record."""
        _LAYOUT.record(key)
        record = self.records.get(key)
        return None if record is None else copy.deepcopy(record)

    async def put(self, key: str, value: dict[str, Any], *, durable: bool = True) -> None:
        """Write a record."""
        _LAYOUT.record(key)
        text = json.dumps(value)
        if len(text) > MAX_RECORD_SIZE:
            raise ValueError("the record would be too large")
        self._writes += 1
        self.records[key] = Record(json.loads(text), (self._writes, self._writes, len(text)))

    async def remove(self, key: str) -> bool:
        """Delete a record."""
        _LAYOUT.record(key)
        return self.records.pop(key, None) is not None

    def stamp(self, key: str) -> Stamp | None:
        """Tell a record's stamp."""
        _LAYOUT.record(key)
        record = self.records.get(key)
        return None if record is None else record.stamp

    async def page(self, prefix: str, after: str, limit: int) -> list[str]:
        """List names under `prefix`."""
        _LAYOUT.record(prefix)
        inside = [key[len(prefix) + 1 :] for key in self.records if key.startswith(f"{prefix}/")]
        return sorted(name for name in inside if "/" not in name and name > after)[:limit]


class MemoryLists:
    """Lists in memory."""

    def __init__(self) -> None:
        self.tag_lists: dict[Repository, tuple[TagList, ListSource]] = {}
        self.indexes: dict[tuple[Repository, Digest], ListedReferrers] = {}

    async def tags(self, repository: Repository, last: bytes, limit: int) -> ListedTags | None:
        """Give a part of a list."""
        list_key(repository, None)
        found = self.tag_lists.get(repository)
        return None if found is None else ListedTags(found[0].page(last, limit), found[1])

    async def put_tags(self, repository: Repository, tags: TagList, source: ListSource) -> None:
        """Replace a list."""
        list_key(repository, None)
        self.tag_lists[repository] = tags, source

    async def referrers(self, repository: Repository, subject: Digest) -> ListedReferrers | None:
        """Give an index."""
        list_key(repository, subject)
        return self.indexes.get((repository, subject))

    async def put_referrers(
        self, repository: Repository, subject: Digest, body: bytes, source: ListSource
    ) -> None:
        """Replace an index."""
        list_key(repository, subject)
        self.indexes[repository, subject] = ListedReferrers(body, source)

    async def remove(self, repository: Repository) -> bool:
        """Forget the lists."""
        list_key(repository, None)
        indexes = [key for key in self.indexes if key[0] == repository]
        gone = [self.indexes.pop(key) for key in indexes]
        return self.tag_lists.pop(repository, None) is not None or bool(gone)


class MemoryBlobs:
    """Blobs in memory. An open one is an anonymous file, so that its descriptor can be read and sent."""

    def __init__(self, index: Index | None = None) -> None:
        self.contents: dict[Digest, bytes] = {}
        """What is stored; a test may put anything here."""
        self._index = index or MemoryIndex()

    async def open(self, digest: Digest, size: int | None = None) -> File | None:
        """Open a blob; one of another size is dropped."""
        data = self.contents.get(digest)
        if data is None:
            return None
        file = self.open_now(digest, len(data) if size is None else size)
        if file is None:
            await self.remove(digest)
        return file

    def open_now(self, digest: Digest, size: int) -> File | None:
        """Open a blob at once."""
        data = self.contents.get(digest)
        if data is None or len(data) != size:
            return None
        descriptor = os.memfd_create("blob")
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        return BlobFile(descriptor, len(data))

    def size(self, digest: Digest) -> int | None:
        """Tell a blob's size in bytes."""
        data = self.contents.get(digest)
        return None if data is None else len(data)

    async def read(self, digest: Digest, limit: int) -> bytes | None:
        """Read a whole blob of at most `limit` bytes."""
        data = self.contents.get(digest)
        return data if data is not None and len(data) <= limit else None

    async def add(self, data: bytes, digest: Digest) -> None:
        """Publish verified `data`."""
        self.contents[digest] = data
        self._index.stored(digest, len(data))

    async def publish(self, path: str, digest: Digest) -> None:
        """Publish the verified file at `path`, which goes away."""
        with open(path, "rb") as file:
            data = file.read()
        os.unlink(path)
        await self.add(data, digest)

    async def remove(self, digest: Digest) -> bool:
        """Delete a blob's bytes."""
        if self.contents.pop(digest, None) is None:
            return False
        self._index.removed(digest)
        return True


class MemoryIndex:
    """An index in memory."""

    def __init__(self) -> None:
        self.sizes: dict[Digest, int] = {}
        """The stored blobs."""
        self.uses: list[Digest] = []
        """What was served, in order."""
        self.names: dict[Repository, bool] = {}
        """The repositories that have a manifest."""
        self.lists: dict[tuple[Repository, Digest], int] = {}
        """What the manifests of a repository list."""
        self.links: dict[tuple[Repository, Digest], None] = {}
        """The rights to read, in the order they came."""

    def stored(self, digest: Digest, size: int) -> None:
        """Tell that a blob was published."""
        self.sizes[digest] = size

    def removed(self, digest: Digest) -> None:
        """Tell that a blob is gone."""
        self.sizes.pop(digest, None)

    def used(self, digest: Digest) -> None:
        """Tell that a blob or manifest was served now."""
        self.uses.append(digest)

    def listed(self, repository: Repository, children: Sequence[Descriptor]) -> None:
        """Tell what a stored manifest of `repository` lists."""
        for child in children:
            self.lists[repository, child.digest] = child.size

    def linked(self, repository: Repository, digest: Digest) -> None:
        """Tell that a right was recorded."""
        self.links[repository, digest] = None

    def unlinked(self, repository: Repository, digest: Digest) -> None:
        """Tell that a right is gone."""
        self.links.pop((repository, digest), None)

    async def holders(self, digest: Digest, limit: int) -> list[Repository]:
        """List who has the right to `digest`, hosted ones first."""
        found = [repository for repository, each in self.links if each == digest]
        return sorted(found, key=lambda repository: (repository.namespace != LOCAL, repository))[:limit]

    def appeared(self, repository: Repository) -> None:
        """Tell that `repository` has a manifest."""
        self.names[repository] = True

    def emptied(self, repository: Repository) -> None:
        """Tell that `repository` has no manifest any more."""
        self.names.pop(repository, None)

    async def repositories(self, last: str, limit: int) -> list[Repository]:
        """List repositories by their full names."""
        found = sorted(self.names, key=lambda each: (full_name(each), each.namespace))
        return [each for each in found if full_name(each) > last][:limit]

    async def flush(self) -> None:
        """Do nothing: there is no other process."""

    async def listed_size(self, repository: Repository, digest: Digest) -> int | None:
        """Tell the size that a stored manifest of `repository` gives for `digest`."""
        return self.lists.get((repository, digest))

    async def totals(self) -> Totals:
        """Count what is stored."""
        return Totals(len(self.sizes), sum(self.sizes.values()))
