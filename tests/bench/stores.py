"""Makes a large store in minutes: the files that real pushes and pulls would have left, without their syncs.

Keys and values come from the store's own classes, so that a store from here is one in every respect; it lacks its
index, which `nora reindex` makes. Each tag is an image of its own: a manifest, a configuration and eight layers of a
few bytes. Records that say the same share an inode.

`python -m tests.bench.stores DIRECTORY [IMAGES]` makes one to look at.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import attrs

from nora.oci import Descriptor, Digest, Repository
from nora.oci.reference import LOCAL
from nora.storage.interfaces import OwnerRecord, TagRecord
from nora.storage.layout import Layout
from nora.storage.names import hosted_key
from nora.storage.repositories import RecordedRepositories
from tests.bench.room import MANIFEST

UPSTREAM = "upstream.example"
"""The namespace of what is cached, and the name of the upstream that it came from."""
LARGE = Repository(LOCAL, "team/large")
"""The repository with half of all tags."""
LAYERS = 8
_EACH = 10
"""Tags of every other repository."""
_PIECE = 1000
_LINKS = 60_000
"""Names that one inode gets; ext4 bears 65,000."""


@attrs.frozen
class Image:
    """The image number `number` of a store, which says all about it."""

    number: int
    repository: Repository
    layers: int = LAYERS

    @property
    def tag(self) -> str:
        """Its one tag."""
        return f"v{self.number:07d}"

    @property
    def blobs(self) -> list[bytes]:
        """Its configuration, then its layers."""
        config = b'{"architecture":"amd64","os":"linux","config":{"Labels":{"n":"%07d"}}}' % self.number
        return [config, *(b"%07d/%d" % (self.number, layer) for layer in range(self.layers))]

    @property
    def manifest(self) -> bytes:
        """Its manifest."""
        config, *layers = (_descriptor(blob) for blob in self.blobs)
        config["mediaType"] = "application/vnd.oci.image.config.v1+json"
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        return json.dumps(document, separators=(",", ":")).encode()

    @property
    def paths(self) -> tuple[str, str]:
        """Where a registry has its manifest: by tag, and by digest."""
        at = f"/v2/{self.repository.name}/manifests/"
        return at + self.tag, at + str(_digest(self.manifest))


@attrs.frozen
class Plan:
    """How the images of a store are spread: the first `large` in one repository, then `each` in each of the others."""

    count: int
    large: int
    each: int = _EACH
    layers: int = LAYERS

    def image(self, number: int) -> Image:
        """Give the image of a number."""
        if number < self.large:
            return Image(number, LARGE, self.layers)
        group = (number - self.large) // self.each
        if self.each > 1:
            local, cached = f"team/app-{group:05d}", f"cached/app-{group:05d}"
        else:
            local, cached = (
                f"team-{group % 97:02d}/app-{group:06d}",
                f"group-{group % 89:02d}/image-{group:06d}",
            )
        repository = Repository(LOCAL, local) if group % 2 else Repository(UPSTREAM, cached)
        return Image(number, repository, self.layers)

    def is_first(self, number: int) -> bool:
        """Tell whether it is the first image of its repository."""
        return number == 0 or (number >= self.large and (number - self.large) % self.each == 0)


def plan(count: int) -> Plan:
    """Plan a store of `count` images: half in one hosted repository, the others ten to one, hosted or cached."""
    return Plan(count, count // 2)


def wide(repositories: int) -> Plan:
    """Plan a store of so many repositories: one with 5,000 tags, the others with an image of two layers each."""
    return Plan(repositories + 4999, 5000, 1, 2)


def images(count: int) -> Iterator[Image]:
    """Give the images of a store that was planned for `count`."""
    planned = plan(count)
    for number in range(count):
        yield planned.image(number)


def make(path: Path, planned: Plan) -> None:
    """Make the planned store at `path`: as many tags as images, and for each its manifest, configuration and layers."""
    layout = Layout(str(path))
    layout.prepare()
    for first in range(256):
        os.makedirs(f"{layout.blobs}/sha256/{first:02x}", exist_ok=True)
    pieces = [(str(path), planned, start) for start in range(0, planned.count, _PIECE)]
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        for _ in pool.imap_unordered(_make_piece, pieces):
            pass


def _make_piece(piece: tuple[str, Plan, int]) -> None:
    path, planned, start = piece
    layout = Layout(path)
    records = _Records(layout)
    repositories = RecordedRepositories(records, _Deaf())
    now = time.time()
    for number in range(start, min(start + _PIECE, planned.count)):
        _do(_put(planned.image(number), planned.is_first(number), layout, records, repositories, now))


async def _put(
    image: Image,
    first: bool,
    layout: Layout,
    records: _Records,
    repositories: RecordedRepositories,
    now: float,
) -> None:
    repository, manifest = image.repository, image.manifest
    for blob in image.blobs:
        digest = _digest(blob)
        _write(layout.blob(digest), blob, 0o444)
        await repositories.link_blob(repository, digest, len(blob))
    descriptor = Descriptor(MANIFEST, _digest(manifest), len(manifest))
    _write(layout.blob(descriptor.digest), manifest, 0o444)
    await repositories.link_manifest(repository, descriptor)
    hosted = repository.namespace == LOCAL
    source = LOCAL if hosted else UPSTREAM
    await repositories.put_tag(repository, image.tag, TagRecord(descriptor, source, now))
    if first:
        if hosted:
            await records.put(hosted_key(repository.name), {"since": now})
        else:
            await repositories.put_owner(repository.name, OwnerRecord(UPSTREAM, UPSTREAM, False, now))


class _Records:
    """Writes records without a sync, those that say the same as one file with many names."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._known: dict[bytes, tuple[str, int]] = {}

    async def put(self, key: str, value: dict[str, Any], *, durable: bool = True) -> None:
        """Write a record."""
        data = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
        path = self._layout.record(key)
        source, names = self._known.get(data, ("", _LINKS))
        if os.path.exists(path):
            return
        if names < _LINKS:
            _within(path, lambda: os.link(source, path))
            self._known[data] = source, names + 1
        else:
            _write(path, data, 0o644)
            self._known[data] = path, 1

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a store is made by writing alone, not by {name}")


class _Deaf:
    """An index that nobody needs to tell anything."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def _write(path: str, data: bytes, mode: int) -> None:
    descriptor = _within(path, lambda: os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode))
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _within(path: str, work: Any) -> Any:
    try:
        return work()
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return work()


def _digest(data: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(data).hexdigest())


def _descriptor(blob: bytes) -> dict[str, object]:
    kind = "application/vnd.oci.image.layer.v1.tar"
    return {"mediaType": kind, "digest": str(_digest(blob)), "size": len(blob)}


def _do(work: Coroutine[Any, Any, None]) -> None:
    """Run what never waits."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")


if __name__ == "__main__":
    make(Path(sys.argv[1]), plan(int(sys.argv[2]) if len(sys.argv) > 2 else 1000))
