"""A refresh: a cached tag is asked for now, by who administers it, however fresh it is."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from nora.oci import Descriptor, Tag
from nora.oci.errors import ManifestUnknown, Unavailable
from nora.pull.freshness import Forgotten
from nora.pull.interfaces import Cached, Served
from nora.storage.interfaces import TagRecord
from tests.support.tag_case import LATEST, TagTestCase


class RefreshTests(TagTestCase):
    """A tag that was pulled just now."""

    def setUp(self) -> None:
        """Pull it."""
        super().setUp()
        self.get()
        self.hub.asked.clear()

    def refreshing(self, tag: Tag = LATEST) -> Deferred[tuple[TagRecord, Served[Descriptor]]]:
        """Ask for a refresh."""
        return Deferred.fromCoroutine(self.here.pull.refresh(self.route, tag))

    def test_same(self) -> None:
        """It costs one HEAD, tells what was known, and the tag is fresh from now on."""
        self.here.clock.advance(200)
        before, served = self.successResultOf(self.refreshing())
        self.assertEqual(
            (before.descriptor.digest, served.content.digest), (self.old.digest, self.old.digest)
        )
        self.assertEqual((served.cached, served.upstream, self.kinds()), (Cached.HIT, "hub", ["head"]))
        self.here.clock.advance(200)
        self.assertEqual((self.get().cached, self.kinds()), (Cached.HIT, ["head"]))

    def test_moved(self) -> None:
        """What the tag names now is here, for the next pull by any process."""
        new = self.move()
        before, served = self.successResultOf(self.refreshing())
        self.assertEqual((before.descriptor.digest, served.content.digest), (self.old.digest, new.digest))
        self.assertEqual((served.cached, self.kinds()), (Cached.MISS, ["head", "manifest"]))
        self.here = self.process()
        self.assertEqual((self.get().cached, self.get().content.body), (Cached.HIT, new.body))

    def test_gone(self) -> None:
        """A tag that the upstream has no more stays, or is forgotten where the configuration says so."""
        self.hub.manifests.clear()
        self.failureResultOf(self.refreshing(), ManifestUnknown)
        self.assertEqual(self.get().cached, Cached.HIT)
        self.here = self.process(forgets=frozenset({"absent"}))
        self.failureResultOf(self.refreshing(), Forgotten)
        self.failureResultOf(self.getting(), ManifestUnknown)

    def test_unavailable(self) -> None:
        """An upstream that does not answer is said so, and the copy stays."""
        self.hub.error = Unavailable("dead")
        self.failureResultOf(self.refreshing(), Unavailable)
        self.assertEqual(self.get().cached, Cached.HIT)

    def test_not_cached(self) -> None:
        """What was never pulled is not refreshed, and nobody is asked."""
        self.failureResultOf(self.refreshing(Tag("never")), ManifestUnknown)
        self.assertEqual(self.kinds(), [])
