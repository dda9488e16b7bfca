"""What checks of a registry push: blobs of noise, and images, indexes and artifacts of every form the image-spec knows.

Everything is new each time, so that a check never meets what another one left. A thing with parts is a list in the
order in which it is pushed: blobs, manifests, and last what a tag would point at.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence

import attrs

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
PLAIN_LAYER = "application/vnd.oci.image.layer.v1.tar"
FOREIGN_LAYER = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
ALGORITHMS = ("sha256", "sha512")

_MANIFESTS = {MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_LIST}


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """Tell the digest of `data`."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@attrs.frozen
class Content:
    """Bytes with a type, named by their digest."""

    data: bytes = attrs.field(repr=False)
    media_type: str = LAYER
    algorithm: str = "sha256"

    @property
    def digest(self) -> str:
        """The digest by its own algorithm."""
        return digest_of(self.data, self.algorithm)

    @property
    def is_manifest(self) -> bool:
        """Whether it is pushed as a manifest, not as a blob."""
        return self.media_type in _MANIFESTS

    def descriptor(self, **more: object) -> dict[str, object]:
        """What a manifest says of it, and `more`."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data), **more}


def blob(size: int = 512, algorithm: str = "sha256", media_type: str = LAYER) -> Content:
    """Make a blob of noise."""
    return Content(os.urandom(size), media_type, algorithm)


def document(media_type: str, algorithm: str = "sha256", **fields: object) -> Content:
    """Make a manifest or an index of `fields` that is like no other; a field that is None is left out."""
    annotations = fields.pop("annotations", {})
    assert isinstance(annotations, dict)
    known = {
        "schemaVersion": 2,
        "mediaType": media_type,
        **{name: value for name, value in fields.items() if value is not None},
        "annotations": {"org.example.unique": os.urandom(8).hex(), **annotations},
    }
    return Content(json.dumps(known).encode(), media_type, algorithm)


def manifest_of(config: Content, layers: Sequence[Mapping[str, object]], **fields: object) -> Content:
    """Make an image manifest of a configuration and descriptors of layers."""
    algorithm = fields.pop("algorithm", "sha256")
    return document(
        MANIFEST, str(algorithm), config=config.descriptor(), layers=[dict(one) for one in layers], **fields
    )


def image(
    algorithm: str = "sha256", layers: int = 2, layer_type: str = LAYER, **fields: object
) -> list[Content]:
    """Make an image; `fields` go into its manifest."""
    parts = [blob(600 + number, algorithm, layer_type) for number in range(layers)]
    config = Content(
        json.dumps({"architecture": "amd64", "os": "linux", "unique": os.urandom(8).hex()}).encode(),
        CONFIG,
        algorithm,
    )
    made = manifest_of(config, [one.descriptor() for one in parts], algorithm=algorithm, **fields)
    return [*parts, config, made]


def artifact(
    kind: str | None, algorithm: str = "sha256", layers: int = 1, config_type: str = EMPTY, **fields: object
) -> list[Content]:
    """Make an artifact of type `kind`; without layers its one layer is the empty object, like its configuration."""
    nothing = Content(b"{}", config_type, algorithm)
    parts = [blob(300, algorithm, "application/octet-stream") for _ in range(layers)]
    listed = [one.descriptor() for one in parts] or [nothing.descriptor(mediaType=EMPTY)]
    made = manifest_of(nothing, listed, algorithm=algorithm, artifactType=kind, **fields)
    return [*parts, nothing, made]


def index(*members: Sequence[Content], algorithm: str = "sha256", **fields: object) -> list[Content]:
    """Make an index of `members`, which may be indexes themselves."""
    manifests = []
    for number, member in enumerate(members):
        top = member[-1]
        platform = {"os": "linux", "architecture": f"cpu{number}"}
        manifests.append(
            top.descriptor(platform=platform) if top.media_type == MANIFEST else top.descriptor()
        )
    made = document(INDEX, algorithm, manifests=manifests, **fields)
    return [*(content for member in members for content in member), made]
