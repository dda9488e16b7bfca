"""Shelves: what the files of the store say of repositories and images, for a person who looks.

All of it is read in threads of the disk, and each question has a bound on the files and bytes that it reads, whatever
somebody has pushed: what lies beyond is told as not known. Nothing is read here that is served.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, TypeVar

import attrs

from nora.oci import MAX_MANIFEST_SIZE, Descriptor, Digest, Repository
from nora.oci.errors import NoraError, Unverified
from nora.oci.images import (
    MAX_CONFIG_SIZE,
    MAX_TEXT,
    Configuration,
    Contained,
    read_configuration,
    read_contained,
)
from nora.oci.listing import MAX_REFERRERS_SIZE, parse_referrers
from nora.storage.interfaces import Disk, OwnerRecord, TagRecord
from nora.storage.layout import Layout
from nora.storage.records import read_document
from nora.storage.repositories import (
    blob_key,
    manifest_key,
    owner_key,
    owner_of,
    tag_key,
    tag_of,
    tags_key,
)

T = TypeVar("T")

_MOST_TAGS, _MOST_TAGS_TOGETHER, _LEAST_TAGS = 1000, 10_000, 50
"""Tags that are counted: of a repository, of all on a page, and of each whatever the others have."""
_OF_ROW = 256 * 1024
"""Bytes of a manifest, or of a configuration, that is read for one row of a page."""
_OF_PAGE = 4 * 1024 * 1024
"""Bytes that are read for all rows of a page."""
_CHILDREN = 32
"""Manifests of an index that are looked into for a row."""
_MOST_REFERRERS = 100
_HUB, _OFFICIAL = "docker.io", "library/"


@attrs.frozen
class Summary:
    """A repository, as its row shows it."""

    owner: OwnerRecord | None
    """What its unqualified name resolved to, if anything."""
    tags: int
    whole: bool
    """False when there are more tags than were counted."""


@attrs.frozen
class TagRow:
    """A tag, as its row shows it."""

    name: str
    record: TagRecord
    stored_at: float | None
    """Since when the manifest is here, in seconds since the epoch."""
    size: int | None
    """Bytes of configuration and layers, each once; of an index, of those of its images whose manifests are here."""
    platforms: tuple[str, ...]


@attrs.frozen
class Part:
    """A manifest or blob that a manifest lists, and whether the repository has it."""

    descriptor: Descriptor
    stored: bool


@attrs.frozen
class Variant:
    """A manifest that an index lists."""

    part: Part
    platform: str | None
    attests: bool
    size: int | None
    """Bytes of its configuration and layers; None while its manifest is not here."""


@attrs.frozen
class Image:
    """A manifest with all that it leads to here."""

    descriptor: Descriptor
    stored_at: float | None
    contained: Contained | None
    """None for one that cannot be read: `trouble` tells why."""
    trouble: str | None
    config: Part | None = None
    configuration: Configuration | None = None
    config_trouble: str | None = None
    layers: tuple[Part, ...] = ()
    variants: tuple[Variant, ...] = ()

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms that it is for."""
        if self.contained is not None and self.contained.children:
            return self.contained.platforms
        own = None if self.configuration is None else self.configuration.platform
        return () if own is None else (own,)

    @property
    def size(self) -> int | None:
        """Bytes as in `TagRow`."""
        if self.contained is None:
            return None
        return _together(self.contained, [each.size for each in self.variants])


@attrs.frozen
class Referrer:
    """A manifest that refers to another."""

    descriptor: Descriptor
    artifact_type: str | None


class Shelves:
    """The shelves of one store."""

    def __init__(self, layout: Layout, disk: Disk) -> None:
        self._layout = layout
        self._disk = disk

    async def summaries(self, repositories: Sequence[Repository]) -> list[Summary]:
        """Tell of each repository whose its name is, and how many tags it has."""
        return await self._disk.run(self._summaries, repositories)

    async def tags(self, repository: Repository, names: Sequence[str]) -> list[TagRow]:
        """Tell of each tag that is still there."""
        return await self._disk.run(self._tags, repository, names)

    async def image(self, repository: Repository, descriptor: Descriptor) -> Image:
        """Tell what a manifest of the repository, which may be damaged or gone, leads to."""
        return await self._disk.run(self._image, repository, descriptor)

    async def referrers(self, body: bytes) -> tuple[list[Referrer], bool]:
        """Read an index of referrers: the first of them, and whether there are more."""
        return await self._disk.run(_referrers, body)

    def _summaries(self, repositories: Sequence[Repository]) -> list[Summary]:
        left = _MOST_TAGS_TOGETHER
        found = []
        for repository in repositories:
            most = max(min(_MOST_TAGS, left), _LEAST_TAGS)
            tags = _count(self._layout.record(tags_key(repository)), most + 1)
            left -= tags
            found.append(Summary(self._owner(repository), min(tags, most), tags <= most))
        return found

    def _owner(self, repository: Repository) -> OwnerRecord | None:
        names = [repository.name]
        if repository.namespace == _HUB and repository.name.startswith(_OFFICIAL):
            names.append(repository.name.removeprefix(_OFFICIAL))
        for name in names:
            record = owner_of(self._value(owner_key(name)))
            if record is not None:
                return record
        return None

    def _tags(self, repository: Repository, names: Sequence[str]) -> list[TagRow]:
        budget = _Budget(_OF_PAGE)
        found = []
        for name in names:
            record = tag_of(self._value(tag_key(repository, name)))
            if record is None:
                continue
            contained = self._contained(record.descriptor, budget)
            size: int | None = None
            platforms: tuple[str, ...] = ()
            if contained is not None:
                inner = [
                    self._size(repository, each.descriptor, budget) for each in contained.children[:_CHILDREN]
                ]
                size, platforms = _together(contained, inner), self._platforms(contained, budget)
            since = self._since(repository, record.descriptor.digest)
            found.append(TagRow(name, record, since, size, platforms))
        return found

    def _image(self, repository: Repository, descriptor: Descriptor) -> Image:
        since = self._since(repository, descriptor.digest)
        if descriptor.size > MAX_MANIFEST_SIZE:
            return Image(descriptor, since, None, "it is larger than 4 MiB")
        body = self._blob(descriptor)
        if body is None:
            return Image(descriptor, since, None, "its bytes are not here any more")
        try:
            contained = read_contained(body)
        except Unverified as error:
            return Image(descriptor, since, None, error.message)
        budget = _Budget(_OF_PAGE)
        configuration, trouble = None, None
        config = None if contained.config is None else self._part(repository, contained.config)
        if config is not None and config.stored:
            configuration, trouble = self._configuration(config.descriptor)
        return Image(
            descriptor,
            since,
            contained,
            None,
            config,
            configuration,
            trouble,
            tuple(self._part(repository, each) for each in contained.layers),
            tuple(
                Variant(
                    Part(each.descriptor, self._has_manifest(repository, each.descriptor)),
                    each.platform,
                    each.attests,
                    self._size(repository, each.descriptor, budget),
                )
                for each in contained.children
            ),
        )

    def _platforms(self, contained: Contained, budget: _Budget) -> tuple[str, ...]:
        if contained.children or contained.config is None:
            return contained.platforms
        own = self._read(contained.config, budget, lambda body: read_configuration(body).platform)
        return () if own is None else (own,)

    def _size(self, repository: Repository, descriptor: Descriptor, budget: _Budget) -> int | None:
        """Tell the size of an image whose manifest the repository has."""
        if not self._has_manifest(repository, descriptor):
            return None
        contained = self._contained(descriptor, budget)
        return None if contained is None else contained.size

    def _contained(self, descriptor: Descriptor, budget: _Budget) -> Contained | None:
        return self._read(descriptor, budget, read_contained)

    def _configuration(self, descriptor: Descriptor) -> tuple[Configuration | None, str | None]:
        if descriptor.size > MAX_CONFIG_SIZE:
            return None, "it is larger than 1 MiB"
        body = self._blob(descriptor)
        if body is None:
            return None, "its bytes are not here any more"
        try:
            return read_configuration(body), None
        except Unverified as error:
            return None, error.message

    def _part(self, repository: Repository, descriptor: Descriptor) -> Part:
        linked = os.path.exists(self._layout.record(blob_key(repository, descriptor.digest)))
        return Part(descriptor, linked and self._is_stored(descriptor))

    def _has_manifest(self, repository: Repository, descriptor: Descriptor) -> bool:
        linked = os.path.exists(self._layout.record(manifest_key(repository, descriptor.digest)))
        return linked and self._is_stored(descriptor)

    def _is_stored(self, descriptor: Descriptor) -> bool:
        try:
            return os.stat(self._layout.blob(descriptor.digest)).st_size == descriptor.size
        except OSError:
            return False

    def _since(self, repository: Repository, digest: Digest) -> float | None:
        try:
            return os.stat(self._layout.record(manifest_key(repository, digest))).st_mtime
        except OSError:
            return None

    def _read(self, descriptor: Descriptor, budget: _Budget, read: Callable[[bytes], T]) -> T | None:
        if descriptor.size > _OF_ROW or not budget.take(descriptor.size):
            return None
        body = self._blob(descriptor)
        try:
            return None if body is None else read(body)
        except Unverified:
            return None

    def _blob(self, descriptor: Descriptor) -> bytes | None:
        """Read a blob that is as long as it is said to be."""
        try:
            with open(self._layout.blob(descriptor.digest), "rb") as file:
                body = file.read(descriptor.size + 1)
        except OSError:
            return None
        return body if len(body) == descriptor.size else None

    def _value(self, key: str) -> dict[str, Any]:
        try:
            record = read_document(self._layout.record(key))
        except (OSError, ValueError, RecursionError):
            return {}
        return {} if record is None else record.value


@attrs.define
class _Budget:
    left: int

    def take(self, count: int) -> bool:
        """Take `count` if there is as much left."""
        if count > self.left:
            return False
        self.left -= count
        return True


def _together(contained: Contained, inner: Sequence[int | None]) -> int | None:
    """Add up what an image, or an index with images of the sizes `inner`, is made of."""
    if not contained.children:
        return contained.size
    known = [size for size in inner if size is not None]
    return sum(known) if known else None


def _count(path: str, most: int) -> int:
    try:
        with os.scandir(path) as entries:
            return sum(1 for _ in islice(entries, most))
    except OSError:
        return 0


def _referrers(body: bytes) -> tuple[list[Referrer], bool]:
    try:
        listed = parse_referrers(body) if len(body) <= MAX_REFERRERS_SIZE else []
    except NoraError:
        listed = []
    found = []
    for item in listed[:_MOST_REFERRERS]:
        descriptor = Descriptor(item["mediaType"][:MAX_TEXT], Digest.parse(item["digest"]), item["size"])
        kind = item.get("artifactType")
        found.append(Referrer(descriptor, kind[:MAX_TEXT] if isinstance(kind, str) and kind else None))
    return found, len(listed) > _MOST_REFERRERS
