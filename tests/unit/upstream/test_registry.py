"""The real client against a registry on a real socket: manifests, blobs, and the answers that go wrong."""

from __future__ import annotations

import contextlib

from nora.oci import MAX_MANIFEST_SIZE, Digest, Tag
from nora.oci.errors import Broken, Limited, NoraError, TimedOut, Unavailable, Unverified
from nora.upstream.interfaces import Upstream
from nora.upstream.outcomes import Absent
from nora.upstream.registry import Registry
from tests.support.fake_upstream import MANIFEST_TYPE, FakeUpstream, Fault, make_image
from tests.support.upstreams import REPOSITORY, UpstreamTestCase, delivered

ONE = Tag("1")
LAYER = bytes(range(256)) * 4096


class RegistryTestCase(UpstreamTestCase):
    """One fake registry with one image, one client."""

    upstream: FakeUpstream

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.image = make_image([LAYER, b"a small layer"])
        self.upstream = await self.fake()
        self.upstream.add_image(REPOSITORY, "1", self.image)
        self.layer = Digest.of(LAYER)
        self.client = self.registry(self.upstream.url, proxy_timeout=5.0, read_timeout=5.0)


class ManifestTests(RegistryTestCase):
    """GET and HEAD of manifests."""

    async def test_manifest(self) -> None:
        """By tag and by digest it comes byte for byte, and is asked for with every type that is taken."""
        upstream: Upstream = self.client
        for reference in (ONE, self.image.digest):
            manifest = await upstream.manifest(REPOSITORY, reference)
            self.assertEqual((manifest.body, manifest.digest), (self.image.manifest, self.image.digest))
        accept = self.upstream.requests[0].headers["accept"]
        for kind in ("oci.image.manifest.v1", "oci.image.index.v1", "manifest.v2", "manifest.list.v2"):
            self.assertIn(kind, accept)
        self.assertEqual(self.notes.bytes, 2 * len(self.image.manifest))

    async def test_manners(self) -> None:
        """Requests say who asks, through what, and that nothing is to be compressed; they carry nothing secret."""
        await self.client.manifest(REPOSITORY, ONE)
        headers = self.upstream.requests[0].headers
        self.assertTrue(headers["user-agent"].startswith("nora/"))
        self.assertRegex(headers["via"], r"\A1\.1 nora-[0-9a-f]{16}\Z")
        self.assertEqual(headers["accept-encoding"], "identity")
        self.assertNotIn("authorization", headers)

    async def test_path_of_the_url(self) -> None:
        """A URL with a path of its own keeps it before `/v2/`, which is there once."""
        for path, expected in (("/", ""), ("/mirror", "/mirror"), ("/mirror/v2/", "/mirror"), ("/v2?x", "")):
            self.upstream.requests.clear()
            await self.failure_or_not(self.registry(self.upstream.url + path))
            self.assertEqual(self.upstream.requests[0].path, f"{expected}/v2/team/app/manifests/1")

    async def failure_or_not(self, client: Registry) -> None:
        with contextlib.suppress(Absent):
            await client.manifest(REPOSITORY, ONE)

    async def test_describe(self) -> None:
        """HEAD alone tells type, digest and size."""
        for reference in (ONE, self.image.digest):
            described = await self.client.describe(REPOSITORY, reference)
            self.assertEqual(
                (described.media_type, described.digest, described.size),
                (MANIFEST_TYPE, self.image.digest, len(self.image.manifest)),
            )
        self.assertEqual(self.upstream.count(method="GET"), 0)
        self.assertEqual(self.notes.answers, [("fake", "head", "found")] * 2)

    async def test_describe_without_a_digest(self) -> None:
        """Where HEAD tells no digest, type or length, GET does; a digest that is known needs none."""
        for fault in (
            Fault(no_digest=True, method="HEAD"),
            Fault(headers=(("Docker-Content-Digest", "md5:abc"),), method="HEAD"),
            Fault(headers=(("Content-Type", "text/plain"),), method="HEAD"),
            Fault(chunked=True, method="HEAD"),
            Fault(headers=(("Content-Length", "99999999"),), method="HEAD"),
            Fault(status=400, method="HEAD"),
            Fault(status=405, method="HEAD"),
        ):
            self.upstream.heal()
            self.upstream.requests.clear()
            self.upstream.fault("*", fault)
            described = await self.client.describe(REPOSITORY, ONE)
            self.assertEqual(described.digest, self.image.digest)
            self.assertEqual(self.upstream.count(method="GET"), 1, fault)
        self.upstream.heal()
        self.upstream.requests.clear()
        self.upstream.fault("*", Fault(no_digest=True))
        await self.client.describe(REPOSITORY, self.image.digest)
        self.assertEqual(self.upstream.count(method="GET"), 0)

    async def test_tag_without_a_digest(self) -> None:
        """A tag whose answer names no digest has the sha256 of what came."""
        self.upstream.fault("*", Fault(no_digest=True))
        self.assertEqual((await self.client.manifest(REPOSITORY, ONE)).digest, self.image.digest)

    async def test_sha512(self) -> None:
        """A tag that is told to be a sha512 is checked against that."""
        image = make_image([b"x"], algorithm="sha512")
        self.upstream.add_image(REPOSITORY, "512", image)
        manifest = await self.client.manifest(REPOSITORY, Tag("512"))
        self.assertEqual((manifest.digest, manifest.digest.algorithm), (image.digest, "sha512"))
        self.upstream.fault("*", Fault(corrupt=True))
        await self.fails(self.client.manifest(REPOSITORY, Tag("512")), Unverified)

    async def test_lies(self) -> None:
        """Bytes that are not the digest's, a wrong digest, a web page, a wrong type: none of it passes."""
        wrong = Fault(headers=(("Docker-Content-Digest", str(Digest.of(b"other"))),))
        unusable = (
            Fault(html=True),
            Fault(headers=(("Content-Type", "application/json"),)),
            Fault(headers=(("Content-Type", ""),)),
            Fault(headers=(("Content-Encoding", "gzip"),)),
        )
        for fault in (Fault(corrupt=True), wrong, *unusable):
            self.upstream.fault("*", fault)
            await self.fails(self.client.manifest(REPOSITORY, ONE), Unverified)
        for fault in unusable:
            self.upstream.fault("*", fault)
            await self.fails(self.client.describe(REPOSITORY, ONE), Unverified)
        self.upstream.fault("*", wrong)
        await self.fails(self.client.describe(REPOSITORY, self.image.digest), Unverified)
        self.upstream.fault("*", Fault(corrupt=True))
        await self.fails(self.client.manifest(REPOSITORY, self.image.digest), Unverified)

    async def test_too_large(self) -> None:
        """A manifest past 4 MiB is not taken, told or not, and its connection is closed."""
        big = self.upstream.add_manifest(REPOSITORY, b" " * (2 * MAX_MANIFEST_SIZE), MANIFEST_TYPE, "big")
        for fault in (Fault(), Fault(chunked=True), Fault(bare=True)):
            self.upstream.fault("*", fault)
            await self.fails(self.client.manifest(REPOSITORY, Tag("big")), Unverified)
            await self.until(lambda: self.upstream.connections == self.upstream.closed)
        self.assertLess(max(self.upstream.sent.values()), 3 * 2 * MAX_MANIFEST_SIZE)
        del big

    async def test_cut_short(self) -> None:
        """A manifest that breaks off is broken, however its length was told."""
        for fault, kind in (
            (Fault(truncate=10), Broken),
            (Fault(truncate=10, chunked=True), Broken),
            (Fault(truncate=10, bare=True), Unverified),
        ):
            self.upstream.fault("*", fault)
            await self.fails(self.client.manifest(REPOSITORY, ONE), kind)

    async def test_without_a_length(self) -> None:
        """A manifest may come in chunks, or end with its connection: its digest vouches for it."""
        for fault in (Fault(chunked=True), Fault(bare=True)):
            self.upstream.fault("*", fault)
            self.assertEqual((await self.client.manifest(REPOSITORY, ONE)).body, self.image.manifest)

    async def test_stalled(self) -> None:
        """A manifest whose body stalls times out."""
        client = self.registry(self.upstream.url, proxy_timeout=0.2)
        self.upstream.fault("*", Fault(stall=10))
        await self.fails(client.manifest(REPOSITORY, ONE), TimedOut)
        await self.until(lambda: self.upstream.connections == self.upstream.closed)


class OutcomeTests(RegistryTestCase):
    """What a status means."""

    async def test_table(self) -> None:
        """Each status has one outcome, whatever was asked."""
        table: list[tuple[Fault, type[NoraError]]] = [
            (Fault(status=404, code="MANIFEST_UNKNOWN"), Absent),
            (Fault(status=410), Absent),
            (Fault(status=400, code="NAME_INVALID"), Absent),
            (Fault(status=400, code="TAG_INVALID"), Unavailable),
            (Fault(status=400, html=False, corrupt=True), Unavailable),
            (Fault(status=401), Absent),
            (Fault(status=402), Absent),
            (Fault(status=403), Absent),
            (Fault(status=416), Unverified),
            (Fault(status=418), Unavailable),
            (Fault(status=429), Limited),
            (Fault(status=500), Unavailable),
            (Fault(status=502), Unavailable),
            (Fault(status=503), Unavailable),
            (Fault(status=203), Unverified),
            (Fault(status=206), Unverified),
            (Fault(drop=True), Unavailable),
        ]
        for fault, kind in table:
            self.upstream.heal()
            self.upstream.fault("*", fault)
            manifest = await self.fails(self.client.manifest(REPOSITORY, ONE), kind)
            await self.fails(self.client.blob(REPOSITORY, self.layer), kind)
            if isinstance(manifest, Absent):
                self.assertEqual(manifest.denied, fault.status in (401, 402, 403))
            if fault.code != "NAME_INVALID":  # only a body tells that, and HEAD has none
                await self.fails(self.client.describe(REPOSITORY, ONE), kind)
                await self.fails(self.client.describe_blob(REPOSITORY, self.layer), kind)

    async def test_state(self) -> None:
        """The state tells when it last answered for sure, and what went wrong last."""
        self.assertEqual((self.client.state().last_success, self.client.state().last_error), (None, None))
        await self.fails(self.client.manifest(REPOSITORY, Tag("none")), Absent)
        state = self.client.state()
        self.assertIsNotNone(state.last_success)
        self.assertIsNone(state.last_error)
        self.upstream.fault("*", Fault(status=503))
        await self.fails(self.client.manifest(REPOSITORY, ONE), Unavailable)
        self.assertEqual(self.client.state().last_error, "it answered 503")
        self.assertIsNotNone(self.client.state().last_error_at)
        self.assertEqual(self.client.state().last_success, state.last_success)

    async def test_observed(self) -> None:
        """Every exchange is told with its kind and outcome."""
        await self.client.describe_blob(REPOSITORY, self.layer)
        await self.client.manifest(REPOSITORY, ONE)
        await self.fails(self.client.describe(REPOSITORY, Tag("none")), Absent)
        self.upstream.fault("*", Fault(status=403))
        await self.fails(self.client.blob(REPOSITORY, self.layer), Absent)
        self.upstream.fault("*", Fault(status=429))
        await self.fails(self.client.blob(REPOSITORY, self.layer), Limited)
        self.upstream.fault("*", Fault(status=500))
        await self.fails(self.client.blob(REPOSITORY, self.layer), Unavailable)
        self.assertEqual(
            [answer[1:] for answer in self.notes.answers],
            [
                ("head", "found"),
                ("manifest", "found"),
                ("head", "absent"),
                ("blob", "denied"),
                ("blob", "limited"),
                ("blob", "unavailable"),
            ],
        )

    async def test_quota(self) -> None:
        """What is left of a rate limit is passed on, from HEAD and GET, found or not."""
        self.assertIsNone(self.client.pulls_left())
        self.upstream.fault("*", Fault(headers=(("ratelimit-remaining", "20;w=21600"),)))
        await self.client.describe(REPOSITORY, ONE)
        self.assertEqual(self.client.pulls_left(), 20)
        self.upstream.fault("*", Fault(status=429, headers=(("ratelimit-remaining", "0;w=21600"),)))
        await self.fails(self.client.manifest(REPOSITORY, ONE), Limited)
        self.assertEqual(self.notes.remaining, [20, 0])
        self.assertEqual(self.client.pulls_left(), 0)

    async def test_limited_is_remembered(self) -> None:
        """After a 429 with a time nobody asks again for that kind until it is up; other kinds go on."""
        self.upstream.fault("*", Fault(status=429, headers=(("Retry-After", "100"),), method="GET"))
        first = await self.fails(self.client.manifest(REPOSITORY, ONE), Limited)
        self.assertEqual(first.retry_after, 100)
        again = await self.fails(self.client.manifest("team/other", ONE), Limited)
        self.assertIn(again.retry_after, (99, 100))
        self.assertEqual(self.upstream.count(method="GET"), 1)
        await self.client.describe(REPOSITORY, ONE)
        self.upstream.heal()
        self.assertEqual(await self.download(self.client, self.layer), LAYER)

    async def test_limited_without_a_time(self) -> None:
        """Without a time the next request may try again at once."""
        self.upstream.fault("*", Fault(status=429, times=1))
        limited = await self.fails(self.client.manifest(REPOSITORY, ONE), Limited)
        self.assertIsNone(limited.retry_after)
        await self.client.manifest(REPOSITORY, ONE)


class BlobTests(RegistryTestCase):
    """Transfers."""

    async def test_blob(self) -> None:
        """A blob comes whole, its size told at the headers."""
        transfer = await self.client.blob(REPOSITORY, self.layer)
        self.assertEqual((transfer.size, transfer.start), (len(LAYER), 0))
        self.assertEqual(await delivered(transfer), LAYER)
        self.assertEqual(self.notes.bytes, len(LAYER))
        self.assertNotIn("range", self.upstream.requests[0].headers)

    async def test_describe_blob(self) -> None:
        """HEAD confirms it and moves no bytes; a size that is not told is None."""
        self.assertEqual(await self.client.describe_blob(REPOSITORY, self.layer), len(LAYER))
        self.upstream.fault("*", Fault(chunked=True))
        self.assertIsNone(await self.client.describe_blob(REPOSITORY, self.layer))
        self.assertEqual((self.upstream.count(method="GET"), sum(self.upstream.sent.values())), (0, 0))

    async def test_describe_blob_lies(self) -> None:
        """A web page, or an answer about another digest, confirms nothing."""
        self.upstream.fault("*", Fault(html=True))
        await self.fails(self.client.describe_blob(REPOSITORY, self.layer), Unverified)
        self.upstream.fault("*", Fault(headers=(("Docker-Content-Digest", str(Digest.of(b"other"))),)))
        await self.fails(self.client.describe_blob(REPOSITORY, self.layer), Unverified)

    async def test_range(self) -> None:
        """From an offset only the rest comes."""
        transfer = await self.client.blob(REPOSITORY, self.layer, 1000)
        self.assertEqual((transfer.size, transfer.start), (len(LAYER), 1000))
        self.assertEqual(await delivered(transfer), LAYER[1000:])
        self.assertEqual(self.upstream.requests[0].headers["range"], "bytes=1000-")

    async def test_no_ranges(self) -> None:
        """An upstream without ranges sends all, and `start` says so."""
        self.upstream.fault("*", Fault(no_ranges=True))
        transfer = await self.client.blob(REPOSITORY, self.layer, 1000)
        self.assertEqual((transfer.size, transfer.start), (len(LAYER), 0))
        self.assertEqual(await delivered(transfer), LAYER)

    async def test_wrong_range(self) -> None:
        """Bytes from elsewhere than asked are refused at the headers, and an offset past the end too."""
        for told in ("bytes 0-9/10", f"bytes 999-{len(LAYER) - 1}/{len(LAYER)}", "lines 1000-2000/3000", ""):
            self.upstream.fault(
                "*", Fault(content_range=told or None, headers=() if told else (("Content-Range", ""),))
            )
            await self.fails(self.client.blob(REPOSITORY, self.layer, 1000), Unverified)
        self.upstream.heal()
        await self.fails(self.client.blob(REPOSITORY, self.layer, len(LAYER)), Unverified)

    async def test_partial_of_unknown_size(self) -> None:
        """A 206 that does not know the whole's size is taken as far as its framing vouches for it."""
        self.upstream.fault("*", Fault(content_range=f"bytes 1000-{len(LAYER) - 1}/*"))
        transfer = await self.client.blob(REPOSITORY, self.layer, 1000)
        self.assertEqual((transfer.size, transfer.start), (None, 1000))
        self.assertEqual(await delivered(transfer), LAYER[1000:])

    async def test_chunked(self) -> None:
        """Without a length the size is unknown, and the end of the chunks is the end."""
        self.upstream.fault("*", Fault(chunked=True))
        transfer = await self.client.blob(REPOSITORY, self.layer)
        self.assertIsNone(transfer.size)
        self.assertEqual(await delivered(transfer), LAYER)

    async def test_ends_that_prove_nothing(self) -> None:
        """A cut is broken, with a length, in chunks, or where the connection's end is all there is."""
        for fault in (
            Fault(truncate=5000),
            Fault(truncate=5000, chunked=True),
            Fault(truncate=5000, bare=True),
            Fault(bare=True),
        ):
            self.upstream.fault("*", fault)
            await self.fails(self.download(self.client, self.layer), Broken)

    async def test_page_for_a_blob(self) -> None:
        """A web page in place of a blob is left to the digest."""
        self.upstream.fault("*", Fault(html=True))
        self.assertTrue((await self.download(self.client, self.layer)).startswith(b"<!doctype"))

    async def test_compressed(self) -> None:
        """A content coding that was not asked for is refused, and its connection closed."""
        self.upstream.fault("*", Fault(headers=(("Content-Encoding", "gzip"),)))
        await self.fails(self.client.blob(REPOSITORY, self.layer), Unverified)
        self.upstream.fault("*", Fault(headers=(("Content-Encoding", "identity"),)))
        self.assertEqual(await self.download(self.client, self.layer), LAYER)

    async def test_compressed_refusal(self) -> None:
        """A refusal counts by its status, whatever its body is coded in."""
        self.upstream.fault("*", Fault(status=404, headers=(("Content-Encoding", "gzip"),)))
        await self.fails(self.client.manifest(REPOSITORY, ONE), Absent)

    async def test_silence(self) -> None:
        """A body that falls silent is broken, and its connection closed."""
        client = self.registry(self.upstream.url, read_timeout=0.2)
        self.upstream.fault("*", Fault(stall=5000))
        broken = await self.fails(self.download(client, self.layer), Broken)
        self.assertIn(f"{len(LAYER) - 5000} of {len(LAYER)} bytes missing", broken.message)
        await self.until(lambda: self.upstream.connections == self.upstream.closed)

    async def test_connections_are_used_again(self) -> None:
        """One connection serves one request after the other."""
        for _ in range(3):
            await self.client.manifest(REPOSITORY, ONE)
            await self.download(self.client, self.layer)
            await self.fails(self.client.manifest(REPOSITORY, Tag("none")), Absent)
            await self.client.describe(REPOSITORY, ONE)
        self.assertEqual(self.upstream.connections, 1)

    async def test_lost_idle_connection(self) -> None:
        """An idle connection that the upstream closed meanwhile costs nothing but a new one."""
        await self.client.manifest(REPOSITORY, ONE)
        self.upstream.cut()
        await self.client.manifest(REPOSITORY, ONE)
        self.assertEqual(self.upstream.connections, 2)
