"""The records of repositories, typed: the one place that knows their keys and their fields.

Keys are made of checked parts alone. A part that starts with `_` cannot be a component of a repository name, so the
records of `a` and those of `a/b` do not meet. What is read back is checked as if it came from outside: a record
that is not what it should be is none.
"""

from __future__ import annotations

import math
import re
from typing import Any

from nora.oci import Descriptor, Digest, Repository, check_name
from nora.oci.digest import ALGORITHMS
from nora.oci.errors import InvalidDigest, InvalidName, InvalidTag
from nora.oci.reference import TAG_PATTERN
from nora.storage.interfaces import Index, OwnerRecord, Records, TagRecord

_NAMESPACE = re.compile(r"(?!\.{1,2}\Z)[!-.0-~]{1,255}\Z")
_TAG = re.compile(rf"{TAG_PATTERN}\Z")
_MAX_TEXT = 1024
_MORE_THAN_A_FILE = 2**63


def tag_key(repository: Repository, tag: str) -> str:
    """Give the key of a tag's record. Raises `InvalidName`, `InvalidTag`, as all of these do."""
    return f"{_root(repository)}/_tags/{_checked_tag(tag)}"


def manifest_key(repository: Repository, digest: Digest) -> str:
    """Give the key of the right to read a manifest."""
    return f"{_root(repository)}/_manifests/{digest.algorithm}/{digest.hex}"


def blob_key(repository: Repository, digest: Digest) -> str:
    """Give the key of the right to read a blob."""
    return f"{_root(repository)}/_blobs/{digest.algorithm}/{digest.hex}"


def blobs_keys(repository: Repository) -> tuple[str, ...]:
    """Give what the keys of the rights to read a repository's blobs begin with, one for each algorithm."""
    return tuple(f"{_root(repository)}/_blobs/{algorithm}" for algorithm in ALGORITHMS)


def lists_key(repository: Repository) -> str:
    """Give what the places of a repository's lists begin with."""
    return f"{_root(repository)}/_lists"


def list_key(repository: Repository, subject: Digest | None) -> str:
    """Give the place of the list of a repository's tags, or of what refers to `subject`."""
    what = "tags" if subject is None else f"referrers/{subject.algorithm}/{subject.hex}"
    return f"{lists_key(repository)}/{what}"


def tags_key(repository: Repository) -> str:
    """Give what the keys of a repository's tags begin with."""
    return f"{_root(repository)}/_tags"


def manifests_keys(repository: Repository) -> tuple[str, ...]:
    """Give what the keys of the rights to read a repository's manifests begin with, one for each algorithm."""
    return tuple(f"{_root(repository)}/_manifests/{algorithm}" for algorithm in ALGORITHMS)


def referrers_key(repository: Repository, subject: Digest) -> str:
    """Give what the keys of a subject's referrers begin with, in a hosted repository."""
    return f"{_root(repository)}/_referrers/{subject.algorithm}/{subject.hex}"


def referrer_key(repository: Repository, subject: Digest, digest: Digest) -> str:
    """Give the key of the record that the manifest `digest` refers to `subject`."""
    return f"{referrers_key(repository, subject)}/{digest.algorithm}-{digest.hex}"


def owner_key(name: str) -> str:
    """Give the key of what the unqualified `name` resolved to."""
    return f"names/{check_name(name)}/_owner"


def tag_upstream_key(name: str, tag: str) -> str:
    """Give the key of what one tag of the unqualified `name` resolved to."""
    return f"names/{check_name(name)}/_tags/{_checked_tag(tag)}"


def private_key(repository: Repository) -> str:
    """Give the key of whether a cached repository is private, and when that was asked."""
    return f"{_root(repository)}/_private"


def credential_key(namespace: str) -> str:
    """Give the key of the mark of a namespace in which a credential of ours was ever used."""
    return f"repositories/{namespace}/_private"


class RecordedRepositories:
    """The repositories of one store, as records."""

    def __init__(self, records: Records, index: Index) -> None:
        """`index` hears of each right, after its record is there."""
        self._records = records
        self._index = index

    async def tag(self, repository: Repository, tag: str) -> TagRecord | None:
        """Read a tag."""
        return tag_of(await self._get(tag_key(repository, tag)))

    async def put_tag(
        self, repository: Repository, tag: str, record: TagRecord, *, durable: bool = True
    ) -> None:
        """Write a tag, after its manifest is stored. `durable=False` when only `checked_at` changes."""
        value: dict[str, Any] = {
            "digest": str(record.descriptor.digest),
            "media_type": record.descriptor.media_type,
            "size": record.descriptor.size,
            "upstream": record.upstream,
            "checked_at": record.checked_at,
        }
        await self._records.put(tag_key(repository, tag), value, durable=durable)

    async def remove_tag(self, repository: Repository, tag: str) -> bool:
        """Forget a tag."""
        return await self._records.remove(tag_key(repository, tag))

    async def manifest(self, repository: Repository, digest: Digest) -> Descriptor | None:
        """Read the right to read this manifest here: its media type and size."""
        return manifest_of(await self._get(manifest_key(repository, digest)), digest)

    async def link_manifest(self, repository: Repository, descriptor: Descriptor) -> None:
        """Record that right; the manifest's bytes are published already."""
        value = {"media_type": descriptor.media_type, "size": descriptor.size}
        await self._records.put(manifest_key(repository, descriptor.digest), value)
        self._index.linked(repository, descriptor.digest)
        self._index.appeared(repository)

    async def unlink_manifest(self, repository: Repository, digest: Digest) -> bool:
        """Take that right away; False when there was none."""
        removed = await self._records.remove(manifest_key(repository, digest))
        self._index.unlinked(repository, digest)
        return removed

    async def blob(self, repository: Repository, digest: Digest) -> int | None:
        """Read the right to read this blob here: its size in bytes."""
        return size_of(await self._get(blob_key(repository, digest)))

    async def link_blob(self, repository: Repository, digest: Digest, size: int) -> None:
        """Record that right; the blob's bytes are published already."""
        await self._records.put(blob_key(repository, digest), {"size": size})
        self._index.linked(repository, digest)

    async def unlink_blob(self, repository: Repository, digest: Digest) -> bool:
        """Take that right away; False when there was none. The bytes stay."""
        removed = await self._records.remove(blob_key(repository, digest))
        self._index.unlinked(repository, digest)
        return removed

    async def owner(self, name: str) -> OwnerRecord | None:
        """Tell what the unqualified `name` resolved to."""
        return owner_of(await self._get(owner_key(name)))

    async def put_owner(self, name: str, record: OwnerRecord) -> None:
        """Remember what the unqualified `name` resolved to."""
        await self._records.put(owner_key(name), _owner_value(record))

    async def remove_owner(self, name: str) -> bool:
        """Forget what the unqualified `name` resolved to."""
        return await self._records.remove(owner_key(name))

    async def tag_upstream(self, name: str, tag: str) -> OwnerRecord | None:
        """Tell which upstream had `tag` of the unqualified `name` when its owner did not."""
        return owner_of(await self._get(tag_upstream_key(name, tag)))

    async def put_tag_upstream(self, name: str, tag: str, record: OwnerRecord) -> None:
        """Remember that."""
        await self._records.put(tag_upstream_key(name, tag), _owner_value(record))

    async def remove_tag_upstream(self, name: str, tag: str) -> bool:
        """Forget that."""
        return await self._records.remove(tag_upstream_key(name, tag))

    async def _get(self, key: str) -> dict[str, Any]:
        """Read a record's value; one that is not there is empty, and so lacks what it needs."""
        record = await self._records.get(key)
        return {} if record is None else record.value


def is_namespace(text: str) -> bool:
    """Tell whether `text` can be the namespace of a repository."""
    return _NAMESPACE.match(text) is not None


def _root(repository: Repository) -> str:
    if not _NAMESPACE.match(repository.namespace):
        raise InvalidName("a namespace is the host of a registry, with its port where it has one")
    return f"repositories/{repository.namespace}/{check_name(repository.name)}"


def _checked_tag(tag: str) -> str:
    if not _TAG.match(tag):
        raise InvalidTag("a tag is up to 128 of a-z, A-Z, 0-9, _ . - and starts with none of . -")
    return tag


def _owner_value(record: OwnerRecord) -> dict[str, Any]:
    return {
        "upstream": record.upstream,
        "namespace": record.namespace,
        "provisional": record.provisional,
        "since": record.since,
    }


def owner_of(value: dict[str, Any]) -> OwnerRecord | None:
    """Read the value of the record of what a name resolved to."""
    upstream, namespace, since = _text(value, "upstream"), _text(value, "namespace"), _time(value, "since")
    provisional = value.get("provisional")
    if upstream is None or namespace is None or since is None or not isinstance(provisional, bool):
        return None
    if not _NAMESPACE.match(namespace):
        return None
    return OwnerRecord(upstream, namespace, provisional, since)


def tag_of(value: dict[str, Any]) -> TagRecord | None:
    """Read the value of a tag's record."""
    descriptor, upstream, checked_at = (
        _descriptor(value),
        _text(value, "upstream"),
        _time(value, "checked_at"),
    )
    if descriptor is None or upstream is None or checked_at is None:
        return None
    return TagRecord(descriptor, upstream, checked_at)


def manifest_of(value: dict[str, Any], digest: Digest) -> Descriptor | None:
    """Read the value of the record of the right to read a manifest."""
    media_type, size = _text(value, "media_type"), size_of(value)
    return None if media_type is None or size is None else Descriptor(media_type, digest, size)


def _descriptor(value: dict[str, Any]) -> Descriptor | None:
    text, media_type, size = _text(value, "digest"), _text(value, "media_type"), size_of(value)
    if text is None or media_type is None or size is None:
        return None
    try:
        return Descriptor(media_type, Digest.parse(text), size)
    except InvalidDigest:
        return None


def _text(value: dict[str, Any], field: str) -> str | None:
    text = value.get(field)
    return text if isinstance(text, str) and len(text) <= _MAX_TEXT else None


def size_of(value: dict[str, Any]) -> int | None:
    """Read the size in the value of a record."""
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < _MORE_THAN_A_FILE:
        return None
    return size


def _time(value: dict[str, Any], field: str) -> float | None:
    seconds = value.get(field)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        return None
    try:
        seconds = float(seconds)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None
