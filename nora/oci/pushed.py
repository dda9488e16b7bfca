"""Manifests as clients push them: what is refused, what must be there first, and how a referrer is listed.

The rules are those of `nora.oci.manifest`, and stricter where a document could be read in two ways: no key twice in
one object, no numbers that JSON does not have. Everything else that is in a document is kept, because its bytes are.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Mapping
from typing import Any, TypeGuard

import attrs

from nora.oci.digest import Digest
from nora.oci.document import Unreadable, read_object
from nora.oci.errors import InvalidDigest, InvalidManifest, RequestTooLarge
from nora.oci.manifest import (
    ACCEPTED_MEDIA_TYPES,
    MAX_MANIFEST_SIZE,
    MAX_SIZE,
    Descriptor,
    is_index,
    kind_of,
)

MAX_PUSHED_CHILDREN = 10_000
"""Descriptors in one pushed manifest; docker stops at 127 layers."""
_MAX_TEXT = 255
"""Characters of a media type (RFC 6838 section 4.2: 127 for each half)."""
_MAX_DIGITS = 100


@attrs.frozen
class PushedDocument:
    """A manifest that a client sent, understood; `descriptor` is its own."""

    descriptor: Descriptor
    blobs: tuple[Descriptor, ...]
    """What must be in the repository as a blob: configuration and layers, but those that are found at `urls`."""
    manifests: tuple[Descriptor, ...]
    """What an index lists. A buildkit cache lists blobs there too; their media types are of no manifest."""
    subject: Digest | None

    @property
    def children(self) -> tuple[Descriptor, ...]:
        """All that must be there first."""
        return (*self.blobs, *self.manifests)


def read_pushed(body: bytes, media_type: str | None, digest: Digest | None = None) -> PushedDocument:
    """Understand a pushed manifest.

    `media_type` is its Content-Type, parameters allowed; without one the document's own counts. `digest` is what it
    must hash to. Raises `InvalidManifest`, `InvalidDigest`, `RequestTooLarge`. Takes a while for a large one: tens
    of milliseconds for 4 MiB.
    """
    if len(body) > MAX_MANIFEST_SIZE:
        raise RequestTooLarge("the manifest is larger than 4 MiB", {"limit": MAX_MANIFEST_SIZE})
    actual = Digest.of(body, digest.algorithm if digest else "sha256")
    if digest is not None and actual != digest:
        raise InvalidDigest(f"the manifest hashes to {actual}, not to {digest}")
    document = _parse(body)
    kind = kind_of(media_type or "") or document.get("mediaType")
    if not isinstance(kind, str) or kind not in ACCEPTED_MEDIA_TYPES:
        raise InvalidManifest(f"{str(kind)[:100] or 'no media type'} is not the type of a manifest")
    version = document.get("schemaVersion")
    if version != 2 or not isinstance(version, int):
        raise InvalidManifest("the manifest's schemaVersion is not 2")
    if document.get("mediaType", kind) != kind:
        raise InvalidManifest("the manifest's mediaType is not its Content-Type")
    if ("layers" in document or "config" in document) and "manifests" in document:
        raise InvalidManifest("the manifest is both an image manifest and an index")
    _check_texts(document)
    subject = document.get("subject")
    refers = None if subject is None else _descriptor(subject)[0].digest
    own = Descriptor(kind, actual, len(body))
    if is_index(kind):
        return PushedDocument(own, (), _required(document.get("manifests")), refers)
    config = _required([document.get("config")])
    return PushedDocument(own, config + _required(document.get("layers")), (), refers)


def referrer(body: bytes, descriptor: Descriptor, wanted: str | None, room: int) -> bytes | None:
    """Make the entry, as JSON, that lists the stored manifest `body` as a referrer.

    It is the descriptor with `artifactType` and `annotations` (distribution-spec, "Listing Referrers"). Annotations
    that make it longer than `room` bytes are left out. None when `body` is no manifest that refers to anything, or
    not of the `wanted` type of artifact.
    """
    try:
        document = _parse(body)
        _check_texts(document)
    except InvalidManifest:
        return None
    if not isinstance(document.get("subject"), dict):
        return None
    entry: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    kind = artifact_type(document, descriptor.media_type)
    if wanted is not None and kind != wanted:
        return None
    if kind:
        entry["artifactType"] = kind
    bare = json.dumps(entry, separators=(",", ":")).encode("ascii")
    if document.get("annotations"):
        entry["annotations"] = document["annotations"]
        whole = json.dumps(entry, separators=(",", ":")).encode("ascii")
        return whole if len(whole) <= room else bare
    return bare


def artifact_type(document: Mapping[str, Any], media_type: str) -> str | None:
    """Tell the type of artifact of a manifest: its own word, else the type of its configuration."""
    told = document.get("artifactType")
    if isinstance(told, str) and told:
        return told
    config = document.get("config")
    if is_index(media_type) or not isinstance(config, dict):
        return None
    kind = config.get("mediaType")
    return kind if isinstance(kind, str) and len(kind) <= _MAX_TEXT else None


def subject_of(body: bytes) -> Digest | None:
    """Tell what the stored manifest `body` refers to."""
    try:
        named = _parse(body).get("subject")
        return Digest.parse(named["digest"]) if isinstance(named, dict) else None
    except (InvalidManifest, InvalidDigest, KeyError, AttributeError):
        return None


def lists(body: bytes, digest: Digest) -> bool:
    """Tell whether the stored manifest `body` lists `digest` among its parts; quick where it does not."""
    if digest.hex.encode("ascii") not in body and b"\\u" not in body:
        return False
    try:
        document = read_object(body)
    except Unreadable:
        return False
    found = [document.get("config")]
    for field in ("layers", "manifests"):
        listed = document.get(field)
        found += listed if isinstance(listed, list) else []
    return any(isinstance(item, dict) and item.get("digest") == str(digest) for item in found)


def _parse(body: bytes) -> Mapping[str, Any]:
    if body.startswith(BOM_UTF8):
        raise InvalidManifest("the manifest begins with a byte order mark")
    try:
        return read_object(body, object_pairs_hook=_object, parse_constant=_refuse, parse_int=_integer)
    except Unreadable as error:
        raise InvalidManifest(f"the manifest {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise InvalidManifest("the manifest has a key twice in one object")
    return made


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise InvalidManifest("the manifest has a number that nothing has")
    return int(text)


def _refuse(name: str) -> None:
    raise InvalidManifest(f"{name} is no number of JSON")


def _check_texts(document: Mapping[str, Any]) -> None:
    """Check what a referrer is listed with."""
    kind = document.get("artifactType")
    if kind is not None and not _is_type(kind):
        raise InvalidManifest("the manifest's artifactType is not a media type")
    notes = document.get("annotations")
    if notes is None:
        return
    if not isinstance(notes, dict) or not all(isinstance(value, str) for value in notes.values()):
        raise InvalidManifest("the manifest's annotations are not texts")


def _is_type(value: object) -> TypeGuard[str]:
    """Tell whether a value may be a media type: no more is asked of it than that it can be told in any header."""
    return isinstance(value, str) and len(value) <= _MAX_TEXT and value.isascii() and value.isprintable()


def _required(value: object) -> tuple[Descriptor, ...]:
    """Read a list of descriptors, leaving out those whose content is found elsewhere."""
    if not isinstance(value, list):
        raise InvalidManifest("the manifest lacks a list of what it consists of")
    if len(value) > MAX_PUSHED_CHILDREN:
        raise InvalidManifest(f"the manifest lists more than {MAX_PUSHED_CHILDREN} descriptors")
    read = [_descriptor(item) for item in value]
    return tuple(descriptor for descriptor, elsewhere in read if not elsewhere)


def _descriptor(item: object) -> tuple[Descriptor, bool]:
    """Read a descriptor, and tell whether its content may be fetched from `urls`."""
    if not isinstance(item, dict):
        raise InvalidManifest("the manifest lists something that is not a descriptor")
    size, name, kind, urls = (item.get(field) for field in ("size", "digest", "mediaType", "urls"))
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_SIZE:
        raise InvalidManifest("the manifest lists a descriptor without a size, or of one that nothing has")
    if not kind or not _is_type(kind) or not isinstance(name, str):
        raise InvalidManifest("the manifest lists a descriptor without mediaType or digest")
    try:
        digest = Digest.parse(name)
    except InvalidDigest as error:
        raise InvalidManifest(f"the manifest lists {name[:200]!r}: {error.message}") from None
    return Descriptor(kind, digest, size), isinstance(urls, list) and bool(urls)
