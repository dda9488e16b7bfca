"""Amazon's registries as they really are: the private one as an anonymous client sees it, and the public one."""

from __future__ import annotations

from nora.oci import Digest, Tag
from nora.oci.errors import Limited
from nora.upstream.outcomes import Absent
from tests.support.fake_upstream import FakeUpstream, Fault, Image
from tests.support.internet import LAYER, InternetTestCase, has_image

ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
PUBLIC, CLOUDFRONT = "public.ecr.aws", "d2glxqk2uabbnd.cloudfront.net"
APP, OTHER = "docker/library/app", "team/other"
DIGEST = Digest.of(LAYER)


class PrivateTests(InternetTestCase):
    """`ACCOUNT.dkr.ecr.REGION.amazonaws.com`, without credentials."""

    async def test_anonymous(self) -> None:
        """A Basic challenge with a body of plain text is a denial of all; nobody is asked for a token."""
        ecr = await self.host(ECR)
        image = has_image(ecr, "app")
        challenge = ("WWW-Authenticate", f'Basic realm="https://{ECR}/",service="ecr.amazonaws.com"')
        plain = ("Content-Type", "text/plain; charset=utf-8")
        ecr.fault("/v2/*", Fault(status=401, body=b"Not Authorized\n", headers=(challenge, plain)))
        nora = self.client(f"https://{ECR}")
        for work in (
            nora.describe("app", Tag("1")),
            nora.manifest("app", Tag("1")),
            nora.manifest("app", image.digest),
            nora.describe_blob("app", DIGEST),
            nora.blob("app", DIGEST),
        ):
            denied = await self.refused(work, Absent)
            self.assertTrue(denied.denied)
        self.assert_story(
            f"HEAD {ECR}/v2/app/manifests/1",
            f"GET {ECR}/v2/app/manifests/1",
            f"GET {ECR}/v2/app/manifests/{image.digest}",
            f"HEAD {ECR}/v2/app/blobs/{DIGEST}",
            f"GET {ECR}/v2/app/blobs/{DIGEST}",
        )
        self.assertEqual(ecr.connections, 1)

    async def test_expired_without_json(self) -> None:
        """A 403 of plain text, such as an expired login gives, is a denial too when nobody has logged in."""
        ecr = await self.host(ECR)
        text = b"Your Authorization Token has expired. Please run 'aws ecr get-login-password'.\n"
        ecr.fault("/v2/*", Fault(status=403, body=text, headers=(("Content-Type", "text/plain"),)))
        denied = await self.refused(self.client(f"https://{ECR}").manifest("app", Tag("1")), Absent)
        self.assertTrue(denied.denied)
        self.assertEqual(ecr.count(), 1)

    async def test_missing(self) -> None:
        """404 NAME_UNKNOWN is absent."""
        ecr = await self.host(ECR)
        ecr.fault("/v2/*", Fault(status=404, code="NAME_UNKNOWN"))
        absent = await self.refused(self.client(f"https://{ECR}").manifest("app", Tag("1")), Absent)
        self.assertFalse(absent.denied)


class PublicTests(InternetTestCase):
    """`public.ecr.aws`."""

    ecr: FakeUpstream
    image: Image

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.ecr, self.image = await ecr_public(self)
        self.nora = self.client(f"https://{PUBLIC}")

    async def test_pull(self) -> None:
        """The scope is `aws` and no repository's, so that one token serves for all of them."""
        await self.pulled(self.nora, APP, self.image)
        self.assertEqual(self.ecr.seen("/token/")[0].query, {"service": [PUBLIC], "scope": ["aws"]})
        self.assert_story(
            f"HEAD {PUBLIC}/v2/docker/library/app/manifests/1",
            f"GET {PUBLIC}/token/ for aws",
            f"HEAD {PUBLIC}/v2/docker/library/app/manifests/1 *",
            f"GET {PUBLIC}/v2/docker/library/app/manifests/1 *",
            f"GET {PUBLIC}/v2/docker/library/app/blobs/{DIGEST} *",
            f"GET {CLOUDFRONT}/docker/{DIGEST.hex}",
        )
        await self.nora.manifest(OTHER, Tag("1"))
        self.assert_story(f"GET {PUBLIC}/v2/team/other/manifests/1 *")

    async def test_expired(self) -> None:
        """A 403 that says that the token expired is cured by another one, once."""
        await self.nora.describe(APP, Tag("1"))
        self.ecr.revoke()
        body = b'{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate."}]}'
        self.ecr.fault("/v2/*", Fault(status=403, body=body, times=1))
        await self.nora.manifest(APP, Tag("1"))
        self.assertEqual(self.ecr.tokens, 2)

    async def test_missing_known(self) -> None:
        """What is not there is a plain 404."""
        absent = await self.refused(self.nora.manifest("team/none", Tag("1")), Absent)
        self.assertFalse(absent.denied)

    async def test_one_pull_a_second(self) -> None:
        """An anonymous client that is too fast hears 429, here without a time: the next try is free to go."""
        self.ecr.fault("/v2/*/manifests/*", Fault(status=429, code="TOOMANYREQUESTS", times=1))
        limited = await self.refused(self.nora.manifest(APP, Tag("1")), Limited)
        self.assertIsNone(limited.retry_after)
        await self.pulled(self.nora, APP, self.image)


async def ecr_public(case: InternetTestCase) -> tuple[FakeUpstream, Image]:
    """Start it with its storage; gives the registry and the image it has."""
    ecr = await case.host(PUBLIC, auth=True)
    image = has_image(ecr, APP, OTHER)
    ecr.challenge = f'Bearer realm="https://{PUBLIC}/token/",service="{PUBLIC}",scope="aws"'
    ecr.token_path = "/token/"
    ecr.token_answer = {"expires_in": 43200}
    ecr.scope = "aws"
    await case.storage(CLOUDFRONT, ecr, "/docker/{hex}")
    return ecr, image
