"""Bytes at rest: parts (growing, local), blobs (published), records, locks, the index.

The caller passes a `Repository`; whether a client may read it is decided above.
"""

from nora.storage.blobs import DiskBlobs
from nora.storage.disk import DiskStopped, ThreadedDisk
from nora.storage.index import SqliteIndex
from nora.storage.layout import Layout, StoreError
from nora.storage.lists import DiskLists
from nora.storage.locks import DiskLocks, StoreBusy, StoreLock
from nora.storage.records import DiskRecords
from nora.storage.reindex import reindex
from nora.storage.repositories import RecordedRepositories

__all__ = [
    "DiskBlobs",
    "DiskLists",
    "DiskLocks",
    "DiskRecords",
    "DiskStopped",
    "Layout",
    "RecordedRepositories",
    "SqliteIndex",
    "StoreBusy",
    "StoreError",
    "StoreLock",
    "ThreadedDisk",
    "reindex",
]
