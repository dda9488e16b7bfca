"""Building the index anew from the files: an operator's command, never part of a start or a request.

It walks the whole store, in the index's writing thread, some thousand entries at a time. A daemon may run beside it:
what that tells meanwhile is kept.

Folders are walked in the order of their names, which is that of the tables: a page of the file is then written a few
times, where in the order of the disk each entry would write one of its own.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator

from twisted.logger import Logger

from nora.oci import MAX_MANIFEST_SIZE, Digest, Manifest, Repository
from nora.oci.errors import InvalidDigest, NoraError
from nora.storage.database import Batch
from nora.storage.index import SqliteIndex
from nora.storage.interfaces import Totals
from nora.storage.layout import Layout
from nora.storage.records import read_document
from nora.storage.repositories import manifest_key

_BATCH = 20_000
"""Entries that are written at once: another process's words wait for them, some tenths of a second."""
_DEEPEST = 130
"""Folders below a namespace: a name of 255 characters has at most 128 parts."""
_BLOBS, _MANIFESTS = "_blobs", "_manifests"
_log = Logger()


async def reindex(layout: Layout, index: SqliteIndex) -> Totals:
    """Make `index` hold what the files of the store say; gives what is stored.

    The index must be started. Files that are not what they should be are left out, with a log line. Raises
    `sqlite3.Error` and `OSError`.
    """
    await index.replace(_batches(layout))
    return await index.totals()


def _batches(layout: Layout) -> Iterator[Batch]:
    batch = Batch()
    for digest, found in _blobs(layout):
        batch.stored[digest] = found
        if len(batch) >= _BATCH:
            yield batch
            batch = Batch()
    for repository, folder, digest in _links(layout):
        batch.linked[repository, digest] = True
        if folder == _MANIFESTS:
            batch.repositories[repository] = True
        manifest = _read(layout, repository, digest) if folder == _MANIFESTS else None
        if manifest is not None:
            for child in (*manifest.blobs, *manifest.manifests):
                if child.size < 2**63:
                    batch.listed[repository, child.digest] = child.size
        if len(batch) >= _BATCH:
            yield batch
            batch = Batch()
    yield batch


def _blobs(layout: Layout) -> Iterator[tuple[Digest, tuple[int, float]]]:
    """Walk `blobs/<algorithm>/<first two>/<hex>`."""
    for algorithm in _folders(layout.blobs):
        for prefix in _folders(algorithm.path):
            for entry in _entries(prefix.path):
                digest = _digest(algorithm.name, entry.name)
                found = entry.stat(follow_symlinks=False)
                if digest is None or not stat.S_ISREG(found.st_mode) or layout.blob(digest) != entry.path:
                    _log.warn("{path} is no blob", path=entry.path)
                    continue
                yield digest, (found.st_size, min(found.st_mtime, time.time()))


def _links(layout: Layout) -> Iterator[tuple[Repository, str, Digest]]:
    """Walk `repositories/<namespace>/<name>/<_blobs or _manifests>/<algorithm>/<hex>`."""
    for namespace in _folders(layout.repositories):
        for name in _names(namespace.path, "", _DEEPEST):
            for folder in (_BLOBS, _MANIFESTS):
                for algorithm in _folders(f"{namespace.path}/{name}/{folder}"):
                    for encoded in _listed(algorithm.path):
                        digest = _digest(algorithm.name, encoded)
                        if digest is not None:
                            yield Repository(namespace.name, name), folder, digest


def _names(folder: str, name: str, deepest: int) -> Iterator[str]:
    """Walk the names below `folder`, parts that start with `_` being records."""
    inside = _folders(folder) if deepest else []
    if name and any(entry.name in (_BLOBS, _MANIFESTS) for entry in inside):
        yield name
    for entry in inside:
        if not entry.name.startswith("_"):
            yield from _names(entry.path, f"{name}/{entry.name}".lstrip("/"), deepest - 1)


def _read(layout: Layout, repository: Repository, digest: Digest) -> Manifest | None:
    try:
        found = read_document(layout.record(manifest_key(repository, digest)))
        if found is None or not isinstance(found.value.get("media_type"), str):
            return None
        with open(layout.blob(digest), "rb") as file:
            return Manifest.verify(file.read(MAX_MANIFEST_SIZE + 1), found.value["media_type"], digest)
    except (NoraError, OSError, ValueError, RecursionError) as error:
        _log.warn(
            "manifest {digest} of {name} is left out: {error}", digest=digest, name=repository, error=error
        )
        return None


def _folders(path: str) -> list[os.DirEntry[str]]:
    return [entry for entry in _entries(path) if entry.is_dir(follow_symlinks=False)]


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def _listed(path: str) -> list[str]:
    """List names alone, of which there can be a million: they take a third of the memory of entries."""
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []


def _digest(algorithm: str, encoded: str) -> Digest | None:
    try:
        return Digest.parse(f"{algorithm}:{encoded}")
    except InvalidDigest:
        return None
