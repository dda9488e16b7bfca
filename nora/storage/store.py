"""The store on disk, put together: layout, locks, index, blobs, records, parts over one folder."""

from __future__ import annotations

import os
import time
from typing import Any

from nora.storage.blobs import DiskBlobs
from nora.storage.disk import ThreadedDisk
from nora.storage.holdings import Holdings
from nora.storage.index import SqliteIndex
from nora.storage.interfaces import Space, Totals
from nora.storage.layout import Layout
from nora.storage.lists import DiskLists
from nora.storage.locks import DiskLocks, StoreLock
from nora.storage.names import RecordedNames
from nora.storage.parts import DiskParts
from nora.storage.records import DiskRecords
from nora.storage.repositories import RecordedRepositories
from nora.storage.uploads import DiskUploads


class Store:
    """Everything that one folder stores, put together for one process."""

    def __init__(self, path: str, reactor: Any, max_uploads: int) -> None:
        self.layout = Layout(path)
        self.lock = StoreLock(self.layout.daemon_lock)
        self.disk = ThreadedDisk(reactor)
        self.locks = DiskLocks(self.layout.locks, reactor)
        self.index = SqliteIndex.threaded(self.layout.index, reactor)
        self.blobs = DiskBlobs(self.layout, self.disk, self.index)
        self.records = DiskRecords(self.layout, self.disk)
        self.repositories = RecordedRepositories(self.records, self.index)
        self.names = RecordedNames(self.records, self.repositories, self.locks, time.time)
        self.holdings = Holdings(self.layout, self.disk, self.records)
        self.lists = DiskLists(self.layout, self.disk)
        self.parts = DiskParts(self.layout, self.disk, self.locks, self.blobs)
        self.uploads = DiskUploads(self.layout, self.disk, self.locks, self.blobs, time.time, max_uploads)
        self.totals = Totals(0, 0)

    async def start(self, *, shared: bool = False) -> None:
        """Open everything; this process has the store, or `shared` it with others that may be at work in it."""
        self.disk.start()
        if not shared:
            await self.disk.run(self.layout.clear_temporaries)
        self.locks.open()
        await self.index.start()

    async def stop(self) -> None:
        """Close everything, in order."""
        await self.uploads.idle()
        await self.blobs.idle()
        await self.index.stop()
        await self.disk.stop()
        self.locks.close()

    async def leave(self) -> None:
        """Let the next daemon have the store."""
        self.lock.close()

    def space(self) -> Space:
        """Tell how much room there is; raises `OSError`."""
        found = os.statvfs(self.layout.fills)
        return Space(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)

    async def count(self) -> None:
        """Renew the totals that metrics show."""
        self.totals = await self.index.totals()
        await self.uploads.recount()
