"""One process of a registry that hosts: everything that is pushed, read, listed and removed, over one folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.task import Clock

from nora.access import Action, Rights
from nora.concurrency import Background
from nora.content.catalog import IndexedCatalog
from nora.content.chosen import ChosenDiscovery, ChosenPull
from nora.content.hosted import HostedDiscovery, HostedPull
from nora.content.purge import Purge
from nora.content.removal import HostedRemoval
from nora.oci import Digest, Reference, Repository, parse_reference
from nora.oci.errors import Denied
from nora.oci.manifest import OCI_INDEX, OCI_MANIFEST
from nora.oci.reference import LOCAL
from nora.pull.absences import Absences
from nora.pull.manifests import Manifests
from nora.push.immutable import ImmutableTags
from nora.push.interfaces import PushedManifest, Target
from nora.push.manifests import ManifestPush
from nora.push.turns import Turns
from nora.storage.blobs import DiskBlobs
from nora.storage.holdings import Holdings
from nora.storage.interfaces import Disk, Hosted, Index
from nora.storage.inventory import Inventory
from nora.storage.layout import Layout
from nora.storage.lists import DiskLists
from nora.storage.locks import DiskLocks
from nora.storage.names import RecordedNames
from nora.storage.records import DiskRecords
from nora.storage.repositories import RecordedRepositories
from nora.upstream.routing import RoutedUpstream, Routing
from tests.support.pull_fakes import FakeDiscovery, FakePull
from tests.support.pulling import Counts
from tests.support.storage_fakes import ImmediateDisk, MemoryIndex

EVERYTHING = Rights("carol", frozenset(Action))
APP = Repository(LOCAL, "team/app")


class AnyTarget:
    """Every name is hosted here, whoever asks."""

    def __init__(self, hosted: Hosted) -> None:
        self._hosted = hosted

    async def resolve(self, target: Target, rights: Rights) -> Repository:
        """Tell the repository."""
        repository = Repository(LOCAL, target.name)
        rights.require_on(Action.PUSH, repository, target.name)
        if target.ns is not None:
            raise Denied("not here")
        return repository

    async def host(self, repository: Repository) -> None:
        """Make it hosted."""
        await self._hosted.mark(repository.name)


class Everybodys:
    """Nothing is private but what a test says."""

    def __init__(self) -> None:
        self.private: set[Repository] = set()

    async def shows(self, repository: Repository, rights: Rights) -> bool:
        """Tell whether it is not."""
        return repository not in self.private or rights.private


class Hosting:
    """A process of the registry in `root`. Two of them on one root are two processes."""

    def __init__(
        self,
        root: str,
        *,
        clock: Any = None,
        disk: Disk | None = None,
        index: Index | None = None,
        immutable: Iterable[str] = (),
        sparse: bool = False,
        upstreams: Sequence[RoutedUpstream] = (),
        **routing: Any,
    ) -> None:
        self.clock = clock or Clock()
        self.disk = disk or ImmediateDisk()
        self.layout = Layout(root)
        self.layout.prepare()
        self.locks = DiskLocks(self.layout.locks, self.clock)
        self.locks.open()
        self.index = index or MemoryIndex()
        self.blobs = DiskBlobs(self.layout, self.disk, self.index)
        self.records = DiskRecords(self.layout, self.disk)
        self.repositories = RecordedRepositories(self.records, self.index)
        self.names = RecordedNames(self.records, self.repositories, self.locks, self.clock.seconds)
        self.holdings = Holdings(self.layout, self.disk, self.records)
        self.turns = Turns(self.locks)
        self.routing = Routing(upstreams, **routing)
        rules = ImmutableTags(immutable)
        absences = Absences(self.clock, 0.0, Counts())
        manifests = Manifests(self.blobs, self.repositories, self.index, self.locks, Background(), absences)
        self.push = ManifestPush(
            AnyTarget(self.names),
            self.repositories,
            self.holdings,
            self.blobs,
            self.index,
            self.disk,
            self.locks,
            self.turns,
            rules,
            self.clock.seconds,
            sparse=sparse,
        )
        self.proxied, self.proxied_lists = FakePull(), FakeDiscovery()
        here = HostedPull(manifests, self.repositories, self.blobs, self.index, self.disk)
        self.pull = ChosenPull(self.names, here, self.proxied)
        self.discovery = ChosenDiscovery(
            self.names, HostedDiscovery(self.holdings, self.names), self.proxied_lists
        )
        self.removal = HostedRemoval(
            self.routing,
            self.names,
            self.repositories,
            self.holdings,
            self.blobs,
            self.index,
            self.turns,
            rules,
            Purge(
                self.repositories,
                self.holdings,
                Inventory(self.records),
                DiskLists(self.layout, self.disk),
                self.index,
            ),
        )
        self.privacy = Everybodys()
        self.catalog = IndexedCatalog(self.index, self.privacy)

    async def put_blob(self, data: bytes, repository: Repository = APP, algorithm: str = "sha256") -> Digest:
        """Have a blob in a repository, as an upload leaves it."""
        digest = Digest.of(data, algorithm)
        await self.blobs.add(data, digest)
        await self.names.mark(repository.name)
        await self.repositories.link_blob(repository, digest, len(data))
        return digest

    async def put(
        self, body: bytes, reference: str, kind: str | None = OCI_MANIFEST, *tags: str, name: str = APP.name
    ) -> PushedManifest:
        """Push a manifest."""
        return await self.push.manifest(
            Target(name), parse_reference(reference), kind, body, tags, EVERYTHING
        )

    async def put_image(
        self, reference: str, layer: bytes = b"layer", name: str = APP.name, **fields: Any
    ) -> Digest:
        """Push a whole image."""
        repository = Repository(LOCAL, name)
        for data in (b"{}", layer):
            await self.put_blob(data, repository)
        return (await self.put(image(b"{}", layer, **fields), reference, name=name)).digest

    async def get(self, reference: str, name: str = APP.name) -> bytes:
        """Pull a manifest."""
        served = await self.pull.manifest(self.routing.route(name), self._reference(reference), EVERYTHING)
        assert served.content.body is not None
        return served.content.body

    async def tags(self, name: str = APP.name) -> tuple[str, ...]:
        """List all tags."""
        return (await self.discovery.tags(self.routing.route(name), b"", 10_000, EVERYTHING)).content.tags

    async def referrers(self, subject: Digest, kind: str | None = None) -> list[dict[str, Any]]:
        """List all referrers, page after page."""
        found: list[dict[str, Any]] = []
        last: str | None = ""
        while last is not None:
            route = self.routing.route(APP.name)
            served = await self.discovery.referrers(route, subject, kind, EVERYTHING, last)
            found += json.loads(served.content)["manifests"]
            last = served.following
        return found

    @staticmethod
    def _reference(text: str) -> Reference:
        return parse_reference(text)

    def close(self) -> None:
        """Let go of the store."""
        self.locks.close()


def descriptor(data: bytes, kind: str = "application/octet-stream", **fields: Any) -> dict[str, Any]:
    """Describe `data`."""
    return {"mediaType": kind, "digest": str(Digest.of(data)), "size": len(data), **fields}


def image(*parts: bytes, **fields: Any) -> bytes:
    """Make an image manifest of a configuration and layers."""
    config, *layers = (descriptor(part) for part in parts)
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers, **fields}
    return json.dumps(document).encode()


def index(*manifests: bytes, **fields: Any) -> bytes:
    """Make an index."""
    listed = [descriptor(each, OCI_MANIFEST) for each in manifests]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed, **fields}
    return json.dumps(document).encode()
