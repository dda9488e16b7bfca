"""Whole pulls from registries as they really are: a client, the daemon, and the Internet behind it."""

from __future__ import annotations

import json

from nora.oci import Digest
from tests.support.fake_upstream import FakeUpstream, Fault, Image
from tests.support.household import HouseholdTestCase
from tests.support.http_client import RawClient
from tests.support.internet import LAYER, STALE
from tests.upstreams.test_amazon import ecr_public
from tests.upstreams.test_docker_hub import docker_hub
from tests.upstreams.test_ghcr import ghcr
from tests.upstreams.test_google import kubernetes

DIGEST = Digest.of(LAYER)


class WholePullTests(HouseholdTestCase):
    """Through the daemon, with the requests that go out counted."""

    async def whole_pull(
        self, nora: RawClient, name: str, namespace: str, image: Image, *tokens: str
    ) -> list[str]:
        """Pull once, and once more from the cache alone; gives what the first pull asked of the Internet."""
        path = f"/v2/{name}/%s?ns={namespace}"
        stories = []
        for cached in (False, True):
            manifest = await self.fetched(nora, path % "manifests/1")
            self.assertEqual(manifest.body, image.manifest)
            self.assertEqual(manifest.headers["docker-content-digest"], str(image.digest))
            layer = await self.fetched(nora, path % f"blobs/{DIGEST}")
            self.assertEqual(layer.body, LAYER)
            # The second may come while the first is being published.
            status = (
                ("nora; hit", "nora; fwd=miss; collapsed; stored") if cached else ("nora; fwd=miss; stored",)
            )
            self.assertIn(layer.headers["cache-status"], status)
            for reply in (manifest, layer):
                self.assertNotIn("www-authenticate", reply.headers)
                self.assertNotIn("age", reply.headers)
            stories.append(self.story())
        self.assertEqual(stories[1], [])
        return stories[0]

    async def test_docker_hub(self) -> None:
        """One GET of the manifest, one token, one blob; the limits it tells are gauges; no HEAD is spent."""
        hub, _, image = await docker_hub(self)
        hub.fault("/v2/*/manifests/*", Fault(headers=(*STALE, ("ratelimit-remaining", "20;w=21600"))))
        nora = await self.daemon("https://registry-1.docker.io")
        self.assertEqual(
            await self.whole_pull(nora, "library/thing", "docker.io", image),
            [
                "GET registry-1.docker.io/v2/library/thing/manifests/1",
                "GET auth.docker.io/token for repository:library/thing:pull",
                "GET registry-1.docker.io/v2/library/thing/manifests/1 *",
                f"GET registry-1.docker.io/v2/library/thing/blobs/{DIGEST} *",
                "GET production.cloudflare.docker.com"
                f"/registry-v2/docker/registry/v2/blobs/sha256/{DIGEST.hex}/data",
            ],
        )
        metrics = (await self.fetched(nora, "/metrics")).body.decode()
        self.assertRegex(metrics, r'(?m)^nora_\w+\{upstream="registry-1.docker.io"\} 20\.0$')

    async def test_docker_hub_private(self) -> None:
        """What is private or missing there is 404 here, with the reason, and no challenge of another's."""
        hub, _, _ = await docker_hub(self)
        hub.private = {"library/secret"}
        nora = await self.daemon("https://registry-1.docker.io")
        for path in ("manifests/1", f"blobs/{DIGEST}"):
            reply = await self.refusal(nora, f"/v2/library/secret/{path}")
            self.assertEqual(reply.status, 404)
            self.assertNotIn("www-authenticate", reply.headers)
            self.assertIn("denied", json.dumps(reply.error()["detail"]))

    async def test_docker_hub_over_the_limit(self) -> None:
        """429 and the time to wait reach the client; a tag that is here is served though it cannot be fetched anew."""
        hub, _, image = await docker_hub(self)
        nora = await self.daemon("https://registry-1.docker.io", metadata_ttl=0)
        await self.fetched(nora, "/v2/library/thing/manifests/1")
        headers = (("Retry-After", "60"), ("ratelimit-remaining", "0;w=21600"))
        hub.fault("/v2/*/manifests/*", Fault(status=429, headers=headers, method="GET"))
        reply = await self.refusal(nora, "/v2/team/app/manifests/1")
        self.assertEqual((reply.status, reply.headers["retry-after"]), (429, "60"))
        self.assertEqual((await self.fetched(nora, "/v2/library/thing/manifests/1")).body, image.manifest)
        self.assertEqual((await self.fetched(nora, f"/v2/library/thing/blobs/{DIGEST}")).body, LAYER)

    async def test_broken_storage(self) -> None:
        """When the storage refuses its own signed URL, the client hears 502, and nothing of the URL."""
        await docker_hub(self)
        storage = self.server("production.cloudflare.docker.com")
        storage.fault("*", Fault(status=403))
        nora = await self.daemon("https://registry-1.docker.io")
        reply = await self.refusal(nora, f"/v2/library/thing/blobs/{DIGEST}")
        self.assertEqual(reply.status, 502)
        self.errors.append((await nora.ask("GET", "/health")).body.decode())

    async def test_ghcr(self) -> None:
        """The placeholder is not asked for; a denial by the token service is 404."""
        _, image = await ghcr(self)
        nora = await self.daemon("https://ghcr.io")
        self.assertEqual(
            await self.whole_pull(nora, "team/app", "ghcr.io", image),
            [
                "GET ghcr.io/v2/team/app/manifests/1",
                "GET ghcr.io/token for repository:team/app:pull",
                "GET ghcr.io/v2/team/app/manifests/1 *",
                f"GET ghcr.io/v2/team/app/blobs/{DIGEST} *",
                f"GET pkg-containers.githubusercontent.com/ghcr1/blobs/{DIGEST}",
            ],
        )
        self.assertEqual((await self.refusal(nora, "/v2/team/secret/manifests/1")).status, 404)

    async def test_ecr_public(self) -> None:
        """One token for all repositories."""
        _, image = await ecr_public(self)
        nora = await self.daemon("https://public.ecr.aws")
        self.assertEqual(
            await self.whole_pull(nora, "docker/library/app", "public.ecr.aws", image),
            [
                "GET public.ecr.aws/v2/docker/library/app/manifests/1",
                "GET public.ecr.aws/token/ for aws",
                "GET public.ecr.aws/v2/docker/library/app/manifests/1 *",
                f"GET public.ecr.aws/v2/docker/library/app/blobs/{DIGEST} *",
                f"GET d2glxqk2uabbnd.cloudfront.net/docker/{DIGEST.hex}",
            ],
        )
        # The layer is here already: this repository's right to it costs a HEAD.
        await self.whole_second(nora, image)

    async def whole_second(self, nora: RawClient, image: Image) -> None:
        manifest = await self.fetched(nora, "/v2/team/other/manifests/1?ns=public.ecr.aws")
        self.assertEqual(manifest.body, image.manifest)
        layer = await self.fetched(nora, f"/v2/team/other/blobs/{DIGEST}?ns=public.ecr.aws")
        self.assertEqual(layer.body, LAYER)
        self.assert_story(
            "GET public.ecr.aws/v2/team/other/manifests/1 *",
            f"HEAD public.ecr.aws/v2/team/other/blobs/{DIGEST} *",
            f"HEAD d2glxqk2uabbnd.cloudfront.net/docker/{DIGEST.hex}",
        )

    async def test_kubernetes(self) -> None:
        """The second registry's name and token are its own; what comes is the first's repository."""
        _, behind, _, image = await kubernetes(self)
        nora = await self.daemon("https://registry.k8s.io")
        story = await self.whole_pull(nora, "pause", "registry.k8s.io", image)
        inside = "us-west1-docker.pkg.dev/v2/k8s-artifacts-prod/images/pause/manifests/1"
        self.assertEqual(
            story,
            [
                "GET registry.k8s.io/v2/pause/manifests/1",
                f"GET {inside}",
                "GET us-west1-docker.pkg.dev/v2/token for repository:k8s-artifacts-prod/images/pause:pull",
                "GET registry.k8s.io/v2/pause/manifests/1",
                f"GET {inside} *",
                f"GET registry.k8s.io/v2/pause/blobs/{DIGEST}",
                "GET prod-registry-k8s-io-us-west-1.s3.dualstack.us-west-1.amazonaws.com"
                f"/containers/images/{DIGEST}",
            ],
        )
        self.assertEqual((await self.refusal(nora, "/v2/pause/manifests/none")).status, 404)
        behind.private = {"k8s-artifacts-prod/images/etcd"}
        self.assertEqual((await self.refusal(nora, "/v2/etcd/manifests/1")).status, 404)

    def server(self, name: str) -> FakeUpstream:
        """Give a host that was started."""
        return self.internet.hosts[name]
