"""Every form of what can be pushed, by name: a function that makes one, new each time, in the order of pushing."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from tests.support.conformance_content import (
    CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    FOREIGN_LAYER,
    PLAIN_LAYER,
    Content,
    artifact,
    blob,
    digest_of,
    document,
    image,
    index,
    manifest_of,
)

TYPE = "application/vnd.example.thing.v1"
_UNKNOWN: dict[str, Any] = {"org.example": {"deep": [1, None, 1.50, "é"]}, "x": 10**30}


def _with_data() -> list[Content]:
    """Make an image whose descriptors hold the content itself."""
    whole = image()
    descriptors = [one.descriptor(data=base64.b64encode(one.data).decode()) for one in whole[:2]]
    return [*whole[:3], manifest_of(whole[2], descriptors)]


def _with_foreign_layers() -> list[Content]:
    """Make an image with layers that are never pushed, because they may not be distributed."""
    layer, config = blob(), Content(b'{"os":"windows"}', CONFIG)
    away = {
        "digest": digest_of(b"elsewhere"),
        "size": 1234,
        "urls": ["https://store.example.com/layer"],
    }
    foreign = [{"mediaType": kind, **away} for kind in (FOREIGN_LAYER, FOREIGN_LAYER.removesuffix("+gzip"))]
    return [layer, config, manifest_of(config, [*foreign, layer.descriptor()])]


def _of_docker() -> list[Content]:
    """Make a list of images in Docker's own types."""
    layer = blob(media_type="application/vnd.docker.image.rootfs.diff.tar.gzip")
    config = Content(b'{"os":"linux"}', "application/vnd.docker.container.image.v1+json")
    made = document(DOCKER_MANIFEST, config=config.descriptor(), layers=[layer.descriptor()])
    platform = {"os": "linux", "architecture": "amd64"}
    return [layer, config, made, document(DOCKER_LIST, manifests=[made.descriptor(platform=platform)])]


KINDS: dict[str, Callable[[], list[Content]]] = {
    "image": image,
    "plain layers": lambda: image(layer_type=PLAIN_LAYER),
    "no layers": lambda: image(layers=0),
    "index": lambda: index(image(), image()),
    "nested index": lambda: index(index(image(), image()), index(image())),
    "empty index": index,
    "artifact": lambda: artifact(TYPE),
    "artifact without layers": lambda: artifact(TYPE, layers=0),
    "artifact index": lambda: index(artifact(TYPE), artifact(TYPE), artifactType=TYPE),
    "data": _with_data,
    "foreign layers": _with_foreign_layers,
    "unknown fields": lambda: index(image(**_UNKNOWN), **_UNKNOWN),
    "sha512": lambda: index(image("sha512"), image("sha512"), algorithm="sha512"),
    "sha512 artifact": lambda: artifact(TYPE, "sha512", layers=0),
    "mixed digests": lambda: index(image("sha512"), image()),
    "docker": _of_docker,
}
