"""Google's Artifact Registry, and registry.k8s.io before it, as they really are."""

from __future__ import annotations

from nora.oci import Digest, Tag
from nora.oci.errors import Unverified
from nora.upstream.outcomes import Absent
from tests.support.fake_upstream import FakeUpstream, Fault, Image
from tests.support.internet import LAYER, SIGNATURE, STALE, InternetTestCase, has_image

GOOGLE, K8S = "europe-docker.pkg.dev", "registry.k8s.io"
BEHIND, S3 = "us-west1-docker.pkg.dev", "prod-registry-k8s-io-us-west-1.s3.dualstack.us-west-1.amazonaws.com"
APP, OTHER = "project/store/app", "project/store/other"
DIGEST = Digest.of(LAYER)
DOWNLOADS = "/artifacts-downloads/namespaces/project/repositories/store/downloads/" + "A" * 12_000


class ArtifactRegistryTests(InternetTestCase):
    """`REGION-docker.pkg.dev`."""

    google: FakeUpstream
    image: Image

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.google = await self.host(GOOGLE, auth=True)
        self.image = has_image(self.google, APP, OTHER)
        self.google.challenge = (
            f'Bearer realm="https://{GOOGLE}/v2/token",service="{GOOGLE}",scope="repository:{{name}}:pull"'
        )
        self.google.token_path = "/v2/token"
        self.google.token_answer = {"expires_in": 43200}
        self.google.objects[DOWNLOADS] = LAYER
        self.google.elsewhere["blobs"] = (302, DOWNLOADS)
        self.nora = self.client(f"https://{GOOGLE}")

    async def test_pull(self) -> None:
        """Blobs are redirected to a path on the same host, of thousands of characters; the token goes along."""
        await self.pulled(self.nora, APP, self.image)
        self.assert_story(
            f"HEAD {GOOGLE}/v2/project/store/app/manifests/1",
            f"GET {GOOGLE}/v2/token for repository:project/store/app:pull",
            f"HEAD {GOOGLE}/v2/project/store/app/manifests/1 *",
            f"GET {GOOGLE}/v2/project/store/app/manifests/1 *",
            f"GET {GOOGLE}/v2/project/store/app/blobs/{DIGEST} *",
            f"GET {GOOGLE}{DOWNLOADS} *",
        )
        await self.nora.describe(OTHER, Tag("1"))
        self.assert_story(
            f"GET {GOOGLE}/v2/token for repository:project/store/other:pull",
            f"HEAD {GOOGLE}/v2/project/store/other/manifests/1 *",
        )

    async def test_very_large_headers(self) -> None:
        """Headers far larger than most clients take are taken, on redirects and on what follows."""
        headers = tuple((f"X-Goog-Meta-{number}", "x" * 40_000) for number in range(4))
        self.google.fault("/v2/*/blobs/*", Fault(headers=headers))
        self.google.fault("/artifacts-downloads/*", Fault(headers=(*headers, *STALE)))
        self.assertEqual(await self.layer(self.nora, APP), LAYER)

    async def test_redirected_to_another_host(self) -> None:
        """A redirect to a storage of its own drops the token."""
        await self.storage("storage.googleapis.com", self.google, "/artifacts-europe/{reference}", status=302)
        self.assertEqual(await self.layer(self.nora, APP), LAYER)
        self.assertEqual(self.story()[-1], f"GET storage.googleapis.com/artifacts-europe/{DIGEST}")

    async def test_bare_challenge(self) -> None:
        """A challenge of nothing but a realm, as `/v2/` gives it, is enough."""
        self.google.challenge = f'Bearer realm="https://{GOOGLE}/v2/token"'
        await self.nora.manifest(APP, Tag("1"))
        self.assertEqual(self.google.seen("/v2/token")[0].query, {"scope": [f"repository:{APP}:pull"]})

    async def test_refused_without_a_challenge(self) -> None:
        """A refused token's 401 has no challenge: the last one known gives another token, once."""
        await self.nora.manifest(APP, Tag("1"))
        self.google.revoke()
        self.google.challenge = ""
        await self.nora.manifest(APP, Tag("1"))
        self.assertEqual(self.google.tokens, 2)

    async def test_private(self) -> None:
        """An anonymous client's 403 at the token step is a denial, and so is the registry's own 403 DENIED."""
        self.google.fault("/v2/token", Fault(status=403, times=1))
        denied = await self.refused(self.nora.manifest(APP, Tag("1")), Absent)
        self.assertTrue(denied.denied)
        self.google.fault(f"/v2/{APP}/*", Fault(status=403, code="DENIED", times=1))
        denied = await self.refused(self.nora.manifest(APP, Tag("1")), Absent)
        self.assertTrue(denied.denied)
        await self.nora.manifest(APP, Tag("1"))

    async def test_one_component(self) -> None:
        """A name that cannot exist there, 400 NAME_INVALID, is absent, and the next upstream may be asked."""
        self.google.fault("/v2/thing/*", Fault(status=400, code="NAME_INVALID"))
        absent = await self.refused(self.nora.manifest("thing", Tag("1")), Absent)
        self.assertFalse(absent.denied)

    async def test_one_component_by_head(self) -> None:
        """HEAD has no body to say that the name is invalid: GET tells."""
        self.google.fault("/v2/thing/*", Fault(status=400, code="NAME_INVALID"))
        absent = await self.refused(self.nora.describe("thing", Tag("1")), Absent)
        self.assertFalse(absent.denied)


class KubernetesTests(InternetTestCase):
    """`registry.k8s.io`: nothing is there, all is redirected."""

    front: FakeUpstream
    behind: FakeUpstream
    s3: FakeUpstream
    image: Image

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.front, self.behind, self.s3, self.image = await kubernetes(self)
        self.nora = self.client(f"https://{K8S}")

    async def test_pull(self) -> None:
        """Manifests come from a second registry with a challenge and a name of its own, blobs from a storage."""
        await self.pulled(self.nora, "pause", self.image)
        self.assert_story(
            f"HEAD {K8S}/v2/pause/manifests/1",
            f"HEAD {BEHIND}/v2/k8s-artifacts-prod/images/pause/manifests/1",
            f"GET {BEHIND}/v2/token for repository:k8s-artifacts-prod/images/pause:pull",
            f"HEAD {K8S}/v2/pause/manifests/1",
            f"HEAD {BEHIND}/v2/k8s-artifacts-prod/images/pause/manifests/1 *",
            f"GET {K8S}/v2/pause/manifests/1",
            f"GET {BEHIND}/v2/k8s-artifacts-prod/images/pause/manifests/1 *",
            f"GET {K8S}/v2/pause/blobs/{DIGEST}",
            f"GET {S3}/containers/images/{DIGEST}",
        )

    async def test_blobs_behind(self) -> None:
        """Blobs may be redirected to the second registry too, and from there to its storage."""
        self.front.elsewhere["blobs"] = (
            self.front.elsewhere["manifests"][0],
            (f"https://{BEHIND}/v2/k8s-artifacts-prod/images/{{name}}/blobs/{{reference}}"),
        )
        await self.storage("storage.googleapis.com", self.behind, "/artifacts/{hex}")
        self.assertEqual(await self.layer(self.nora, "pause"), LAYER)
        self.assertEqual(
            self.story()[-3:],
            [
                f"GET {K8S}/v2/pause/blobs/{DIGEST}",
                f"GET {BEHIND}/v2/k8s-artifacts-prod/images/pause/blobs/{DIGEST} *",
                f"GET storage.googleapis.com/artifacts/{DIGEST.hex}",
            ],
        )

    async def test_second_repository(self) -> None:
        """The second registry's challenge is asked for again only because its name there is not known before."""
        await self.nora.describe("pause", Tag("1"))
        self.story()
        await self.nora.describe("etcd", Tag("1"))
        self.assertEqual(self.behind.tokens, 2)
        self.story()
        await self.nora.describe("etcd", Tag("1"))
        self.assert_story(
            f"HEAD {K8S}/v2/etcd/manifests/1",
            f"HEAD {BEHIND}/v2/k8s-artifacts-prod/images/etcd/manifests/1 *",
        )

    async def test_missing(self) -> None:
        """The 404 from behind is a clean one."""
        absent = await self.refused(self.nora.manifest("pause", Tag("none")), Absent)
        self.assertFalse(absent.denied)

    async def test_denied_behind(self) -> None:
        """The second registry's no, after its own token, is a denial too."""
        self.behind.private = {"k8s-artifacts-prod/images/pause"}
        denied = await self.refused(self.nora.manifest("pause", Tag("1")), Absent)
        self.assertTrue(denied.denied)

    async def test_lies_behind(self) -> None:
        """What the second registry says is verified like the first's word."""
        self.behind.fault("/v2/*/manifests/*", Fault(html=True))
        await self.refused(self.nora.manifest("pause", Tag("1")), Unverified)
        self.behind.fault("/v2/*/manifests/*", Fault(redirect=f"https://none.example/?X={SIGNATURE}"))
        error = await self.failure(self.nora.manifest("pause", Tag("1")))
        self.assertNotIn(SIGNATURE, str(error))


async def kubernetes(case: InternetTestCase) -> tuple[FakeUpstream, FakeUpstream, FakeUpstream, Image]:
    """Start the front, the registry and the storage behind it; gives them and the image that they have."""
    front = await case.host(K8S)
    image = has_image(front, "pause", "etcd")
    behind = await case.host(BEHIND, auth=True)
    has_image(behind, "k8s-artifacts-prod/images/pause", "k8s-artifacts-prod/images/etcd")
    behind.challenge = (
        f'Bearer realm="https://{BEHIND}/v2/token",service="{BEHIND}",scope="repository:{{name}}:pull"'
    )
    behind.token_path = "/v2/token"
    s3 = await case.storage(S3, front, "/containers/images/{reference}", signed=False)
    front.elsewhere["manifests"] = (
        307,
        f"https://{BEHIND}/v2/k8s-artifacts-prod/images/{{name}}/manifests/{{reference}}",
    )
    return front, behind, s3, image
