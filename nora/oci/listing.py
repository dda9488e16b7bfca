"""Lists that registries tell of a repository: its tags, and the referrers of a manifest.

The forms are those of the distribution-spec ("Listing Tags", "Listing Referrers"). What comes from an upstream is
checked whole: a list with something in it that cannot be there is none.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

import attrs

from nora.oci.digest import Digest
from nora.oci.document import MAX_PARTS, Unreadable, read_object
from nora.oci.errors import InvalidDigest, Unverified
from nora.oci.manifest import OCI_INDEX
from nora.oci.reference import TAG_PATTERN

MAX_TAGS = 1_000_000
MAX_TAGS_SIZE = 16 * 1024 * 1024
"""Bytes of a whole list of tags, as an upstream sends it."""
MAX_REFERRERS_SIZE = 4 * 1024 * 1024
"""Bytes of a whole index of referrers."""

_TAG = re.compile(rf"{TAG_PATTERN}\Z")
_MAX_LINE = 129
_RUN = 10_000


@attrs.frozen
class TagPage:
    """A part of a list of tags, in byte order; `more` tells that others follow."""

    tags: tuple[str, ...]
    more: bool


@attrs.frozen
class TagList:
    """All tags of a repository: `text` has each once, in byte order, with a newline after it."""

    text: bytes = attrs.field(repr=False)

    @classmethod
    def of(cls, tags: Iterable[str]) -> TagList:
        """Make one of checked tags, in any order, repeated or not.

        It takes seconds for a million of them in disorder: in small steps, so that other threads can go on.
        """
        ordered = list(tags)
        if any(one >= other for one, other in pairwise(ordered)):
            runs = [sorted(ordered[at : at + _RUN]) for at in range(0, len(ordered), _RUN)]
            ordered = [tag for tag, _ in groupby(heapq.merge(*runs))]
        return cls("".join(f"{tag}\n" for tag in ordered).encode("ascii"))

    def page(self, last: bytes, limit: int) -> TagPage:
        """Give up to `limit` of the tags that come after `last` in byte order, whether or not that is one of them."""
        start = self._after(last)
        lines = self.text[start : start + limit * _MAX_LINE].split(b"\n", limit)[:-1][:limit]
        stop = start + sum(len(line) + 1 for line in lines)
        return TagPage(tuple(line.decode("ascii") for line in lines), stop < len(self.text))

    def _after(self, last: bytes) -> int:
        """Find where the first tag past `last` begins, by halves."""
        low, high = 0, len(self.text)
        while low < high:
            middle = (low + high) // 2
            start = self.text.rfind(b"\n", low, middle) + 1 or low
            end = self.text.index(b"\n", middle)
            if self.text[start:end] <= last:
                low = end + 1
            else:
                high = start
        return low


def parse_tags(body: bytes) -> list[str]:
    """Read one page of a list of tags as an upstream sent it; raises `Unverified`."""
    tags = _document(body, MAX_TAGS + MAX_PARTS).get("tags", "")
    if tags is None:  # so some tell that there are none
        return []
    if not isinstance(tags, list) or len(tags) > MAX_TAGS:
        raise Unverified("it sent something else than a list of tags")
    if not all(isinstance(tag, str) and _TAG.match(tag) for tag in tags):
        raise Unverified("its list of tags has something in it that is no tag")
    return tags


def parse_referrers(body: bytes) -> list[Mapping[str, Any]]:
    """Read one page of an index of referrers: the descriptors as they are; raises `Unverified`."""
    document = _document(body)
    listed = document.get("manifests")
    if (
        document.get("schemaVersion") != 2
        or document.get("mediaType", OCI_INDEX) != OCI_INDEX
        or not isinstance(listed, list)
    ):
        raise Unverified("it sent something else than an index of referrers")
    for item in listed:
        descriptor_digest(item)
    return listed


def descriptor_digest(item: object) -> Digest:
    """Check that `item` is a descriptor, and give the digest in it; raises `Unverified`."""
    if isinstance(item, dict):
        size, name, kind = item.get("size"), item.get("digest"), item.get("mediaType")
        if isinstance(size, int) and size >= 0 and isinstance(name, str) and isinstance(kind, str):
            try:
                return Digest.parse(name)
            except InvalidDigest:
                pass
    raise Unverified("its index of referrers has something in it that is no descriptor")


def names_subject(body: bytes, subject: Digest) -> bool:
    """Tell whether the manifest `body`, verified JSON, says that it refers to `subject`."""
    named = _document(body).get("subject")
    return isinstance(named, dict) and named.get("digest") == str(subject)


def compose_referrers(listed: Sequence[Mapping[str, Any]]) -> bytes:
    """Make an index of referrers; raises `Unverified` for one of more than 4 MiB."""
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    if len(body) > MAX_REFERRERS_SIZE:
        raise Unverified("the index of referrers is larger than 4 MiB")
    return body


NO_REFERRERS = compose_referrers(())
"""The index of a manifest that nothing refers to."""


def filter_referrers(body: bytes, artifact_type: str) -> bytes:
    """Give the index `body` with only the referrers of one type."""
    listed = json.loads(body)["manifests"]
    return compose_referrers([item for item in listed if item.get("artifactType") == artifact_type])


def _document(body: bytes, most_parts: int = MAX_PARTS) -> Mapping[str, Any]:
    try:
        return read_object(body, most_parts)
    except Unreadable as error:
        raise Unverified(f"it sent a list that {error}") from None
