"""Microsoft's and NVIDIA's registries as they really are."""

from __future__ import annotations

from nora.oci import Digest, Tag
from nora.upstream.outcomes import Absent
from tests.support.fake_upstream import FakeUpstream, Fault, Image
from tests.support.internet import LAYER, InternetTestCase, has_image

MCR, DATA = "mcr.microsoft.com", "westeurope.data.mcr.microsoft.com"
NVCR, SIGNED = "nvcr.io", "xfiles.ngc.nvidia.com"
APP, OTHER = "dotnet/runtime", "nvidia/k8s/dcgm"
DIGEST = Digest.of(LAYER)


class MicrosoftTests(InternetTestCase):
    """`mcr.microsoft.com`."""

    mcr: FakeUpstream
    image: Image

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.mcr = await self.host(MCR)
        self.image = has_image(self.mcr, APP, OTHER)
        await self.storage(DATA, self.mcr, "/0123456789abcdef/docker/registry/v2/blobs/sha256/{hex}/data")
        self.nora = self.client(f"https://{MCR}")

    async def test_pull_known(self) -> None:
        """There is no challenge: nothing but the requests themselves, and a regional host for blobs."""
        await self.pulled(self.nora, APP, self.image)
        self.assert_story(
            f"HEAD {MCR}/v2/dotnet/runtime/manifests/1",
            f"GET {MCR}/v2/dotnet/runtime/manifests/1",
            f"GET {MCR}/v2/dotnet/runtime/blobs/{DIGEST}",
            f"GET {DATA}/0123456789abcdef/docker/registry/v2/blobs/sha256/{DIGEST.hex}/data",
        )
        await self.nora.manifest(OTHER, Tag("1"))
        self.assert_story(f"GET {MCR}/v2/nvidia/k8s/dcgm/manifests/1")

    async def test_missing_known(self) -> None:
        """404 MANIFEST_UNKNOWN is absent."""
        absent = await self.refused(self.nora.manifest(APP, Tag("none")), Absent)
        self.assertFalse(absent.denied)


class NvidiaTests(InternetTestCase):
    """`nvcr.io`."""

    nvcr: FakeUpstream
    image: Image

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.nvcr = await self.host(NVCR, auth=True)
        self.image = has_image(self.nvcr, APP, OTHER)
        self.nvcr.challenge = 'Bearer realm="https://nvcr.io/proxy_auth",scope="repository:{name}:pull,push"'
        self.nvcr.token_path = "/proxy_auth"
        self.nvcr.token_answer = {}
        await self.storage(SIGNED, self.nvcr, "/org/nvidia/{hex}")
        self.nora = self.client(f"https://{NVCR}")

    async def test_pull(self) -> None:
        """The challenge names no service, so none is asked for; pulling is all that is asked for."""
        await self.pulled(self.nora, APP, self.image)
        self.assertEqual(self.nvcr.seen("/proxy_auth")[0].query, {"scope": [f"repository:{APP}:pull"]})
        self.assert_story(
            f"HEAD {NVCR}/v2/dotnet/runtime/manifests/1",
            f"GET {NVCR}/proxy_auth for repository:dotnet/runtime:pull",
            f"HEAD {NVCR}/v2/dotnet/runtime/manifests/1 *",
            f"GET {NVCR}/v2/dotnet/runtime/manifests/1 *",
            f"GET {NVCR}/v2/dotnet/runtime/blobs/{DIGEST} *",
            f"GET {SIGNED}/org/nvidia/{DIGEST.hex}",
        )
        await self.nora.describe(OTHER, Tag("1"))
        self.assert_story(
            f"GET {NVCR}/proxy_auth for repository:nvidia/k8s/dcgm:pull",
            f"HEAD {NVCR}/v2/nvidia/k8s/dcgm/manifests/1 *",
        )

    async def test_realm_with_a_query(self) -> None:
        """The realm's own query stays, and the scope is added to it; a scope in it is not asked for beside ours."""
        for query, expected in (
            ("?account=%24oauthtoken", {"account": ["$oauthtoken"]}),
            ("?a=1,2&b", {"a": ["1,2"]}),
            ("?scope=repository:user/image:pull&a=1", {"a": ["1"]}),
            ("?", {}),
        ):
            self.nvcr.challenge = f'Bearer realm="https://nvcr.io/proxy_auth{query}"'
            await self.client(f"https://{NVCR}").describe(APP, Tag("1"))
            asked = self.nvcr.seen("/proxy_auth")[-1].query
            self.assertEqual(asked, {**expected, "scope": [f"repository:{APP}:pull"]})

    async def test_range(self) -> None:
        """The signed host gives ranges."""
        self.assertEqual(await self.layer(self.nora, APP, 1000), LAYER[1000:])

    async def test_refused(self) -> None:
        """401, 402 and 403 are denials."""
        for status in (401, 402, 403):
            self.nvcr.fault("/v2/*", Fault(status=status))
            denied = await self.refused(self.nora.manifest(APP, Tag("1")), Absent)
            self.assertTrue(denied.denied)
        self.nvcr.heal()
        self.nvcr.fault("/proxy_auth", Fault(status=403))
        denied = await self.refused(self.client(f"https://{NVCR}").manifest(APP, Tag("1")), Absent)
        self.assertTrue(denied.denied)
