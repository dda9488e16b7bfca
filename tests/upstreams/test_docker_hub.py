"""Docker Hub as it really is: tokens of another host, storage behind signed URLs, nothing ever 404, pulls counted."""

from __future__ import annotations

from email.utils import formatdate

from nora.oci import Digest, Tag
from nora.oci.errors import Limited, Unavailable
from nora.upstream.outcomes import Absent
from tests.support.fake_upstream import FakeUpstream, Fault, Image
from tests.support.internet import LAYER, STALE, InternetTestCase, has_image

HUB = "registry-1.docker.io"
CDN = "production.cloudflare.docker.com"
THING, OTHER = "library/thing", "team/app"
DIGEST = Digest.of(LAYER)
DATA = "/registry-v2/docker/registry/v2/blobs/sha256/{hex}/data"
AT = DATA.replace("{hex}", DIGEST.hex)


async def docker_hub(case: InternetTestCase) -> tuple[FakeUpstream, FakeUpstream, Image]:
    """Start Docker Hub with its token service and its storage; gives registry, token service and the image it has."""
    hub = await case.host(HUB, auth=True)
    image = has_image(hub, THING, OTHER)
    hub.challenge = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:{name}:pull"'
    tokens = await case.tokens("auth.docker.io", hub)
    await case.storage(CDN, hub, DATA)
    return hub, tokens, image


class DockerHubTests(InternetTestCase):
    """`registry-1.docker.io`."""

    hub: FakeUpstream
    auth: FakeUpstream
    image: Image

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.hub, self.auth, self.image = await docker_hub(self)
        self.nora = self.client(f"https://{HUB}")

    async def test_pull(self) -> None:
        """One 401 and one token for the repository, then HEAD, GET and a blob from where the signed URL leads."""
        await self.pulled(self.nora, THING, self.image)
        self.assertEqual(self.auth.requests[0].query["service"], ["registry.docker.io"])
        self.assert_story(
            f"HEAD {HUB}/v2/library/thing/manifests/1",
            "GET auth.docker.io/token for repository:library/thing:pull",
            f"HEAD {HUB}/v2/library/thing/manifests/1 *",
            f"GET {HUB}/v2/library/thing/manifests/1 *",
            f"GET {HUB}/v2/library/thing/blobs/{DIGEST} *",
            f"GET {CDN}{AT}",
        )

    async def test_second_repository(self) -> None:
        """The next repository's token is asked for ahead: one that is known to be wanted costs no 401."""
        await self.pulled(self.nora, THING, self.image)
        self.story()
        await self.nora.describe(OTHER, Tag("1"))
        await self.nora.describe(THING, Tag("1"))
        self.assert_story(
            "GET auth.docker.io/token for repository:team/app:pull",
            f"HEAD {HUB}/v2/team/app/manifests/1 *",
            f"HEAD {HUB}/v2/library/thing/manifests/1 *",
        )

    async def test_token_reply_known(self) -> None:
        """`token` and `access_token` come together, `issued_at` beside them; `access_token` alone serves as well."""
        both = {"access_token": f"{HUB}-token-1", "expires_in": 300, "issued_at": "2026-01-01T00:00:00.123Z"}
        self.auth.token_answer = both
        await self.nora.describe(THING, Tag("1"))
        self.auth.token_answer = {"expires_in": 300}
        self.auth.token_member = "access_token"
        await self.nora.describe(OTHER, Tag("1"))
        self.assertEqual(self.auth.tokens, 2)

    async def test_private_or_missing(self) -> None:
        """A token comes for what is private or missing too, and opens nothing: denied, never plainly absent."""
        self.hub.private = {"team/private", "team/missing"}
        for name in ("team/private", "team/missing"):
            denied = await self.refused(self.nora.describe(name, Tag("1")), Absent)
            self.assertTrue(denied.denied)
            denied = await self.refused(self.nora.manifest(name, Tag("1")), Absent)
            self.assertTrue(denied.denied)
            denied = await self.refused(self.nora.blob(name, DIGEST), Absent)
            self.assertTrue(denied.denied)
        self.assertEqual(
            self.story()[:3],
            [
                f"HEAD {HUB}/v2/team/private/manifests/1",
                "GET auth.docker.io/token for repository:team/private:pull",
                f"HEAD {HUB}/v2/team/private/manifests/1 *",
            ],
        )

    async def test_missing_tag(self) -> None:
        """A tag that a readable repository lacks is plainly absent."""
        absent = await self.refused(self.nora.describe(THING, Tag("none")), Absent)
        self.assertFalse(absent.denied)

    async def test_expired_signature(self) -> None:
        """A signed URL that the storage refuses is the storage's trouble, not the repository's no; unquoted."""
        storage = await self.storage("r2.example", self.hub, DATA)
        for status in (400, 401, 403):
            storage.fault("*", Fault(status=status))
            await self.refused(self.nora.blob(THING, DIGEST), Unavailable)
        self.assertNotIn("r2.example", self.nora.state().last_error or "")

    async def test_resume(self) -> None:
        """The rest of a blob is asked for at a storage URL that is signed anew."""
        self.assertEqual(await self.layer(self.nora, THING, 1000), LAYER[1000:])
        await self.layer(self.nora, THING, 2000)
        ranges = [seen.headers.get("range") for seen in self.internet.journal if seen.headers["host"] == CDN]
        self.assertEqual(ranges, ["bytes=1000-", "bytes=2000-"])
        self.assertEqual(self.hub.count("/v2/*/blobs/*"), 3)

    async def test_freshness_headers(self) -> None:
        """What HTTP says of caching changes nothing."""
        self.hub.fault("/v2/*/manifests/*", Fault(headers=STALE))
        await self.pulled(self.nora, THING, self.image)

    async def test_digest_missing_on_head(self) -> None:
        """Where HEAD tells no digest, GET does."""
        self.hub.fault("/v2/*/manifests/*", Fault(no_digest=True, method="HEAD"))
        self.assertEqual((await self.nora.describe(THING, Tag("1"))).digest, self.image.digest)
        self.assertEqual([line.split()[0] for line in self.story()], ["HEAD", "GET", "HEAD", "GET"])


class DockerHubLimitTests(InternetTestCase):
    """Docker Hub counts the GETs of manifests."""

    hub: FakeUpstream

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.hub, _, self.image = await docker_hub(self)
        self.nora = self.client(f"https://{HUB}")

    async def test_what_is_left(self) -> None:
        """HEAD and GET tell what is left; without the headers there is no limit to tell."""
        await self.nora.describe(THING, Tag("1"))
        self.assertEqual(self.notes.remaining, [])
        told = (
            ("ratelimit-limit", "100;w=21600"),
            ("ratelimit-remaining", "20;w=21600"),
            ("docker-ratelimit-source", "192.0.2.1"),
        )
        self.hub.fault("/v2/*/manifests/*", Fault(headers=told))
        await self.nora.describe(THING, Tag("1"))
        await self.nora.manifest(THING, Tag("1"))
        self.assertEqual(self.notes.remaining, [20, 20])

    async def test_over_the_limit(self) -> None:
        """Over it only the GET of a manifest is refused: HEAD and blobs go on, and nobody asks in vain meanwhile."""
        headers = (("Retry-After", "60"), ("ratelimit-remaining", "0;w=21600"))
        self.hub.fault(
            "/v2/*/manifests/*", Fault(status=429, code="TOOMANYREQUESTS", headers=headers, method="GET")
        )
        limited = await self.refused(self.nora.manifest(THING, Tag("1")), Limited)
        self.assertEqual((limited.retry_after, self.notes.remaining), (60, [0]))
        await self.refused(self.nora.manifest(OTHER, Tag("1")), Limited)
        self.assertEqual(self.hub.count("/v2/*/manifests/*", "GET"), 1)
        self.assertEqual((await self.nora.describe(THING, Tag("1"))).digest, self.image.digest)
        self.assertEqual(await self.layer(self.nora, THING), LAYER)

    async def test_until_a_date(self) -> None:
        """`Retry-After` may be a date, which is read by the registry's own clock."""
        now = 1_000_000_000
        headers = (("Retry-After", formatdate(now + 90, usegmt=True)), ("Date", formatdate(now, usegmt=True)))
        self.hub.fault("/v2/*", Fault(status=429, headers=headers))
        limited = await self.refused(self.nora.manifest(THING, Tag("1")), Limited)
        self.assertEqual(limited.retry_after, 90)

    async def test_limited_token_service(self) -> None:
        """The token service limits too, and says until when."""
        service = await self.tokens("auth.docker.io", self.hub)
        service.fault("/token", Fault(status=429, headers=(("Retry-After", "7"),)))
        limited = await self.refused(self.nora.manifest(THING, Tag("1")), Limited)
        self.assertEqual(limited.retry_after, 7)
