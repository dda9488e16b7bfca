"""Lists of what upstreams have: a file each, too large for a record, and replaced whole.

A file begins with a line of JSON that tells who sent the list, when, and how many bytes follow; then the list itself.
One that is not whole is none. Files are read in threads of the disk, and of a list of tags only the part that was
asked for leaves them, so that many clients with one large list do not have as many copies of it in memory.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import stat
from typing import Any

from nora.oci import Digest, Repository
from nora.oci.listing import MAX_REFERRERS_SIZE, MAX_TAGS_SIZE, TagList
from nora.storage import durable
from nora.storage.interfaces import Disk, ListedReferrers, ListedTags, ListSource
from nora.storage.layout import Layout
from nora.storage.repositories import list_key, lists_key

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_MAX_HEAD = 2048
_MAX_NAME = 1024


class DiskLists:
    """The lists of one store; see `nora.storage.interfaces.Lists`."""

    def __init__(self, layout: Layout, disk: Disk) -> None:
        self._layout = layout
        self._disk = disk

    async def tags(self, repository: Repository, last: bytes, limit: int) -> ListedTags | None:
        """Give up to `limit` tags after `last` of the stored list; None when there is no list."""
        return await self._disk.run(_read_tags, self._path(repository, None), last, limit)

    async def put_tags(self, repository: Repository, tags: TagList, source: ListSource) -> None:
        """Replace the stored list of tags."""
        await self._write(repository, None, tags.text, source)

    async def referrers(self, repository: Repository, subject: Digest) -> ListedReferrers | None:
        """Give the stored index of what refers to `subject`; None when there is none."""
        found = await self._disk.run(_read, self._path(repository, subject), MAX_REFERRERS_SIZE)
        return None if found is None else ListedReferrers(found[1], found[0])

    async def put_referrers(
        self, repository: Repository, subject: Digest, body: bytes, source: ListSource
    ) -> None:
        """Replace the stored index of what refers to `subject`."""
        await self._write(repository, subject, body, source)

    async def remove(self, repository: Repository) -> bool:
        """Forget all lists of a repository; False when there were none."""
        return await self._disk.run(_remove, self._layout.record(lists_key(repository)))

    def _path(self, repository: Repository, subject: Digest | None) -> str:
        return self._layout.record(list_key(repository, subject))

    async def _write(
        self, repository: Repository, subject: Digest | None, body: bytes, source: ListSource
    ) -> None:
        head = {"upstream": source.upstream, "checked_at": source.checked_at, "size": len(body)}
        data = json.dumps(head, separators=(",", ":")).encode("ascii") + b"\n" + body
        await self._disk.run(durable.write, self._path(repository, subject), data, self._layout.temporary())


def _read_tags(path: str, last: bytes, limit: int) -> ListedTags | None:
    found = _read(path, MAX_TAGS_SIZE)
    if found is None:
        return None
    source, text = found
    if text and not text.endswith(b"\n"):
        return None
    return ListedTags(TagList(text).page(last, limit), source)


def _read(path: str, limit: int) -> tuple[ListSource, bytes] | None:
    """Read the list in the file at `path`; None when there is none of at most `limit` bytes. Raises `OSError`."""
    try:
        descriptor = os.open(path, _FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_HEAD + limit:
            return None
        source, size = _head(file.readline(_MAX_HEAD))
        body = file.read()
    return None if source is None or len(body) != size else (source, body)


def _remove(path: str) -> bool:
    """Remove the folder at `path` with all that is in it; what another process makes meanwhile may stay."""
    if not os.path.isdir(path) or os.path.islink(path):
        return False
    shutil.rmtree(path, ignore_errors=True)
    return True


def _head(line: bytes) -> tuple[ListSource | None, int]:
    """Understand the first line; nothing when it is not what it should be."""
    try:
        head: dict[str, Any] = json.loads(line)
        upstream, checked_at, size = head["upstream"], float(head["checked_at"]), head["size"]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None, 0
    if not isinstance(upstream, str) or len(upstream) > _MAX_NAME or not math.isfinite(checked_at):
        return None, 0
    return ListSource(upstream, checked_at), size if isinstance(size, int) else -1
