"""GitHub's registry as it really is: a challenge with a placeholder, a no from the token service, storage elsewhere."""

from __future__ import annotations

from nora.oci import Digest, Tag
from nora.upstream.outcomes import Absent
from tests.support.fake_upstream import FakeUpstream, Fault, Image, Seen
from tests.support.internet import LAYER, InternetTestCase, has_image

GHCR = "ghcr.io"
STORAGE = "pkg-containers.githubusercontent.com"
APP, OTHER = "team/app", "team/other"
DIGEST = Digest.of(LAYER)
PLACEHOLDER = 'Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:user/image:pull"'


async def ghcr(case: InternetTestCase) -> tuple[FakeUpstream, Image]:
    """Start it; gives the registry and the image it has."""
    registry = await case.host(GHCR, auth=True)
    image = has_image(registry, APP, OTHER)
    registry.challenge = PLACEHOLDER
    registry.token_answer = {}
    known = {f"repository:{name}:pull" for name in (APP, OTHER)}

    def judge(seen: Seen) -> Fault | None:
        return None if known.issuperset(seen.query.get("scope", [])) else Fault(status=403, code="DENIED")

    registry.fault("/token", judge)
    await case.storage(STORAGE, registry, "/ghcr1/blobs/{reference}")
    return registry, image


class GitHubTests(InternetTestCase):
    """`ghcr.io`."""

    ghcr: FakeUpstream
    image: Image

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.ghcr, self.image = await ghcr(self)
        self.nora = self.client(f"https://{GHCR}")

    async def test_pull(self) -> None:
        """The scope asked for is the repository's, never the placeholder that the challenge echoes."""
        await self.pulled(self.nora, APP, self.image)
        self.assertEqual(self.ghcr.seen("/token")[0].query["service"], [GHCR])
        self.assert_story(
            f"HEAD {GHCR}/v2/team/app/manifests/1",
            f"GET {GHCR}/token for repository:team/app:pull",
            f"HEAD {GHCR}/v2/team/app/manifests/1 *",
            f"GET {GHCR}/v2/team/app/manifests/1 *",
            f"GET {GHCR}/v2/team/app/blobs/{DIGEST} *",
            f"GET {STORAGE}/ghcr1/blobs/{DIGEST}",
        )
        await self.nora.describe(OTHER, Tag("1"))
        self.assert_story(
            f"GET {GHCR}/token for repository:team/other:pull", f"HEAD {GHCR}/v2/team/other/manifests/1 *"
        )

    async def test_private_or_missing(self) -> None:
        """The token service's own 403 is a denial, and the registry is not asked again."""
        for _ in range(2):
            denied = await self.refused(self.nora.describe("team/secret", Tag("1")), Absent)
            self.assertTrue(denied.denied)
        denied = await self.refused(self.nora.blob("team/secret", DIGEST), Absent)
        self.assertTrue(denied.denied)
        self.assert_story(
            f"HEAD {GHCR}/v2/team/secret/manifests/1",
            *[f"GET {GHCR}/token for repository:team/secret:pull"] * 3,
        )
        await self.pulled(self.nora, APP, self.image)

    async def test_head_of_a_blob(self) -> None:
        """HEAD of a blob goes the same way as GET, and stays HEAD."""
        self.assertEqual(await self.nora.describe_blob(APP, DIGEST), len(LAYER))
        self.assertEqual(
            self.story()[2:],
            [f"HEAD {GHCR}/v2/team/app/blobs/{DIGEST} *", f"HEAD {STORAGE}/ghcr1/blobs/{DIGEST}"],
        )
