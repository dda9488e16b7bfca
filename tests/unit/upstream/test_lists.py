"""Lists of tags and referrers, asked of registries on real sockets."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

from nora.oci import Digest
from nora.oci.errors import Limited, TimedOut, Unavailable, Unverified
from nora.oci.listing import NO_REFERRERS, TagList
from nora.oci.manifest import OCI_INDEX, OCI_MANIFEST
from nora.upstream import lists
from nora.upstream.outcomes import Absent
from tests.support.fake_upstream import FakeUpstream, Fault
from tests.support.upstreams import IMAGE, REPOSITORY, UpstreamTestCase

SUBJECT = IMAGE.digest
TAG = f"sha256-{SUBJECT.hex}"
MANY = [f"v{number}" for number in range(25)]
TAGS = "*/tags/list"
REFERRERS = "*/referrers/*"


def referrer(kind: str, subject: Digest | None = SUBJECT) -> bytes:
    """Make a manifest that refers to `subject`."""
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": str(Digest.of(b"{}")), "size": 2}
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind,
        "config": empty,
        "layers": [],
    }
    if subject is not None:
        document["subject"] = {"mediaType": OCI_MANIFEST, "digest": str(subject), "size": 1}
    return json.dumps(document).encode()


def entry(body: bytes, kind: str = OCI_MANIFEST) -> dict[str, Any]:
    """Make the descriptor of a referrer."""
    return {
        "mediaType": kind,
        "digest": str(Digest.of(body)),
        "size": len(body),
        "artifactType": json.loads(body).get("artifactType"),
        "annotations": {"a": "b"},
    }


def index_of(*entries: dict[str, Any]) -> bytes:
    """Make an index."""
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


def listed(body: bytes) -> list[dict[str, Any]]:
    """Read what an index lists."""
    found: list[dict[str, Any]] = json.loads(body)["manifests"]
    return found


class TagsTests(UpstreamTestCase):
    """Lists of tags."""

    async def having(self, page: int | None = None, **options: Any) -> FakeUpstream:
        upstream = await self.fake(**options)
        upstream.lists.tags[REPOSITORY] = list(MANY)
        upstream.lists.page = page
        return upstream

    async def test_whole(self) -> None:
        """A list in one answer comes in byte order, is one request with a page size, and is told as a `list`."""
        upstream = await self.having()
        registry = self.registry(upstream.url)
        self.assertEqual(await registry.tags(REPOSITORY), TagList.of(MANY))
        (seen,) = upstream.requests
        self.assertEqual((seen.path, seen.query), (f"/v2/{REPOSITORY}/tags/list", {"n": ["1000"]}))
        self.assertEqual(self.notes.answers, [("fake", "list", "found")])
        self.assertGreater(self.notes.bytes, 100)

    async def test_pages(self) -> None:
        """All pages are followed, with a token, whatever path, scheme or port the links have."""
        upstream = await self.having(page=10, auth=True)
        for link in (
            '</v2/{name}/{what}?n={n}&last={last}>; rel="next"',
            "<https://127.0.0.1/odd?last={last}>;rel=next",
        ):
            upstream.lists.link = link
            upstream.requests.clear()
            self.assertEqual(await self.registry(upstream.url).tags(REPOSITORY), TagList.of(MANY))
            self.assertEqual(upstream.count(TAGS), 4)
            self.assertEqual(upstream.tokens, 1)

    async def test_long(self) -> None:
        """Lists that are long, in disorder and with repetitions are put in order, in a thread."""
        upstream = await self.having()
        tags = [f"v{number * 7919 % 50_000:05}" for number in range(50_000)]
        upstream.lists.tags[REPOSITORY] = [*tags, *tags[:10]]
        listed = await self.registry(upstream.url).tags(REPOSITORY)
        self.assertEqual(listed.text.decode(), "".join(f"v{number:05}\n" for number in range(50_000)))

    async def test_elsewhere(self) -> None:
        """A page at another host is not asked for, and the list is not to be had."""
        upstream = await self.having(page=10)
        upstream.lists.link = '<http://localhost:1/v2/{name}/{what}?last={last}>; rel="next"'
        await self.fails(self.registry(upstream.url).tags(REPOSITORY), Unverified)
        self.assertEqual(upstream.count(), 1)

    async def test_endless(self) -> None:
        """Pages that lead back, or that are too many, are refused."""
        upstream = await self.having(page=10)
        upstream.lists.link = '<?last=0>; rel="next"'
        await self.fails(self.registry(upstream.url).tags(REPOSITORY), Unverified)
        self.assertEqual(upstream.count(), 2)
        upstream.lists.link = '<?last={last}>; rel="next"'
        upstream.lists.page = 1
        with mock.patch.object(lists, "MAX_PAGES", 5):
            await self.fails(self.registry(upstream.url).tags(REPOSITORY), Unverified)
        self.assertEqual(upstream.count(), 8)

    async def test_too_large(self) -> None:
        """Bytes and tags are bounded over all pages together."""
        upstream = await self.having(page=10)
        for name, bound in (("MAX_TAGS_SIZE", 250), ("MAX_TAGS", 15)):
            upstream.requests.clear()
            with mock.patch.object(lists, name, bound):
                await self.fails(self.registry(upstream.url).tags(REPOSITORY), Unverified)
            self.assertLessEqual(upstream.count(), 3)

    async def test_outcomes(self) -> None:
        """Each way to fail is its outcome; nothing on the way is taken for a list."""
        upstream = await self.having()
        for fault, kind in (
            (Fault(status=404), Absent),
            (Fault(status=401), Absent),
            (Fault(status=403), Absent),
            (Fault(status=500), Unavailable),
            (Fault(html=True), Unverified),
            (Fault(truncate=20), None),
            (Fault(redirect="/somewhere"), Unavailable),
            (Fault(redirect="http://user@host/"), Unverified),
        ):
            upstream.fault(TAGS, fault)
            error = await self.failure(self.registry(upstream.url).tags(REPOSITORY))
            self.assertIsInstance(error, kind or Unavailable, fault)
            self.assertTrue(kind is None or type(error) is kind, (fault, error))
        upstream.heal()
        upstream.lists.tags[REPOSITORY] = ["good", "no/tag"]
        await self.fails(self.registry(upstream.url).tags(REPOSITORY), Unverified)

    async def test_limited(self) -> None:
        """A 429 holds back lists for as long as it says, and nothing else."""
        upstream = await self.having()
        upstream.add_image(REPOSITORY, "1", IMAGE)
        upstream.fault(TAGS, Fault(status=429, headers=(("Retry-After", "7"),)))
        registry = self.registry(upstream.url)
        for _ in range(2):
            self.assertEqual((await self.fails(registry.tags(REPOSITORY), Limited)).retry_after, 7)
        self.assertEqual(upstream.count(TAGS), 1)
        await registry.manifest(REPOSITORY, IMAGE.digest)

    async def test_slow(self) -> None:
        """A page that does not come, or that stops, ends in time."""
        upstream = await self.having()
        for fault in (Fault(hold=True), Fault(stall=10)):
            upstream.fault(TAGS, fault)
            await self.fails(self.registry(upstream.url, proxy_timeout=0.2).tags(REPOSITORY), TimedOut)

    async def test_redirected(self) -> None:
        """A registry that is a front leads to the list behind it, by the second one's own token."""
        behind = await self.having(auth=True)
        front = await self.fake()
        front.fault(TAGS, Fault(redirect=behind.url + "{path}"))
        self.assertEqual(await self.registry(front.url).tags(REPOSITORY), TagList.of(MANY))
        self.assertEqual((front.tokens, behind.tokens), (0, 1))


class ReferrersTests(UpstreamTestCase):
    """Indexes of referrers, by the API."""

    async def having(self, *entries: dict[str, Any], **options: Any) -> FakeUpstream:
        upstream = await self.filled(**options)
        upstream.lists.referrers[REPOSITORY, str(SUBJECT)] = list(entries)
        return upstream

    async def test_api(self) -> None:
        """What the API lists comes with everything that is said of it, over its pages, without other requests."""
        entries = [entry(referrer(f"x/{number}")) for number in range(5)]
        upstream = await self.having(*entries)
        for page, requests in ((None, 1), (2, 3)):
            upstream.lists.page = page
            upstream.requests.clear()
            self.assertEqual(
                listed(await self.registry(upstream.url).referrers(REPOSITORY, SUBJECT)), entries
            )
            self.assertEqual(upstream.count(), requests)

    async def test_empty(self) -> None:
        """An API that lists nothing says so for sure."""
        upstream = await self.having()
        self.assertEqual(await self.registry(upstream.url).referrers(REPOSITORY, SUBJECT), NO_REFERRERS)
        self.assertEqual(upstream.count("*/manifests/*"), 0)

    async def test_lies(self) -> None:
        """What is no index is refused, and no tag is asked for in its place."""
        upstream = await self.having()
        upstream.lists.media_type = "application/json"
        await self.fails(self.registry(upstream.url).referrers(REPOSITORY, SUBJECT), Unverified)
        upstream.fault(REFERRERS, Fault(html=True))
        await self.fails(self.registry(upstream.url).referrers(REPOSITORY, SUBJECT), Unverified)
        self.assertEqual(upstream.count("*/manifests/*"), 0)

    async def test_failures(self) -> None:
        """A list that cannot be had is an error of its kind, whatever a tag may say."""
        upstream = await self.having()
        for fault, kind in (
            (Fault(status=429), Limited),
            (Fault(status=503), Unavailable),
            (Fault(status=401), Absent),
            (Fault(status=403), Absent),
        ):
            upstream.fault(REFERRERS, fault)
            error = await self.failure(self.registry(upstream.url).referrers(REPOSITORY, SUBJECT))
            self.assertIs(type(error), kind)
            self.assertTrue(not isinstance(error, Absent) or error.denied)
        self.assertEqual(upstream.count("*/manifests/*"), 0)


class FallbackTests(UpstreamTestCase):
    """Indexes of referrers, by the tag that stands for one."""

    async def having(self, *referrers: bytes, others: tuple[dict[str, Any], ...] = ()) -> FakeUpstream:
        upstream = await self.filled()
        for body in referrers:
            upstream.add_manifest(REPOSITORY, body, OCI_MANIFEST)
        body = index_of(*(entry(each) for each in referrers), *others)
        upstream.add_manifest(REPOSITORY, body, OCI_INDEX, TAG)
        return upstream

    async def kinds(self, upstream: FakeUpstream, subject: Digest = SUBJECT) -> list[str]:
        found = listed(await self.registry(upstream.url).referrers(REPOSITORY, subject))
        return [item["artifactType"] for item in found]

    async def test_ghcr(self) -> None:
        """GHCR: 404, or a 303 to a web page of another site that is not gone to; then the tag."""
        upstream = await self.having(referrer("a/b"), referrer("c/d"))
        page = await self.fake()
        for fault in (
            Fault(status=404),
            Fault(status=405),
            Fault(redirect=page.url + "/orgs/packages"),
            Fault(redirect="/login"),
            Fault(status=303, headers=(("Location", page.url + "/orgs/packages"),)),
            Fault(status=303, headers=(("Location", f"{page.url}/v2/x/referrers/{SUBJECT}"),)),
        ):
            upstream.fault(REFERRERS, fault)
            self.assertEqual(await self.kinds(upstream), ["a/b", "c/d"], fault)
        self.assertEqual((page.requests, upstream.count("/login")), ([], 0))

    async def test_gitlab(self) -> None:
        """GitLab resolves the tag to the subject itself, image or index: that is no list of referrers."""
        upstream = await self.filled()
        upstream.add_manifest(REPOSITORY, IMAGE.manifest, IMAGE.media_type, TAG)
        await self.fails(self.registry(upstream.url).referrers(REPOSITORY, SUBJECT), Absent)
        body = index_of(entry(IMAGE.manifest))
        subject = upstream.add_manifest(REPOSITORY, body, OCI_INDEX)
        upstream.add_manifest(REPOSITORY, body, OCI_INDEX, f"sha256-{subject.hex}")
        upstream.requests.clear()
        await self.fails(self.registry(upstream.url).referrers(REPOSITORY, subject), Absent)
        self.assertEqual(upstream.count("*/manifests/sha256:*"), 0)

    async def test_strangers(self) -> None:
        """What names another subject, or none, or is gone, is left out; an index of only such is no list."""
        other = Digest.of(b"other")
        mine, stranger, plain = referrer("a/b"), referrer("c/d", other), referrer("e/f", None)
        gone = entry(referrer("g/h", Digest.of(b"gone")))
        upstream = await self.having(stranger, mine, plain, others=(gone,))
        self.assertEqual(await self.kinds(upstream), ["a/b"])
        upstream = await self.having(stranger, plain, others=(gone,))
        absent = await self.fails(self.registry(upstream.url).referrers(REPOSITORY, SUBJECT), Absent)
        self.assertFalse(absent.denied)

    async def test_emptied(self) -> None:
        """A list whose last entry was deleted is empty."""
        self.assertEqual(await self.kinds(await self.having()), [])

    async def test_many(self) -> None:
        """Only so many are looked at; the rest is believed because these are right."""
        bodies = [referrer(f"x/{number}") for number in range(lists.EXAMINED + 5)]
        upstream = await self.having(*bodies)
        self.assertEqual(len(await self.kinds(upstream)), len(bodies))
        self.assertEqual(upstream.count("*/manifests/sha256:*"), lists.EXAMINED)

    async def test_absent(self) -> None:
        """No API and no such tag: nothing refers to it, for sure, and not by a denial."""
        upstream = await self.filled()
        absent = await self.fails(self.registry(upstream.url).referrers(REPOSITORY, SUBJECT), Absent)
        self.assertFalse(absent.denied)

    async def test_denied_and_broken(self) -> None:
        """A tag that cannot be had, or an entry that cannot be looked at, is an error and not an empty list."""
        upstream = await self.having(referrer("a/b"))
        for pattern in (f"*/manifests/{TAG}", "*/manifests/sha256:*"):
            for fault, kind in (
                (Fault(status=500), Unavailable),
                (Fault(status=429), Limited),
                (Fault(html=True), Unverified),
                (Fault(corrupt=True), Unverified),
                (Fault(status=403), Absent),
            ):
                upstream.fault(pattern, fault)
                error = await self.failure(self.registry(upstream.url).referrers(REPOSITORY, SUBJECT))
                self.assertIs(type(error), kind, (pattern, fault))
                self.assertTrue(not isinstance(error, Absent) or error.denied)
            upstream.heal()

    async def test_sha512(self) -> None:
        """The tag for a long digest has its first 64 digits, as the specification cuts it."""
        subject = Digest.of(b"x", "sha512")
        upstream = await self.filled()
        body = referrer("a/b", subject)
        upstream.add_manifest(REPOSITORY, body, OCI_MANIFEST)
        upstream.add_manifest(REPOSITORY, index_of(entry(body)), OCI_INDEX, f"sha512-{subject.hex[:64]}")
        self.assertEqual(await self.kinds(upstream, subject), ["a/b"])
