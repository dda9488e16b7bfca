"""What the pages of contents show and the API behind them tells: repositories, tags, and what images are made of.

Moments are ISO 8601 in UTC, sizes bytes. Texts are as their authors wrote them, cut where nobody reads on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from nora.access import Action
from nora.content.contents import Contents, ImagePage, Referrers, RepositoryRow, TagLine
from nora.content.shelves import Part, Variant
from nora.oci import Digest, Reference, parse_reference
from nora.oci.errors import InvalidDigest, InvalidRequest, InvalidTag, ManifestUnknown, NameUnknown
from nora.oci.images import Configuration
from nora.oci.reference import LOCAL
from nora.storage.interfaces import OwnerRecord
from nora.storage.overview import Pulled
from nora.web import asked, errors
from nora.web.requests import RegistryRequest
from nora.web.ui import words
from nora.web.ui.commands import pull_commands
from nora.web.ui.facts import Facts, Telling

PAGE = 50
"""Rows of a page, unless the API is asked for another number."""
MOST = 100
_MAX_NAME = 512
"""Characters of a namespace and a name, at most."""
_NO_MANIFEST = "there is no such tag or manifest here"
_END_OF_TIME = 253_402_300_800
"""The year 10000, which ISO 8601 does not write."""


class ContentsFacts:
    """Tells what is here. `contents` gives those of the configuration that is in force; None where there are none."""

    def __init__(self, contents: Callable[[], Contents | None], telling: Telling) -> None:
        self._source = contents
        self._telling = telling

    async def page(self, request: RegistryRequest) -> tuple[str, Facts]:
        """Give the template for a path under `/ui/contents`, and what it is filled with."""
        path = b"/".join((request.postpath or [])[1:])
        if not path:
            return "contents", await self.repositories(request)
        name, reference = _parse(path)
        row = await self._contents.repository(name, request.rights)
        about = {
            "repository": row.name,
            "hosted": row.hosted,
            "may_administer": request.rights.allows(Action.ADMIN, row.repository),
            "tag": None,
            "digest": None,
        }
        if reference is None:
            return "repository", {**about, **await self._tags(request, row)}
        facts = await self._image(request, row, reference)
        return "image", {**about, **facts, "tag": facts["tag"], "digest": facts["digest"]}

    async def repositories(self, request: RegistryRequest) -> Facts:
        """Tell a page of the repositories that the client may pull."""
        text = _word(request, b"q").strip().lower()
        after = _word(request, b"after")
        page = await self._contents.repositories(text, after, _limit(request), request.rights)
        return {
            "now": words.iso(self._telling.now),
            "query": text,
            "after": after,
            "repositories": [_repository(row) for row in page.rows],
            "next": page.following,
        }

    async def tags(self, request: RegistryRequest) -> Facts:
        """Tell a page of the tags of one repository."""
        row = await self._contents.repository(_word(request, b"repository"), request.rights)
        return await self._tags(request, row)

    async def image(self, request: RegistryRequest) -> Facts:
        """Tell what a tag or a digest of one repository is."""
        row = await self._contents.repository(_word(request, b"repository"), request.rights)
        return await self._image(request, row, _reference(_word(request, b"reference")))

    @property
    def _contents(self) -> Contents:
        contents = self._source()
        if contents is None:
            raise errors.NotOffered("this server shows no contents")
        return contents

    async def _tags(self, request: RegistryRequest, row: RepositoryRow) -> Facts:
        after = _word(request, b"after")
        page = await self._contents.tags(row.repository, after, _limit(request))
        now = self._telling.now
        return {
            "now": words.iso(now),
            "about": _repository(row),
            "after": after,
            "tags": [_tag(line, now) for line in page.lines],
            "next": page.following,
        }

    async def _image(self, request: RegistryRequest, row: RepositoryRow, reference: Reference) -> Facts:
        page = await self._contents.image(row.repository, reference)
        image, record, now = page.image, page.record, self._telling.now
        contained = image.contained
        commands = pull_commands(self._telling.server(request), row.name, str(reference))
        return {
            "now": words.iso(now),
            "about": _repository(row),
            "tag": None if record is None else str(reference),
            "digest": str(image.descriptor.digest),
            "media_type": image.descriptor.media_type,
            "manifest_bytes": image.descriptor.size,
            "size_bytes": image.size,
            "platforms": list(image.platforms),
            "stored_at": _iso(image.stored_at),
            "upstream": None if record is None or row.hosted else record.upstream,
            "checked_at": None if record is None else _iso(record.checked_at),
            "next_check": _iso(page.next_check),
            "check_is_due": page.next_check is not None and page.next_check <= now,
            **_pulled(page.pulled),
            "trouble": image.trouble,
            "artifact_type": None if contained is None else contained.artifact_type,
            "subject": None if contained is None else contained.subject,
            "annotations": [] if contained is None else _pairs(contained.annotations),
            "left_out": 0 if contained is None else contained.left_out,
            "config": None if image.config is None else _part(image.config),
            "config_trouble": image.config_trouble,
            "configuration": None if image.configuration is None else _configuration(image.configuration),
            "layers": [_part(each) for each in image.layers],
            "variants": [_variant(each, page) for each in image.variants],
            "referrers": _referrers(page.referrers),
            "commands": [attrs.asdict(each) for each in commands],
        }


def _parse(path: bytes) -> tuple[str, Reference | None]:
    """Read `<repository>`, `<repository>:<tag>` or `<repository>@<digest>`."""
    if len(path) > 2 * _MAX_NAME or not path.isascii():
        raise NameUnknown("there is no such repository here")
    leading, slash, last = path.decode("ascii").rpartition("/")
    for sign in "@:":
        name, found, reference = last.partition(sign)
        if found:
            parsed = _reference(reference)
            if isinstance(parsed, Digest) != (sign == "@"):
                raise ManifestUnknown(_NO_MANIFEST)
            return leading + slash + name, parsed
    return leading + slash + last, None


def _reference(text: str) -> Reference:
    try:
        return parse_reference(text)
    except (InvalidDigest, InvalidTag):
        raise ManifestUnknown(_NO_MANIFEST) from None


def _word(request: RegistryRequest, name: bytes) -> str:
    """Read an argument; one that no name could be is empty, or of no use."""
    return (asked.argument(request, name) or b"")[:_MAX_NAME].decode("utf-8", "replace")


def _limit(request: RegistryRequest) -> int:
    told = asked.argument(request, b"n")
    if told is None:
        return PAGE
    if not (told.isdigit() and len(told) <= 3 and 1 <= int(told) <= MOST):
        raise InvalidRequest(f"n must be from 1 to {MOST}")
    return int(told)


def _repository(row: RepositoryRow) -> Facts:
    return {
        "name": row.name,
        "namespace": None if row.hosted else row.repository.namespace,
        "hosted": row.hosted,
        "owner": _owner(row.summary.owner, row.repository.namespace),
        "tag_count": row.summary.tags,
        "tag_count_is_whole": row.summary.whole,
        "stored_blobs": row.held.blobs,
        "stored_bytes": row.held.bytes,
        "stored_is_whole": row.held.whole,
    }


def _owner(record: OwnerRecord | None, namespace: str) -> Facts | None:
    """Tell which upstream owns the unqualified name, and whether that means this repository."""
    if record is None or namespace == LOCAL:
        return None
    return {
        "upstream": record.upstream,
        "namespace": record.namespace,
        "here": record.namespace == namespace,
        "provisional": record.provisional,
        "since": _iso(record.since),
    }


def _tag(line: TagLine, now: float) -> Facts:
    row = line.row
    hosted = row.record.upstream == LOCAL
    return {
        "name": row.name,
        "digest": str(row.record.descriptor.digest),
        "media_type": row.record.descriptor.media_type,
        "size_bytes": row.size,
        "platforms": list(row.platforms),
        **_pulled(line.pulled),
        "upstream": None if hosted else row.record.upstream,
        "stored_at": _iso(row.stored_at),
        "checked_at": _iso(row.record.checked_at),
        "next_check": _iso(line.next_check),
        "check_is_due": line.next_check is not None and line.next_check <= now,
    }


def _pulled(pulled: Pulled | None) -> Facts:
    return {
        "pulls": 0 if pulled is None else pulled.pulls,
        "last_pull_at": None if pulled is None else _iso(pulled.last_at),
    }


def _part(part: Part) -> Facts:
    descriptor = part.descriptor
    return {
        "digest": str(descriptor.digest),
        "media_type": descriptor.media_type,
        "size_bytes": descriptor.size,
        "stored": part.stored,
    }


def _variant(variant: Variant, page: ImagePage) -> Facts:
    digest: Digest = variant.part.descriptor.digest
    return {
        **_part(variant.part),
        "platform": variant.platform,
        "attestation": variant.attests,
        "image_bytes": variant.size,
        **_pulled(page.pulled_variants.get(digest)),
    }


def _configuration(told: Configuration) -> Facts:
    facts: dict[str, Any] = attrs.asdict(
        told, filter=lambda field, _: field.name not in ("labels", "history")
    )
    return {
        **{key: list(value) if isinstance(value, tuple) else value for key, value in facts.items()},
        "labels": _pairs(told.labels),
        "history": [attrs.asdict(step) for step in told.history],
    }


def _iso(seconds: float | None) -> str | None:
    """Write a moment that a file tells; None for one that no calendar has."""
    return None if seconds is None or not 0 <= seconds < _END_OF_TIME else words.iso(seconds)


def _pairs(pairs: tuple[tuple[str, str], ...]) -> list[Facts]:
    """Tell labels or annotations in a list: as the keys of an object they would be no words of the API."""
    return [{"name": name, "value": value} for name, value in pairs]


def _referrers(told: Referrers) -> Facts:
    return {
        "known": told.known,
        "asked_at": _iso(told.asked_at),
        "more": told.more,
        "list": [
            {
                "digest": str(each.descriptor.digest),
                "media_type": each.descriptor.media_type,
                "size_bytes": each.descriptor.size,
                "artifact_type": each.artifact_type,
            }
            for each in told.list
        ],
    }
