"""Lists of tags and of referrers: what is one, and how it is cut into pages."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as some
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Digest
from nora.oci.errors import Unverified
from nora.oci.listing import (
    MAX_REFERRERS_SIZE,
    NO_REFERRERS,
    TagList,
    compose_referrers,
    filter_referrers,
    names_subject,
    parse_referrers,
    parse_tags,
)
from nora.oci.manifest import OCI_INDEX, OCI_MANIFEST
from nora.oci.reference import TAG_PATTERN

TAGS = some.lists(some.from_regex(rf"\A(?:{TAG_PATTERN})\Z".replace("127", "9"), fullmatch=True), max_size=30)
DIGEST = Digest.of(b"x")
DESCRIPTOR = {"mediaType": OCI_MANIFEST, "digest": str(DIGEST), "size": 1, "artifactType": "a/b"}


class TagListTests(SynchronousTestCase):
    """Pages of tags."""

    @given(TAGS, some.binary(max_size=10), some.integers(0, 12))
    def test_page(self, tags: list[str], last: bytes, limit: int) -> None:
        """A page is the first few of what sorts after `last` by bytes, and knows whether others follow."""
        page = TagList.of(tags).page(last, limit)
        after = [tag for tag in sorted(set(tags), key=str.encode) if tag.encode() > last]
        self.assertEqual(page.tags, tuple(after[:limit]))
        self.assertEqual(page.more, len(after) > limit)

    @given(TAGS, some.integers(1, 7))
    def test_pages_join(self, tags: list[str], limit: int) -> None:
        """Pages, each asked for with the last tag of the one before, are the whole, each tag once."""
        listed, seen = TagList.of(tags), list[str]()
        page = listed.page(b"", limit)
        seen += page.tags
        while page.more:
            page = listed.page(seen[-1].encode(), limit)
            seen += page.tags
        self.assertEqual(seen, sorted(set(tags)))

    def test_longest(self) -> None:
        """Tags of the longest kind fill a page as others do."""
        tags = [f"{number:0128}" for number in range(5)]
        self.assertEqual(TagList.of(tags).page(b"", 4).tags, tuple(tags[:4]))


class ParseTagsTests(SynchronousTestCase):
    """What an upstream may send."""

    def test_lists(self) -> None:
        """A list is read as it is; null is the empty one."""
        self.assertEqual(parse_tags(b'{"name":"x","tags":["b","a"]}'), ["b", "a"])
        for body in (b'{"name":"x","tags":null}', b'{"tags":[]}'):
            self.assertEqual(parse_tags(body), [])

    def test_others(self) -> None:
        """Anything else is refused whole."""
        for body in (
            b"",
            b"<html>",
            b"[]",
            b'{"errors":[]}',
            b"[" * 100_000,
            b'{"tags":"a"}',
            b'{"tags":{"a":1}}',
            b'{"tags":["a",1]}',
            b'{"tags":["a","b/c"]}',
            b'{"tags":["a\\n"]}',
            b'{"tags":[""]}',
            json.dumps({"tags": ["x" * 129]}).encode(),
        ):
            self.assertRaises(Unverified, parse_tags, body)


class ReferrersTests(SynchronousTestCase):
    """Indexes of referrers."""

    def test_roundtrip(self) -> None:
        """What is composed is read back with everything that a descriptor says."""
        other = {**DESCRIPTOR, "annotations": {"é": "\U0001f600"}}
        self.assertEqual(parse_referrers(compose_referrers([DESCRIPTOR, other])), [DESCRIPTOR, other])
        self.assertEqual(parse_referrers(NO_REFERRERS), [])

    def test_lone_surrogate(self) -> None:
        """A string that is no text is carried as far as it can be, and is no defect."""
        body = (
            b'{"schemaVersion":2,"manifests":[' + json.dumps(DESCRIPTOR).encode()[:-1] + b',"x":"\\ud800"}]}'
        )
        self.assertEqual(len(parse_referrers(compose_referrers(parse_referrers(body)))), 1)

    def test_others(self) -> None:
        """Anything that is not an index of descriptors is refused."""
        documents: list[object] = [
            [],
            {},
            {"schemaVersion": 1, "manifests": []},
            {"schemaVersion": 2, "manifests": None},
            {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "manifests": []},
            {"schemaVersion": 2, "manifests": [1]},
            {"schemaVersion": 2, "manifests": [{**DESCRIPTOR, "digest": "md5:1"}]},
            {"schemaVersion": 2, "manifests": [{**DESCRIPTOR, "size": -1}]},
            {"schemaVersion": 2, "manifests": [{**DESCRIPTOR, "size": "1"}]},
            {"schemaVersion": 2, "manifests": [{**DESCRIPTOR, "mediaType": None}]},
        ]
        for document in documents:
            self.assertRaises(Unverified, parse_referrers, json.dumps(document).encode())

    def test_filter(self) -> None:
        """A filter leaves those of the one type."""
        other = {**DESCRIPTOR, "artifactType": "c/d"}
        untyped = {key: value for key, value in DESCRIPTOR.items() if key != "artifactType"}
        body = compose_referrers([DESCRIPTOR, other, untyped])
        self.assertEqual(parse_referrers(filter_referrers(body, "a/b")), [DESCRIPTOR])
        self.assertEqual(filter_referrers(body, "e/f"), NO_REFERRERS)
        self.assertEqual(json.loads(NO_REFERRERS)["mediaType"], OCI_INDEX)

    def test_too_large(self) -> None:
        """More than 4 MiB are refused."""
        self.assertRaises(Unverified, compose_referrers, [{**DESCRIPTOR, "x": "y" * MAX_REFERRERS_SIZE}])

    def test_subject(self) -> None:
        """A manifest names its subject by digest."""
        for subject, named in (
            ({"digest": str(DIGEST)}, True),
            ({"digest": str(Digest.of(b"y"))}, False),
            ({}, False),
            (str(DIGEST), False),
            (None, False),
        ):
            self.assertEqual(names_subject(json.dumps({"subject": subject}).encode(), DIGEST), named)
