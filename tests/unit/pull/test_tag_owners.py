"""Which upstream a tag without a namespace comes from, and what remembers it."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from nora.oci import Digest, Repository, Tag
from nora.oci.errors import (
    Limited,
    ManifestUnknown,
    Unavailable,
)
from nora.oci.manifest import OCI_MANIFEST
from nora.pull.interfaces import Answer, Cached, Served
from nora.upstream.interfaces import Candidate, Route
from tests.support.pulling import NAME, unqualified
from tests.support.scripted import ScriptedUpstream
from tests.support.tag_case import LATEST, TagTestCase, manifest_body


class OwnerTests(TagTestCase):
    """Which upstream an unqualified name belongs to."""

    def ask(self, tag: Tag = LATEST) -> Served[Answer]:
        return self.get(tag, self.chain)

    def test_first_that_has_it(self) -> None:
        """The first upstream that has the image owns it; the others are not asked."""
        self.ghcr.add_manifest(NAME, manifest_body("impostor"), OCI_MANIFEST, LATEST)
        self.assertEqual(self.ask().content.body, self.old.body)
        owner = self.owner()
        assert owner is not None
        self.assertEqual((owner.upstream, owner.namespace, owner.provisional), ("hub", "docker.io", False))
        self.assertEqual(self.ghcr.asked, [])

    def test_further_down(self) -> None:
        """An image that the first definitely has not belongs to the next; its digests are asked there first."""
        self.hub.manifests.clear()
        new = self.move(self.ghcr)
        self.assertEqual(self.ask().upstream, "github")
        self.assertEqual(self.ask().cached, Cached.HIT)
        self.here.clock.advance(301)
        self.assertEqual(self.ask().cached, Cached.HIT)
        self.assertEqual((self.kinds(), self.kinds(self.ghcr)), (["manifest"], ["manifest", "head"]))
        self.assertEqual(self.get(new.digest, self.chain).cached, Cached.HIT)
        self.failureResultOf(self.getting(Digest.of(b"x"), self.chain), ManifestUnknown)
        self.assertEqual(self.kinds(self.ghcr)[-1], "manifest")

    def test_hosted_meanwhile(self) -> None:
        """A name that is pushed to while its owner is looked for gets no owner any more: it is one or the other."""
        hung: Deferred[None] = Deferred()
        self.hub.hung = hung
        pulling = self.getting(LATEST, self.chain)
        self.assertNoResult(pulling)
        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(self.process().names.mark(NAME))))
        hung.callback(None)
        self.assertEqual(self.successResultOf(pulling).upstream, "hub")
        self.assertIsNone(self.owner())

    def test_provisional(self) -> None:
        """While the first cannot answer, the next's image is served, provisionally; then the first has its own."""
        new = self.move(self.ghcr)
        self.hub.error = Unavailable("dead")
        self.assertEqual(self.ask().content.body, new.body)
        owner = self.owner()
        assert owner is not None
        self.assertTrue(owner.provisional)
        self.assertEqual(self.here.counts.seen["provisional"], 1)
        self.assertEqual(self.here.owners.provisional, 1)
        self.here.clock.advance(301)
        self.assertEqual(self.ask().cached, Cached.HIT)
        self.hub.error = None
        self.here.clock.advance(301)
        self.assertEqual(self.ask().content.body, self.old.body)
        owner = self.owner()
        assert owner is not None
        self.assertEqual((owner.namespace, owner.provisional), ("docker.io", False))
        self.assertEqual(self.here.owners.provisional, 0)

    def test_provisional_becomes_sure(self) -> None:
        """Where the first then answers a definite no, the next stays the owner, surely."""
        self.hub.manifests.clear()
        self.move(self.ghcr)
        self.hub.error = Limited("429", 7)
        self.ask()
        self.hub.error = None
        self.here.clock.advance(301)
        self.ask()
        owner = self.owner()
        assert owner is not None
        self.assertEqual((owner.namespace, owner.provisional), ("ghcr.io", False))

    def test_stale_before_anothers_image(self) -> None:
        """A dead owner's cached image comes before another upstream's image of the same name."""
        self.ask()
        self.move(self.ghcr)
        self.hub.error = Unavailable("dead")
        self.here.clock.advance(301)
        served = self.ask()
        self.assertEqual((served.cached, served.content.body), (Cached.STALE, self.old.body))
        self.assertEqual(self.ghcr.asked, [])

    def test_tag_that_the_owner_lacks(self) -> None:
        """By default it comes from further down, is fresh like any other, and the owner is asked first again later."""
        self.ask()
        other = Tag("other")
        theirs = self.ghcr.add_manifest(NAME, manifest_body("theirs"), OCI_MANIFEST, other)
        self.assertEqual(self.ask(other).content.body, theirs.body)
        self.assertEqual(self.ask(other).cached, Cached.HIT)
        self.assertEqual((self.kinds(), self.kinds(self.ghcr)), (["manifest", "manifest"], ["manifest"]))
        mine = self.hub.add_manifest(NAME, manifest_body("mine"), OCI_MANIFEST, other)
        self.here.clock.advance(301)
        self.assertEqual(self.ask(other).content.body, mine.body)
        self.assertEqual(self.ask(other).content.body, mine.body)
        owner = self.owner()
        assert owner is not None
        self.assertEqual(owner.namespace, "docker.io")

    def test_fallback_by_repository(self) -> None:
        """With `repository`, a tag that the owner lacks is unknown."""
        self.here = self.process(fallback="repository")
        self.ask()
        self.ghcr.add_manifest(NAME, manifest_body("theirs"), OCI_MANIFEST, Tag("other"))
        self.failureResultOf(self.getting(Tag("other"), self.chain), ManifestUnknown)

    def test_cached_under_the_namespace(self) -> None:
        """What was pulled by the first upstream's namespace is a hit without it."""
        self.get()
        self.hub.error = Unavailable("dead")
        self.assertEqual(self.ask().cached, Cached.HIT)

    def test_owner_no_longer_configured(self) -> None:
        """An owner that is not configured any more counts for nothing."""
        self.ask()
        new = self.move(self.ghcr)
        self.chain = unqualified([self.ghcr])
        self.assertEqual(self.ask().content.body, new.body)

    def test_mirrors_of_one_namespace(self) -> None:
        """Two upstreams of one namespace share a repository: the second serves when the first is dead."""
        mirror = ScriptedUpstream("mirror", "docker.io")
        mirror.manifests.update(self.hub.manifests)
        repository = Repository("docker.io", NAME)
        route = Route(NAME, (Candidate(repository, self.hub), Candidate(repository, mirror)), True)
        self.get(LATEST, route)
        self.hub.error = Unavailable("dead")
        self.here.clock.advance(301)
        self.assertEqual(self.get(LATEST, route).cached, Cached.HIT)
        self.assertEqual(self.kinds(mirror), ["head"])
