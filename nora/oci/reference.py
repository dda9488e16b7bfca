"""Names, tags and references, by the grammar of the distribution-spec ("Pulling manifests").

Nothing that does not pass here reaches a path of the store or a URL of an upstream.
"""

from __future__ import annotations

import re

import attrs

from nora.oci.digest import Digest
from nora.oci.errors import InvalidName, InvalidTag

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
NAME_PATTERN = rf"{_COMPONENT}(?:/{_COMPONENT})*"
TAG_PATTERN = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
MAX_NAME_LENGTH = 255
LOCAL = "local"
"""The namespace of what was pushed here; no upstream can have it."""

_NAME = re.compile(rf"{NAME_PATTERN}\Z")
_TAG = re.compile(rf"{TAG_PATTERN}\Z")


@attrs.frozen(order=True)
class Tag:
    """A human's name of a manifest: 1 to 128 characters; made by `parse_reference` alone."""

    name: str

    def __str__(self) -> str:
        return self.name


Reference = Tag | Digest


@attrs.frozen(order=True)
class Repository:
    """A repository in the store: the `namespace` it came from (`docker.io`, `local`) and its `name` there."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def check_name(name: str) -> str:
    """Give `name` back when it is a repository name of at most 255 characters; raises `InvalidName`."""
    if len(name) > MAX_NAME_LENGTH or not _NAME.match(name):
        raise InvalidName(
            "a repository name is up to 255 of a-z, 0-9 and . _ __ - between them, in parts joined by /"
        )
    return name


def parse_reference(text: str) -> Reference:
    """Read a tag or a digest; raises `InvalidDigest` for what has a colon, `InvalidTag` for the rest."""
    if ":" in text:
        return Digest.parse(text)
    if not _TAG.match(text):
        raise InvalidTag("a tag is up to 128 of a-z, A-Z, 0-9, _ . - and starts with none of . -")
    return Tag(text)
