"""Quay and GitLab as they really are."""

from __future__ import annotations

from nora.oci import Digest, Tag
from nora.upstream.outcomes import Absent
from tests.support.fake_upstream import FakeUpstream, Fault, Image, Seen
from tests.support.internet import LAYER, InternetTestCase, has_image

QUAY, GITLAB = "quay.io", "registry.gitlab.com"
APP, OTHER = "team/app", "team/other"
DIGEST = Digest.of(LAYER)


class QuayTests(InternetTestCase):
    """`quay.io`."""

    quay: FakeUpstream
    image: Image

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.quay = await self.host(QUAY, auth=True)
        self.image = has_image(self.quay, APP, OTHER)
        self.quay.challenge = 'Bearer realm="https://quay.io/v2/auth",service="quay.io"'
        self.quay.token_path = "/v2/auth"
        self.nora = self.client(f"https://{QUAY}")

    async def test_pull(self) -> None:
        """A scope is asked for though the challenge has none: a token without one opens nothing. Blobs: 302."""
        for host in ("cdn03.quay.io", "quayio-production-s3.s3.amazonaws.com"):
            await self.storage(host, self.quay, "/sha256/{hex}", status=302)
            await self.pulled(self.nora, APP, self.image)
            self.assertEqual(self.story()[-1], f"GET {host}/sha256/{DIGEST.hex}")
        self.assertEqual(
            [seen.query for seen in self.quay.seen("/v2/auth")],
            [{"service": ["quay.io"], "scope": ["repository:team/app:pull"]}],
        )

    async def test_second_repository(self) -> None:
        """The next repository's token is asked for ahead, with a scope."""
        await self.nora.describe(APP, Tag("1"))
        self.story()
        await self.nora.describe(OTHER, Tag("1"))
        self.assert_story(
            f"GET {QUAY}/v2/auth for repository:team/other:pull", f"HEAD {QUAY}/v2/team/other/manifests/1 *"
        )

    async def test_token_only_known(self) -> None:
        """The reply is a `token` and nothing else; it serves for the next requests all the same."""
        self.quay.token_answer = {}
        await self.nora.describe(APP, Tag("1"))
        await self.nora.manifest(APP, Tag("1"))
        self.assertEqual(self.quay.tokens, 1)

    async def test_private_or_missing(self) -> None:
        """401 UNAUTHORIZED in spite of a token, for unknown names too, is a denial."""
        self.quay.private = {"team/private", "team/missing"}
        for name in ("team/private", "team/missing"):
            denied = await self.refused(self.nora.manifest(name, Tag("1")), Absent)
            self.assertTrue(denied.denied)
        self.assertEqual(self.quay.tokens, 2)


class GitLabTests(InternetTestCase):
    """`registry.gitlab.com`."""

    gitlab: FakeUpstream
    service: FakeUpstream
    image: Image

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.gitlab = await self.host(GITLAB, auth=True)
        self.image = has_image(self.gitlab, APP, OTHER, "group/sub/project/image")
        self.gitlab.challenge = 'Bearer realm="https://gitlab.com/jwt/auth",service="container_registry",scope="repository:{name}:pull"'
        self.service = await self.tokens("gitlab.com", self.gitlab, "/jwt/auth")
        self.service.token_answer = {"expires_in": 900}
        self.nora = self.client(f"https://{GITLAB}")

    async def test_pull(self) -> None:
        """The token service is on another host; blobs are on storages of two kinds, by 302 and 307."""
        path = "/gitlab/docker/registry/v2/blobs/sha256/{hex}/data"
        for host, status in (("cdn.registry.gitlab-static.net", 302), ("storage.googleapis.com", 307)):
            await self.storage(host, self.gitlab, path, status=status)
            await self.pulled(self.nora, APP, self.image)
            self.assertEqual(self.story()[-1], f"GET {host}{path.replace('{hex}', DIGEST.hex)}")
        self.assertEqual(
            [seen.query for seen in self.service.seen("/jwt/auth")],
            [{"service": ["container_registry"], "scope": ["repository:team/app:pull"]}],
        )

    async def test_second_repository(self) -> None:
        """The next repository's token is asked for ahead; names may have many components."""
        await self.nora.describe(APP, Tag("1"))
        self.story()
        await self.nora.describe("group/sub/project/image", Tag("1"))
        self.assert_story(
            "GET gitlab.com/jwt/auth for repository:group/sub/project/image:pull",
            f"HEAD {GITLAB}/v2/group/sub/project/image/manifests/1 *",
        )

    async def test_invalid_token(self) -> None:
        """A refused token is dropped and fetched once more; the challenge then says `error="invalid_token"`."""
        await self.nora.describe(APP, Tag("1"))
        self.service.revoke()
        self.gitlab.challenge += ',error="invalid_token"'
        self.story()
        await self.nora.describe(APP, Tag("1"))
        self.assert_story(
            f"HEAD {GITLAB}/v2/team/app/manifests/1 *",
            "GET gitlab.com/jwt/auth for repository:team/app:pull",
            f"HEAD {GITLAB}/v2/team/app/manifests/1 *",
        )

    async def test_private_or_missing_known(self) -> None:
        """The token service's 403 DENIED is a denial."""

        def judge(seen: Seen) -> Fault | None:
            secret = "repository:team/secret:pull" in seen.query["scope"]
            return Fault(status=403, code="DENIED") if secret else None

        self.service.fault("/jwt/auth", judge)
        denied = await self.refused(self.nora.manifest("team/secret", Tag("1")), Absent)
        self.assertTrue(denied.denied)
        await self.nora.manifest(APP, Tag("1"))
