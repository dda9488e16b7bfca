"""Manifests: which bytes are one, and what they point at.

The rules are those of the image-spec ("manifest.md", "image-index.md") and of Docker's image manifest v2
schema 2; the check against confusion of the two forms is the one that CVE-2021-41190 asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from nora.oci.digest import Digest
from nora.oci.document import Unreadable, read_object
from nora.oci.errors import InvalidDigest, Unverified

MAX_MANIFEST_SIZE = 4 * 1024 * 1024
MAX_SIZE = 10**18
"""The largest size that is believed, in bytes; what is past it fits no 64-bit record."""

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

_INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
ACCEPTED_MEDIA_TYPES = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)


@attrs.frozen
class Descriptor:
    """What is known of content without its bytes (image-spec "descriptor.md"); `size` in bytes."""

    media_type: str
    digest: Digest
    size: int


@attrs.frozen
class Manifest:
    """A verified manifest, byte for byte as its author made it."""

    media_type: str
    digest: Digest
    body: bytes
    blobs: tuple[Descriptor, ...]
    """Configuration and layers; empty for an index."""
    manifests: tuple[Descriptor, ...]
    """The manifests that an index lists."""

    @property
    def size(self) -> int:
        """The length of the body, in bytes."""
        return len(self.body)

    @property
    def descriptor(self) -> Descriptor:
        """This manifest without its bytes."""
        return Descriptor(self.media_type, self.digest, self.size)

    @classmethod
    def verify(cls, body: bytes, media_type: str, digest: Digest | None = None) -> Manifest:
        """Check `body` and read what it lists.

        `media_type` is the Content-Type it came with, parameters allowed; `digest` is what it must hash to,
        None when only a tag is known (then the digest is its sha256). Raises `Unverified`.
        """
        kind = kind_of(media_type)
        if kind not in ACCEPTED_MEDIA_TYPES:
            raise Unverified(f"{kind[:100] or 'no media type'} is not the type of a manifest")
        if len(body) > MAX_MANIFEST_SIZE:
            raise Unverified("the manifest is larger than 4 MiB")
        actual = Digest.of(body, digest.algorithm if digest else "sha256")
        if digest is not None and actual != digest:
            raise Unverified(f"the manifest hashes to {actual}, not to {digest}")
        document = _parse(body)
        if document.get("schemaVersion") != 2:
            raise Unverified("the manifest's schemaVersion is not 2")
        if document.get("mediaType", kind) != kind:
            raise Unverified("the manifest's mediaType is not its Content-Type")
        if ("layers" in document or "config" in document) and "manifests" in document:
            raise Unverified("the manifest is both an image manifest and an index")
        if kind in _INDEXES:
            return cls(kind, actual, body, (), _descriptors(document.get("manifests")))
        config = document.get("config")
        layers = document.get("layers")
        blobs = _descriptors([config]) + _descriptors(layers)
        return cls(kind, actual, body, blobs, ())


def kind_of(content_type: str) -> str:
    """Give the media type of a Content-Type: without its parameters, lower-case."""
    return content_type.partition(";")[0].strip().lower()


def is_index(media_type: str) -> bool:
    """Tell whether `media_type` is that of an index: fetching one is not a pull."""
    return media_type in _INDEXES


def _parse(body: bytes) -> Mapping[str, Any]:
    try:
        return read_object(body)
    except Unreadable as error:
        raise Unverified(f"the manifest {error}") from None


def _descriptors(value: object) -> tuple[Descriptor, ...]:
    """Read a list of descriptors, leaving out those of algorithms that are not known here."""
    if not isinstance(value, list):
        raise Unverified("the manifest lacks a list of what it consists of")
    found = []
    for item in value:
        if not isinstance(item, dict):
            raise Unverified("the manifest lists something that is not a descriptor")
        size, name, kind = item.get("size"), item.get("digest"), item.get("mediaType")
        if not isinstance(size, int) or isinstance(size, bool) or not isinstance(name, str):
            raise Unverified("the manifest lists a descriptor without digest and size")
        if not 0 <= size <= MAX_SIZE:
            raise Unverified("the manifest lists a descriptor of a size that nothing has")
        try:
            digest = Digest.parse(name)
        except InvalidDigest:
            continue
        found.append(Descriptor(kind if isinstance(kind, str) else "", digest, size))
    return tuple(found)
