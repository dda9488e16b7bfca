"""Administration over a real store: purging all of a repository, the two words for a removal, and a refresh."""

from __future__ import annotations

import attrs

from nora.access import Action, Rights
from nora.access.rules import Rule, RuleSet
from nora.content.administration import StoreAdministration
from nora.content.interfaces import Done, Outcome
from nora.oci import Descriptor, Digest, Repository, Tag
from nora.oci.errors import Denied, ManifestUnknown, NameUnknown, NotAllowed, Unavailable
from nora.oci.listing import TagList
from nora.oci.manifest import OCI_MANIFEST
from nora.pull.freshness import Forgotten
from nora.pull.interfaces import Cached, Served
from nora.push.interfaces import Target
from nora.storage.interfaces import ListSource, TagRecord
from nora.storage.lists import DiskLists
from nora.upstream.interfaces import Route
from tests.support.hosting import APP, EVERYTHING
from tests.unit.content.test_hosted import HostedTestCase

HERE = Target(APP.name)
CACHED = Target("docker.io/thing/app")
PLACE, OTHER = Repository("docker.io", "thing/app"), Repository("docker.io", "thing/app/more")
OLD, NEW = (Descriptor(OCI_MANIFEST, Digest.of(body), len(body)) for body in (b"old", b"newer"))
ONE = Tag("1")


class FakeTags:
    """Upstreams that say what they are told to say."""

    def __init__(self) -> None:
        self.now, self.cached = OLD, Cached.HIT
        self.error: Exception | None = None
        self.asked: list[Route] = []

    async def refresh(self, route: Route, tag: Tag) -> tuple[TagRecord, Served[Descriptor]]:
        """Tell it."""
        self.asked.append(route)
        if self.error is not None:
            raise self.error
        return TagRecord(OLD, "hub", 1.0), Served(self.now, PLACE, self.cached, "hub")


class AdministrationTests(HostedTestCase):
    """A store with a hosted image, and cached repositories one within the other."""

    def setUp(self) -> None:
        super().setUp()
        self.tags = FakeTags()
        self.lists = DiskLists(self.here.layout, self.here.disk)
        self.administration = StoreAdministration(self.there.routing, self.there.removal, self.tags)
        self.image = self.now(self.here.put_image("1"))
        for place in (PLACE, OTHER):
            for found in (OLD, NEW):
                self.now(self.here.repositories.link_manifest(place, found))
                self.now(self.here.repositories.link_blob(place, found.digest, found.size))
            self.now(self.here.repositories.put_tag(place, "1", TagRecord(OLD, "hub", 1.0)))
            self.now(self.here.repositories.put_tag(place, "2", TagRecord(NEW, "hub", 1.0)))
            self.now(self.lists.put_tags(place, TagList.of(["1"]), ListSource("hub", 1.0)))
            self.now(self.lists.put_referrers(place, OLD.digest, b"{}", ListSource("hub", 1.0)))

    def cached(self, place: Repository) -> list[bool]:
        """Tell of everything that was cached whether it is there."""
        read = self.here.repositories
        return [
            self.now(work) is not None
            for work in (
                *(read.tag(place, tag) for tag in ("1", "2")),
                *(read.manifest(place, found.digest) for found in (OLD, NEW)),
                *(read.blob(place, found.digest) for found in (OLD, NEW)),
                self.lists.tags(place, b"", 1),
                self.lists.referrers(place, OLD.digest),
            )
        ]

    def test_everything(self) -> None:
        """All that is cached of a repository goes, from the index too, and nothing of another one; once."""
        self.assertEqual(self.cached(PLACE), [True] * 8)
        done = self.now(self.administration.purge(CACHED, None, EVERYTHING))
        self.assertEqual(done, Done(Outcome.PURGED))
        self.assertEqual(self.cached(PLACE), [False] * 8)
        self.assertEqual(self.cached(OTHER), [True] * 8)
        self.assertNotIn(PLACE, self.now(self.there.index.holders(OLD.digest, 9)))
        self.assertNotIn(PLACE, self.now(self.there.index.repositories("", 9)))
        self.fails(self.administration.purge(CACHED, None, EVERYTHING), NameUnknown)

    def test_broken_disk(self) -> None:
        """What cannot be removed is an error, not a purge; what is left goes with the next one."""

        async def broken(*_: object) -> bool:
            raise OSError("broken")

        patch = self.patch(self.there.repositories, "unlink_blob", broken)
        self.fails(self.administration.purge(CACHED, None, EVERYTHING), OSError)
        patch.restore()
        self.now(self.administration.purge(CACHED, None, EVERYTHING))
        self.assertEqual(self.cached(PLACE), [False] * 8)

    def test_parts(self) -> None:
        """A tag alone; a manifest with its tags."""
        self.now(self.administration.purge(CACHED, ONE, EVERYTHING))
        self.assertEqual(self.cached(PLACE)[:4], [False, True, True, True])
        self.now(self.administration.purge(CACHED, NEW.digest, EVERYTHING))
        self.assertEqual(self.cached(PLACE)[:4], [False, False, True, False])
        self.fails(self.administration.purge(CACHED, ONE, EVERYTHING), ManifestUnknown)

    def test_delete(self) -> None:
        """A hosted tag goes for every process, and its image by its digest."""
        done = self.now(self.administration.delete(HERE, ONE, EVERYTHING))
        self.assertEqual(done, Done(Outcome.DELETED))
        self.fails(self.here.get("1"), ManifestUnknown)
        self.now(self.here.get(str(self.image)))
        self.now(self.administration.delete(HERE, self.image, EVERYTHING))
        self.fails(self.here.get(str(self.image)), ManifestUnknown)

    def test_wrong_word(self) -> None:
        """What is hosted is not purged, in part or as a whole, nor refreshed; what is cached is not deleted."""
        for reference in (None, ONE, self.image):
            self.fails(self.administration.purge(HERE, reference, EVERYTHING), Denied)
        self.fails(self.administration.refresh(HERE, ONE, EVERYTHING), Denied)
        self.fails(self.administration.delete(CACHED, ONE, EVERYTHING), Denied)
        self.fails(self.there.removal.everything(HERE, EVERYTHING), Denied)
        self.now(self.here.get("1"))
        self.assertEqual(self.cached(PLACE), [True] * 8)

    def test_standing(self) -> None:
        """A name stands for what the rules let the client administer of it."""
        self.assertEqual(self.administration.standing(HERE, EVERYTHING).places, (APP,))
        self.assertTrue(self.administration.standing(HERE, EVERYTHING).hosted)
        cached = self.administration.standing(CACHED, EVERYTHING)
        self.assertEqual((cached.hosted, cached.places), (False, (PLACE,)))
        self.fails(self.administration.purge(Target("quay.io/x"), None, EVERYTHING), NameUnknown)

    def test_refused(self) -> None:
        """Who may only delete what is hosted does not purge; who may not delete, or by a token, does nothing."""
        rules = RuleSet([Rule("carol", "team/*", [Action.DELETE]), Rule("carol", "*", [Action.PULL])])
        deleter = Rights("carol", frozenset(Action), rules)
        self.now(self.administration.delete(HERE, ONE, deleter))
        for rights in (
            deleter,
            Rights("carol", frozenset(Action) - {Action.ADMIN}),
            Rights("carol", frozenset(Action) - {Action.DELETE}),
            attrs.evolve(EVERYTHING, scopes=frozenset({(CACHED.name, Action.PULL)})),
        ):
            self.fails(self.administration.purge(CACHED, None, rights), NotAllowed)
            self.fails(self.administration.refresh(CACHED, ONE, rights), NotAllowed)
        self.fails(
            self.administration.delete(HERE, self.image, Rights("dave", frozenset({Action.PULL}))), NotAllowed
        )
        self.assertEqual((self.cached(PLACE), self.tags.asked), ([True] * 8, []))

    def test_refresh(self) -> None:
        """It tells whether the tag moved, what it was and is, and who says so."""
        for now, cached, outcome in (
            (OLD, Cached.HIT, Outcome.UNCHANGED),
            (NEW, Cached.MISS, Outcome.MOVED),
            (OLD, Cached.QUOTA, Outcome.SPARED),
        ):
            self.tags.now, self.tags.cached = now, cached
            done = self.now(self.administration.refresh(CACHED, ONE, EVERYTHING))
            self.assertEqual(done, Done(outcome, OLD.digest, now.digest, "hub"))
        self.tags.error = Forgotten("gone")
        self.assertEqual(
            self.now(self.administration.refresh(CACHED, ONE, EVERYTHING)), Done(Outcome.FORGOTTEN)
        )
        self.tags.error = Unavailable("no upstream answers")
        self.fails(self.administration.refresh(CACHED, ONE, EVERYTHING), Unavailable)

    def test_refresh_within_rules(self) -> None:
        """Of a name's candidates only those that the client administers are asked."""
        rules = RuleSet([Rule("carol", "docker.io/*", [Action.ADMIN])])
        self.now(
            self.administration.refresh(Target("thing/app"), ONE, Rights("carol", frozenset(Action), rules))
        )
        (route,) = self.tags.asked
        self.assertEqual([each.repository for each in route.candidates], [PLACE])
