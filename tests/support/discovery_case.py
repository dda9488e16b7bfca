"""Lists before two upstreams, for a test."""

from __future__ import annotations

import os

from twisted.internet.defer import Deferred

from nora.access import ANONYMOUS
from nora.oci import Digest, Repository
from nora.oci.listing import TagPage
from nora.oci.manifest import OCI_MANIFEST
from nora.pull.interfaces import Served
from nora.upstream.interfaces import Route
from tests.support.fake_upstream import make_image
from tests.support.pulling import NAME
from tests.support.tag_case import LATEST, TwoUpstreamsTestCase

HUB = Repository("docker.io", NAME)
IMAGE = make_image([b"layer"])
ENTRY: dict[str, object] = {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(b"sig")), "size": 3}


class DiscoveryTestCase(TwoUpstreamsTestCase):
    """A store and two upstreams of different namespaces."""

    def setUp(self) -> None:
        super().setUp()
        self.hub.tag_lists[NAME] = ["2", "10", "1"]
        self.subject = self.hub.add_manifest(NAME, IMAGE.manifest, OCI_MANIFEST, LATEST).digest

    def listing(
        self, route: Route | None = None, last: bytes = b"", limit: int = 9
    ) -> Deferred[Served[TagPage]]:
        work = self.here.discovery.tags(route or self.route, last, limit, ANONYMOUS)
        return Deferred.fromCoroutine(work)

    def tags(self, route: Route | None = None) -> Served[TagPage]:
        return self.successResultOf(self.listing(route))

    def referring(
        self, route: Route | None = None, digest: Digest | None = None, kind: str | None = None
    ) -> Deferred[Served[bytes]]:
        work = self.here.discovery.referrers(route or self.route, digest or self.subject, kind, ANONYMOUS)
        return Deferred.fromCoroutine(work)

    def referrers(self, route: Route | None = None) -> Served[bytes]:
        return self.successResultOf(self.referring(route))

    def pull(self) -> None:
        """Have the subject in the store."""
        self.successResultOf(
            Deferred.fromCoroutine(self.here.pull.manifest(self.route, self.subject, ANONYMOUS))
        )

    def files(self) -> list[str]:
        """Tell the lists that the store has."""
        folder = f"{self.root}/repositories"
        return [name for path, _, names in os.walk(folder) for name in names if "/_lists" in path]
