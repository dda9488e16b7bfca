"""Nothing asked of upstreams: while the quota is low, and offline."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred

from nora.access import ANONYMOUS
from nora.oci import Digest, Repository, Tag
from nora.oci.errors import BlobUnknown, ManifestUnknown
from nora.oci.manifest import OCI_MANIFEST
from nora.pull.interfaces import Cached, Content, Served
from nora.upstream.offline import Offline
from tests.support.pulling import NAME
from tests.support.tag_case import LATEST, ONE, TagTestCase, manifest_body

HUB = Repository("docker.io", NAME)


class QuotaTests(TagTestCase):
    """When few pulls are left at the upstream."""

    def test_moved(self) -> None:
        """A tag that moved is served as it is stored, and that is said; each question is one HEAD, and no GET."""
        self.start(quota_reserve=10)
        self.get()
        new = self.move()
        self.hub.left = 10
        for _ in range(2):
            self.here.clock.advance(301)
            served = self.get()
            self.assertEqual((served.cached, served.content.body), (Cached.QUOTA, self.old.body))
            head = self.head()
            self.assertEqual((head.cached, head.content.descriptor), (Cached.QUOTA, self.old.descriptor))
        self.assertEqual(self.kinds(), ["manifest"] + ["head"] * 4)
        self.assertEqual(self.here.counts.seen, {"spared": 4})
        self.hub.left = 11
        self.assertEqual(self.get().content.body, new.body)
        self.assertEqual(self.get().cached, Cached.HIT)

    def test_unmoved(self) -> None:
        """A tag that did not move is confirmed by its HEAD, as ever."""
        self.start(quota_reserve=10)
        self.get()
        self.hub.left = 0
        self.here.clock.advance(301)
        self.assertEqual((self.get().cached, self.get().cached), (Cached.HIT, Cached.HIT))
        self.assertEqual(self.kinds(), ["manifest", "head"])

    def test_not_stored(self) -> None:
        """What is not stored is pulled, for as long as the upstream gives it."""
        self.start(quota_reserve=10)
        self.hub.left = 1
        self.assertEqual(self.get().cached, Cached.MISS)

    def test_off(self) -> None:
        """With 0, and where no limit is known, a tag that moved is pulled."""
        for reserve, left in ((0, 0), (10, None), (10, 11)):
            self.start(quota_reserve=reserve)
            self.hub.add_manifest(NAME, manifest_body(f"{reserve} {left}"), OCI_MANIFEST, LATEST)
            self.get()
            self.hub.add_manifest(NAME, manifest_body(f"{reserve} {left} new"), OCI_MANIFEST, LATEST)
            self.hub.left = left
            self.here.clock.advance(301)
            self.assertEqual(self.get().cached, Cached.MISS, (reserve, left))
            del self.hub.manifests[NAME, LATEST]
            self.root = self.mktemp()

    def test_too_old(self) -> None:
        """A copy that is older than `max_stale` bears is worth a pull."""
        self.start(quota_reserve=10, max_stale=100.0)
        self.get()
        new = self.move()
        self.hub.left = 1
        self.here.clock.advance(399)
        self.assertEqual(self.get().cached, Cached.QUOTA)
        self.here.clock.advance(2)
        self.assertEqual(self.get().content.body, new.body)

    def test_damaged_copy(self) -> None:
        """A copy whose bytes are gone is no copy."""
        self.start(quota_reserve=10)
        self.get()
        self.hub.left = 1
        self.successResultOf(Deferred.fromCoroutine(self.here.blobs.remove(self.old.digest)))
        self.here.clock.advance(301)
        self.assertEqual(self.get().cached, Cached.MISS)


class OfflineTests(TagTestCase):
    """Nobody is asked."""

    def setUp(self) -> None:
        super().setUp()
        self.blob = self.hub.add_blob(NAME, b"blob")
        self.start()
        self.get()
        self.successResultOf(self.blobbing(self.blob)).content.close()
        self.online = self.route

    def blobbing(self, digest: Digest) -> Deferred[Served[Content]]:
        return Deferred.fromCoroutine(self.here.pull.blob(self.route, digest, ANONYMOUS))

    def blob_heading(self, digest: Digest) -> Deferred[Served[int]]:
        return Deferred.fromCoroutine(self.here.pull.describe_blob(self.route, digest, ANONYMOUS))

    def go_offline(self) -> None:
        """Start anew on the same store, with a route through upstreams that are never asked."""
        clock = self.here.clock
        self.start(clock=clock, offline=True, max_stale=0.0)
        candidates = tuple(
            attrs.evolve(each, upstream=Offline(each.upstream.name, each.upstream.namespace))
            for each in self.online.candidates
        )
        self.route = attrs.evolve(self.online, candidates=candidates)
        self.hub.asked.clear()

    def test_stored(self) -> None:
        """Everything stored is a hit, tags of any age, from the future too, by GET and by HEAD."""
        self.go_offline()
        for _ in range(2):
            self.assertEqual((self.get().cached, self.head().cached), (Cached.HIT, Cached.HIT))
            self.assertEqual(self.get(self.old.digest).cached, Cached.HIT)
            self.assertEqual(self.head(self.old.digest).cached, Cached.HIT)
            served = self.successResultOf(self.blobbing(self.blob))
            self.assertEqual((served.cached, served.upstream), (Cached.HIT, "hub"))
            served.content.close()
            self.assertEqual(self.successResultOf(self.blob_heading(self.blob)).cached, Cached.HIT)
            self.here.clock.advance(1e9)
        self.here.clock.rightNow = -1e9
        self.assertEqual(self.get().cached, Cached.HIT)
        self.assertEqual(self.hub.asked, [])

    def test_not_stored(self) -> None:
        """What is not stored is unknown at once, and the client is told why; what only a HEAD told of is not stored."""
        headed = Tag("headed")
        self.hub.add_manifest(NAME, manifest_body("headed"), OCI_MANIFEST, headed)
        self.head(headed)
        self.go_offline()
        other = Digest.of(b"other")
        for reference in (ONE, headed, other):
            for asking in (self.getting(reference), self.heading(reference)):
                self.assertIn("offline", self.failureResultOf(asking, ManifestUnknown).value.message)
        self.assertIn("offline", self.failureResultOf(self.blobbing(other), BlobUnknown).value.message)
        self.failureResultOf(self.blob_heading(other), BlobUnknown)
        self.assertEqual(self.hub.asked, [])

    def test_listed_but_not_stored(self) -> None:
        """Nor is a blob here that a stored manifest lists, or that is stored for another repository alone."""
        self.go_offline()
        listed = Digest.of(b"{}")
        self.failureResultOf(self.blob_heading(listed), BlobUnknown)
        self.failureResultOf(self.blobbing(listed), BlobUnknown)
        candidates = tuple(
            attrs.evolve(each, repository=Repository("docker.io", "other")) for each in self.route.candidates
        )
        self.route = attrs.evolve(self.route, candidates=candidates)
        self.failureResultOf(self.blobbing(self.blob), BlobUnknown)
        self.assertEqual(self.hub.asked, [])

    def test_unqualified(self) -> None:
        """An unqualified name goes on to mean what it was resolved to."""
        self.start()
        self.get(ONE, self.chain)
        self.online = self.chain
        self.go_offline()
        self.assertEqual(self.get(ONE).cached, Cached.HIT)
        self.assertEqual((self.hub.asked, self.ghcr.asked), ([], []))
