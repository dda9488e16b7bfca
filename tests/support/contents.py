"""A store with contents that a test puts there, and what the pages ask of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet import reactor

from nora.access import Rights
from nora.content.contents import Contents
from nora.content.shelves import Shelves
from nora.oci import Descriptor, Digest, Repository
from nora.oci.manifest import OCI_INDEX, OCI_MANIFEST, Manifest
from nora.oci.reference import LOCAL
from nora.pull.freshness import Freshness, Rule
from nora.storage.interfaces import TagRecord
from nora.storage.overview import Overview
from nora.storage.store import Store

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def descriptor(media_type: str, data: bytes, **more: object) -> dict[str, object]:
    """Write what a manifest says of `data`."""
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data), **more}


class Stocked:
    """A store on a disk, and its contents; `private` are the cached repositories that only a user may see."""

    def __init__(self, path: str) -> None:
        self.store = Store(path, reactor, 10)
        self.private: set[Repository] = set()
        self.contents = Contents(
            self.store.index,
            Overview(self.store.index),
            Shelves(self.store.layout, self.store.disk),
            self.store.holdings,
            self.store.repositories,
            self.store.lists,
            self,
            Freshness(3600, 5, rules=(Rule("*:fixed", float("inf")),)),
        )

    async def start(self) -> None:
        """Open it."""
        self.store.layout.prepare()
        await self.store.start()

    async def stop(self) -> None:
        """Close it."""
        await self.store.stop()

    async def shows(self, repository: Repository, rights: Rights) -> bool:
        """Tell whether the client may know of a repository."""
        return rights.private or repository not in self.private

    async def put(
        self,
        repository: Repository,
        tag: str | None,
        document: Mapping[str, Any] | bytes,
        blobs: Sequence[bytes] = (),
        *,
        upstream: str = "hub",
        checked_at: float = 0.0,
    ) -> Digest:
        """Store a manifest with what it lists of `blobs`, under a tag or none."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        store, kind = self.store, OCI_MANIFEST
        if isinstance(document, Mapping) and "manifests" in document:
            kind = OCI_INDEX
        told = Descriptor(kind, Digest.of(body), len(body))
        for blob in blobs:
            await store.blobs.add(blob, Digest.of(blob))
            await store.repositories.link_blob(repository, Digest.of(blob), len(blob))
        await store.blobs.add(body, told.digest)
        await store.repositories.link_manifest(repository, told)
        if isinstance(document, Mapping):
            manifest = Manifest.verify(body, kind)
            store.index.listed(repository, (*manifest.blobs, *manifest.manifests))
        if tag is not None:
            source = LOCAL if repository.namespace == LOCAL else upstream
            await store.repositories.put_tag(repository, tag, TagRecord(told, source, checked_at))
        return told.digest

    async def image(
        self,
        repository: Repository,
        tag: str | None,
        config: Mapping[str, Any] | bytes | None = None,
        layers: Sequence[bytes] = (b"layer",),
        **more: Any,
    ) -> Digest:
        """Store an image of one platform; its layers too."""
        told = {"os": "linux", "architecture": "amd64"} if config is None else config
        body = told if isinstance(told, bytes) else json.dumps(told).encode()
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(CONFIG, body),
            "layers": [descriptor(LAYER, layer) for layer in layers],
            **more.pop("document", {}),
        }
        return await self.put(repository, tag, document, (body, *layers), **more)
