"""Images as a person looks at them: what a manifest and a configuration say, as far as it can be believed and borne.

The forms are those of the image-spec ("manifest.md", "image-index.md", "config.md"). Anybody can write anything into
them, so whatever is not of its form is left out, lists and texts are cut, and only what is no JSON object at all is an
error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from nora.oci.digest import Digest
from nora.oci.errors import InvalidDigest, Unverified
from nora.oci.manifest import MAX_SIZE, Descriptor

MAX_CONFIG_SIZE = 1024 * 1024
"""Bytes of a configuration that is looked at; the largest real ones have some ten kilobytes."""
MAX_TEXT = 4096
"""Characters of one text."""
MAX_PARTS = 1000
"""Layers of an image, or manifests of an index, that are told."""
MAX_PAIRS = 250
"""Labels, annotations, variables, steps of a history."""
_MAX_WORD = 100
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,9})?Z\Z", re.ASCII)
_UNKNOWN = "unknown"
_ATTESTS = "vnd.docker.reference.digest"

Pairs = tuple[tuple[str, str], ...]


@attrs.frozen
class Child:
    """A manifest that an index lists."""

    descriptor: Descriptor
    platform: str | None
    """As engines write it: `linux/arm64/v8`. None for what is for no platform."""
    attests: bool
    """It holds what a builder says of another manifest, and is no image."""


@attrs.frozen
class Contained:
    """What a manifest says."""

    artifact_type: str | None
    subject: str | None
    """The digest of the manifest that this one refers to."""
    annotations: Pairs
    config: Descriptor | None
    layers: tuple[Descriptor, ...] = ()
    children: tuple[Child, ...] = ()
    left_out: int = 0
    """Layers or manifests that it lists besides."""

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms of an index, each once."""
        return tuple(dict.fromkeys(each.platform for each in self.children if each.platform is not None))

    @property
    def size(self) -> int:
        """Bytes of the configuration and of the layers, each once."""
        parts = self.layers if self.config is None else (self.config, *self.layers)
        return sum({part.digest: part.size for part in parts}.values())


@attrs.frozen
class Step:
    """One step of an image's history."""

    created: str | None
    created_by: str
    comment: str
    empty: bool
    """It left no layer."""


@attrs.frozen
class Configuration:
    """What the configuration of an image says."""

    platform: str | None
    created: str | None
    """ISO 8601 in UTC; None where it is not written so."""
    author: str | None
    user: str | None
    working_directory: str | None
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: tuple[str, ...]
    ports: tuple[str, ...]
    volumes: tuple[str, ...]
    labels: Pairs
    history: tuple[Step, ...]


def read_contained(body: bytes) -> Contained:
    """Read a manifest of either kind; raises `Unverified` for what is no JSON object."""
    document = _object(body)
    config = document.get("config")
    layers, more_layers = _descriptors(document.get("layers"))
    children, more_children = _list(document.get("manifests"))
    subject = document.get("subject")
    return Contained(
        artifact_type=_text(document.get("artifactType")),
        subject=_text(subject.get("digest")) if isinstance(subject, dict) else None,
        annotations=_pairs(document.get("annotations")),
        config=_descriptor(config),
        layers=layers,
        children=tuple(child for child in map(_child, children) if child is not None),
        left_out=more_layers + more_children,
    )


def read_configuration(body: bytes) -> Configuration:
    """Read the configuration of an image; raises `Unverified` for what is no JSON object."""
    document = _object(body)
    told = document.get("config")
    inner: Mapping[str, Any] = told if isinstance(told, dict) else {}
    return Configuration(
        platform=platform_of(document),
        created=_moment(document.get("created")),
        author=_text(document.get("author")),
        user=_text(inner.get("User")),
        working_directory=_text(inner.get("WorkingDir")),
        entrypoint=_texts(inner.get("Entrypoint")),
        command=_texts(inner.get("Cmd")),
        environment=_texts(inner.get("Env")),
        ports=_keys(inner.get("ExposedPorts")),
        volumes=_keys(inner.get("Volumes")),
        labels=_pairs(inner.get("Labels")),
        history=tuple(_step(each) for each in _list(document.get("history"))[0] if isinstance(each, dict))[
            :MAX_PAIRS
        ],
    )


def platform_of(value: object) -> str | None:
    """Write a platform (image-spec "image-index.md") as engines do; None where there is none."""
    if not isinstance(value, dict):
        return None
    parts = [_text(value.get(key)) for key in ("os", "architecture")]
    if any(part is None or part == _UNKNOWN for part in parts):
        return None
    parts += [_text(value.get("variant"))]
    return "/".join(part[:_MAX_WORD] for part in parts if part)


def _child(value: object) -> Child | None:
    descriptor = _descriptor(value)
    if descriptor is None or not isinstance(value, dict):
        return None
    annotations = value.get("annotations")
    attests = isinstance(annotations, dict) and _ATTESTS in annotations
    return Child(descriptor, platform_of(value.get("platform")), attests)


def _step(value: Mapping[str, Any]) -> Step:
    return Step(
        created=_moment(value.get("created")),
        created_by=_text(value.get("created_by")) or "",
        comment=_text(value.get("comment")) or "",
        empty=value.get("empty_layer") is True,
    )


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Unverified("it is not JSON") from None
    if not isinstance(document, dict):
        raise Unverified("it is not a JSON object")
    return document


def _descriptors(value: object) -> tuple[tuple[Descriptor, ...], int]:
    listed, more = _list(value)
    return tuple(each for each in map(_descriptor, listed) if each is not None), more


def _descriptor(value: object) -> Descriptor | None:
    if not isinstance(value, dict):
        return None
    size, name, kind = value.get("size"), value.get("digest"), value.get("mediaType")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_SIZE:
        return None
    try:
        digest = Digest.parse(name) if isinstance(name, str) else None
    except InvalidDigest:
        return None
    return None if digest is None else Descriptor(_text(kind) or "", digest, size)


def _list(value: object) -> tuple[list[Any], int]:
    """Give the first of a list, and the number of the others."""
    if not isinstance(value, list):
        return [], 0
    return value[:MAX_PARTS], max(0, len(value) - MAX_PARTS)


def _text(value: object) -> str | None:
    return value[:MAX_TEXT] if isinstance(value, str) and value else None


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(each[:MAX_TEXT] for each in value[:MAX_PAIRS] if isinstance(each, str))


def _keys(value: object) -> tuple[str, ...]:
    return tuple(each[:MAX_TEXT] for each in list(value)[:MAX_PAIRS]) if isinstance(value, dict) else ()


def _pairs(value: object) -> Pairs:
    if not isinstance(value, dict):
        return ()
    told = [(key[:MAX_TEXT], text[:MAX_TEXT]) for key, text in value.items() if isinstance(text, str)]
    return tuple(sorted(told)[:MAX_PAIRS])


def _moment(value: object) -> str | None:
    found = _MOMENT.match(value) if isinstance(value, str) else None
    if found is None:
        return None
    try:
        return f"{datetime.fromisoformat(found[1]).isoformat()}Z"
    except ValueError:  # the 31st of February
        return None
