"""Holdings: what a hosted repository holds, as far as it takes a look at many records.

Everything is read from the records at the time of the question, in threads of the disk, so that each worker sees what
another did a moment ago; only of tags it is remembered which count, until something changes in the repository. A tag
counts only while its manifest is linked, and so does a referrer: what a push left half-done, or a removal, is never
listed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

import attrs
from twisted.internet.defer import FirstError, gatherResults

from nora.oci import MAX_MANIFEST_SIZE, Descriptor, Digest, Repository
from nora.oci.errors import InvalidDigest
from nora.oci.listing import MAX_REFERRERS_SIZE, TagPage
from nora.oci.manifest import ACCEPTED_MEDIA_TYPES, OCI_INDEX
from nora.oci.pushed import lists, referrer
from nora.oci.reference import TAG_PATTERN
from nora.storage.interfaces import Disk, Records
from nora.storage.layout import Layout
from nora.storage.records import MAX_RECORD_SIZE, read_document
from nora.storage.repositories import (
    blob_key,
    manifest_key,
    manifest_of,
    manifests_keys,
    referrer_key,
    referrers_key,
    size_of,
    tag_of,
    tags_key,
)
from nora.storage.verdicts import Seen, Verdicts

_TAG = re.compile(rf"{TAG_PATTERN}\Z")
_STEP = 1000
"""Records that one visit to a thread looks at."""
_AT_ONCE = 4
"""Visits at the same time, half of the disk's threads: what is not in memory comes in several times as fast."""
_EVERY = 2**31
_MAX_READ = 32 * 1024 * 1024
"""Bytes of manifests that are read for one page of referrers."""
_OPENING = b'{"schemaVersion":2,"mediaType":"%s","manifests":[' % OCI_INDEX.encode()
_CLOSING = b"]}"


@attrs.frozen
class Lacking:
    """Something that a manifest lists and that is not as it says; `size` is what the repository has, if anything."""

    descriptor: Descriptor
    size: int | None


@attrs.frozen
class ReferrersPage:
    """An index of referrers of at most 4 MiB; `following` is what goes on where there are more."""

    body: bytes = attrs.field(repr=False)
    following: str | None


class Holdings:
    """The holdings of one store's repositories."""

    def __init__(self, layout: Layout, disk: Disk, records: Records) -> None:
        self._layout = layout
        self._disk = disk
        self._records = records
        self._verdicts = Verdicts(layout)

    async def tags(self, repository: Repository, after: str, limit: int) -> TagPage:
        """List up to `limit` tags after `after`, in byte order."""
        found: list[str] = []
        while len(found) <= limit:
            seen = self._verdicts.of(repository)
            names = await self._records.page(
                tags_key(repository), after, min(limit + 1 - len(found), 10 * _STEP)
            )
            if not names:
                return TagPage(tuple(found), False)
            after = names[-1]
            found += await self._counting(repository, names, seen)
        return TagPage(tuple(found[:limit]), True)

    async def _counting(self, repository: Repository, names: Sequence[str], seen: Seen) -> list[str]:
        """Leave out the tags that do not count, having a look at those of which nothing is known."""
        unknown = [name for name in names if name not in seen.counts]
        live: dict[str, Digest] = {}
        parts = [unknown[at : at + _STEP] for at in range(0, len(unknown), _STEP)]
        for start in range(0, len(parts), _AT_ONCE):
            looks = [self._disk.run(self._live, repository, part) for part in parts[start : start + _AT_ONCE]]
            try:
                for found in await gatherResults(looks, consumeErrors=True):
                    live.update(found)
            except FirstError as error:
                error.subFailure.raiseException()
        self._verdicts.add(repository, seen, unknown, live)
        return [name for name in names if name in live or seen.counts.get(name)]

    async def tags_of(self, repository: Repository, digest: Digest) -> list[str]:
        """List the tags that point at a manifest."""
        names = await self._records.page(tags_key(repository), "", _EVERY)
        found: list[str] = []
        for start in range(0, len(names), _STEP):
            part = names[start : start + _STEP]
            found += await self._disk.run(self._pointing, repository, part, digest)
        return found

    async def lacking(self, repository: Repository, children: Sequence[Descriptor]) -> list[Lacking]:
        """Tell what of `children` the repository does not have, bytes and right, at the size that they say.

        A child of a manifest's media type is looked for among the manifests, any other among the blobs.
        """
        found: list[Lacking] = []
        for start in range(0, len(children), _STEP):
            part = children[start : start + _STEP]
            found += await self._disk.run(self._lacking, repository, part)
        return found

    async def lister(self, repository: Repository, digest: Digest) -> Digest | None:
        """Find a manifest of the repository that lists `digest`; None when none does."""
        for prefix in manifests_keys(repository):
            names = await self._records.page(prefix, "", _EVERY)
            for start in range(0, len(names), _STEP):
                part = names[start : start + _STEP]
                found = await self._disk.run(self._lister, prefix.rpartition("/")[2], part, digest)
                if found is not None:
                    return found
        return None

    async def is_empty(self, repository: Repository) -> bool:
        """Tell whether the repository has no manifest."""
        for prefix in manifests_keys(repository):
            if await self._disk.run(_has_entry, self._layout.record(prefix)):
                return False
        return True

    async def refer(self, repository: Repository, subject: Digest, referring: Descriptor) -> None:
        """Record that the manifest `referring` refers to `subject`, before its link. Raises `NoSpace`."""
        await self._records.put(referrer_key(repository, subject, referring.digest), {"size": referring.size})

    async def unrefer(self, repository: Repository, subject: Digest, digest: Digest) -> None:
        """Take that back."""
        await self._records.remove(referrer_key(repository, subject, digest))

    async def referrers(
        self, repository: Repository, subject: Digest, artifact_type: str | None, after: str
    ) -> ReferrersPage:
        """List what refers to `subject`, of one type of artifact or all, from the referrer after `after` on.

        Entries are made from the manifests, which can have more annotations than a record.
        """
        entries: list[bytes] = []
        room = MAX_REFERRERS_SIZE - len(_OPENING) - len(_CLOSING)
        budget = _MAX_READ
        while True:
            names = await self._records.page(referrers_key(repository, subject), after, _STEP)
            if not names:
                return ReferrersPage(_OPENING + b",".join(entries) + _CLOSING, None)
            step = await self._disk.run(self._entries, repository, names, artifact_type, room, budget)
            entries += step.entries
            room -= sum(len(entry) + 1 for entry in step.entries)
            budget -= step.read
            after = step.last or after
            if not step.whole:
                return ReferrersPage(_OPENING + b",".join(entries) + _CLOSING, after)

    def _live(self, repository: Repository, names: Sequence[str]) -> list[tuple[str, Digest]]:
        """Read the tags, leaving out those whose manifest is not linked."""
        folder = self._layout.record(tags_key(repository))
        linked: dict[Digest, bool] = {}
        found = []
        for name in names:
            record = _record(f"{folder}/{name}") if _TAG.match(name) else None
            tag = None if record is None else tag_of(record)
            if tag is None:
                continue
            digest = tag.descriptor.digest
            if digest not in linked:
                linked[digest] = os.path.exists(self._layout.record(manifest_key(repository, digest)))
            if linked[digest]:
                found.append((name, digest))
        return found

    def _pointing(self, repository: Repository, names: Sequence[str], digest: Digest) -> list[str]:
        """Find the tags that point at `digest`; it is quick for those that do not."""
        folder = self._layout.record(tags_key(repository))
        encoded = digest.hex.encode("ascii")
        likely = [name for name in names if encoded in _raw(f"{folder}/{name}")]
        return [name for name, pointed in self._live(repository, likely) if pointed == digest]

    def _lacking(self, repository: Repository, children: Sequence[Descriptor]) -> list[Lacking]:
        found = []
        for child in children:
            size = self._held(repository, child)
            if size != child.size:
                found.append(Lacking(child, size))
        return found

    def _held(self, repository: Repository, child: Descriptor) -> int | None:
        """Tell the size of what the repository has under the child's digest."""
        key = manifest_key if child.media_type in ACCEPTED_MEDIA_TYPES else blob_key
        record = _record(self._layout.record(key(repository, child.digest)))
        size = None if record is None else size_of(record)
        try:
            actual = os.lstat(self._layout.blob(child.digest)).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        return size if size == actual else None

    def _lister(self, algorithm: str, names: Sequence[str], digest: Digest) -> Digest | None:
        for name in names:
            manifest = _digest(algorithm, name)
            if manifest is not None and lists(self._bytes(manifest) or b"", digest):
                return manifest
        return None

    def _entries(
        self, repository: Repository, names: Sequence[str], artifact_type: str | None, room: int, budget: int
    ) -> _Step:
        """Make entries of at most `room` bytes, reading about `budget` bytes."""
        made: list[bytes] = []
        last, read, used = "", 0, 0
        for name, digest in _digests(names):
            record = _record(self._layout.record(manifest_key(repository, digest)))
            descriptor = None if record is None else manifest_of(record, digest)
            body = None if descriptor is None else self._bytes(digest)
            if descriptor is not None and body is not None:
                if read and read + len(body) > budget:
                    return _Step(made, last, read, whole=False)
                read += len(body)
                entry = referrer(body, descriptor, artifact_type, MAX_REFERRERS_SIZE - 1024)
                if entry is not None:
                    if used + len(entry) + 1 > room:
                        return _Step(made, last, read, whole=False)
                    used += len(entry) + 1
                    made.append(entry)
            last = name
        return _Step(made, names[-1], read, whole=True)

    def _bytes(self, digest: Digest) -> bytes | None:
        try:
            with open(self._layout.blob(digest), "rb") as file:
                return file.read(MAX_MANIFEST_SIZE)
        except (FileNotFoundError, NotADirectoryError):
            return None


@attrs.frozen
class _Step:
    entries: list[bytes]
    last: str
    read: int
    whole: bool


def _record(path: str) -> dict[str, object] | None:
    """Read the value of a record; None when there is none that can be understood."""
    try:
        found = read_document(path)
    except (ValueError, RecursionError):
        return None
    return None if found is None else found.value


def _raw(path: str) -> bytes:
    """Read the bytes of a record; nothing when there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return b""
    try:
        return os.read(descriptor, MAX_RECORD_SIZE)
    finally:
        os.close(descriptor)


def _has_entry(path: str) -> bool:
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False


def _digests(names: Sequence[str]) -> Iterator[tuple[str, Digest]]:
    """Read the names `<algorithm>-<hex>` of referrers, leaving out what is none."""
    for name in names:
        algorithm, _, encoded = name.partition("-")
        digest = _digest(algorithm, encoded)
        if digest is not None:
            yield name, digest


def _digest(algorithm: str, encoded: str) -> Digest | None:
    try:
        return Digest.parse(f"{algorithm}:{encoded}")
    except InvalidDigest:
        return None
