"""Freshness: times by pattern, copies that are too old, tags that are forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Descriptor, Digest, Repository
from nora.oci.errors import Limited, ManifestUnknown, NoraError, NoSpace, TimedOut, Unavailable
from nora.oci.manifest import OCI_MANIFEST
from nora.pull.freshness import Forgotten, Freshness, Rule
from nora.pull.interfaces import Cached
from nora.storage.interfaces import TagRecord
from nora.upstream.outcomes import Absent, Attempt, conclude, outcomes_of
from tests.support.pulling import NAME, qualified
from tests.support.scripted import ScriptedUpstream
from tests.support.tag_case import LATEST, ONE, TagTestCase

HUB = Repository("docker.io", NAME)


class RuleTests(SynchronousTestCase):
    """Which time a tag has."""

    def ttl(self, repository: Repository, tag: str, *rules: tuple[str, float]) -> float:
        return Freshness(300, 2, rules=tuple(Rule(*rule) for rule in rules)).ttl(repository, tag)

    def test_first_match(self) -> None:
        """The first rule that matches counts; without one it is `metadata_ttl`."""
        rules = (("*:latest", 60.0), ("ghcr.io/*", 0.0), ("*", float("inf")))
        app = Repository("ghcr.io", "team/app")
        self.assertEqual(self.ttl(app, "latest", *rules), 60)
        self.assertEqual(self.ttl(app, "1", *rules), 0)
        self.assertEqual(self.ttl(HUB, "1", *rules), float("inf"))
        self.assertEqual(self.ttl(HUB, "1", *rules[:2]), 300)

    def test_names(self) -> None:
        """A pattern means a repository with its registry or without, Docker Hub's own without `library/` too."""
        for pattern in (
            "docker.io/library/thing:1",
            "library/thing:1",
            "docker.io/thing:1",
            "thing:1",
            "th?ng:*",
        ):
            self.assertEqual(self.ttl(HUB, "1", (pattern, 7)), 7, pattern)
        for pattern in ("thing", "hing:1", "Thing:1", "thing:1*0", "ghcr.io/library/thing:1", "*:LATEST"):
            self.assertEqual(self.ttl(HUB, "1", (pattern, 7)), 300, pattern)
        elsewhere = Repository("ghcr.io", "library/thing")
        self.assertEqual(self.ttl(elsewhere, "1", ("thing:1", 7)), 300)
        self.assertEqual(self.ttl(elsewhere, "1", ("library/thing:1", 7)), 7)

    @given(
        st.text("ab*?.:/", max_size=20), st.text("ab/", min_size=1, max_size=10), st.text("ab.", max_size=5)
    )
    def test_stars(self, pattern: str, name: str, tag: str) -> None:
        """A star more never matches less, and a text matches itself."""
        repository = Repository("ghcr.io", name)
        exact = f"ghcr.io/{name}:{tag}"
        self.assertEqual(self.ttl(repository, tag, (exact, 7)), 7)
        if self.ttl(repository, tag, (pattern, 7)) == 7:
            self.assertEqual(self.ttl(repository, tag, (f"*{pattern}*", 7)), 7)

    def test_outcomes(self) -> None:
        """Only definite outcomes that are all among those to forget on are."""
        absent, denied = Attempt("a", Absent("no")), Attempt("b", Absent("secret", denied=True))
        down = Attempt("c", Unavailable("dead"))
        both = conclude([absent, denied], ManifestUnknown)
        assert isinstance(both, ManifestUnknown)
        self.assertEqual(outcomes_of(both), {"absent", "denied"})
        for forgets, forgotten in (({"absent"}, False), ({"denied"}, False), ({"absent", "denied"}, True)):
            self.assertEqual(Freshness(0, 2, forgets=frozenset(forgets)).is_forgotten(both), forgotten)
        self.assertFalse(Freshness(0, 2, forgets=frozenset({"absent"})).is_forgotten(ManifestUnknown("?")))
        self.assertNotIsInstance(conclude([absent, down], ManifestUnknown), ManifestUnknown)

    def test_bearable(self) -> None:
        """The time past its time counts, by the tag's own time."""
        record = TagRecord(Descriptor(OCI_MANIFEST, Digest.of(b""), 0), "hub", 1000.0)
        freshness = Freshness(300, 2, rules=(Rule("*:1", 10),), max_stale=60)
        self.assertTrue(freshness.is_bearable(HUB, "1", record, 1070))
        self.assertFalse(freshness.is_bearable(HUB, "1", record, 1071))
        self.assertTrue(freshness.is_bearable(HUB, "2", record, 1360))
        self.assertTrue(Freshness(0, 2).is_bearable(HUB, "1", record, 1e12))
        self.assertTrue(Freshness(float("inf"), 2, max_stale=0).is_bearable(HUB, "1", record, 0))


class PatternTests(TagTestCase):
    """Times by pattern, in the pulling."""

    def test_by_pattern(self) -> None:
        """A tag that a rule matches is asked for by its time, the others by theirs."""
        self.start(rules=(Rule("*:latest", 60),))
        self.get(LATEST)
        self.get(ONE)
        self.here.clock.advance(61)
        self.get(ONE)
        self.assertEqual(self.kinds(), ["manifest", "manifest"])
        self.get(LATEST)
        self.assertEqual(self.hub.asked[2:], [("head", NAME, LATEST, 0)])


class MaxStaleTests(TagTestCase):
    """How long a copy that nobody confirmed is served."""

    def test_too_old(self) -> None:
        """Within `max_stale` past its time it is served stale; then the client hears what the upstream's outcome is."""
        self.start(max_stale=100.0)
        self.get()
        errors: tuple[NoraError, ...] = (Unavailable("dead"), TimedOut("slow"), Limited("429", 7))
        self.here.clock.advance(399)
        for error in errors:
            self.hub.error = error
            self.assertEqual(self.get().cached, Cached.STALE)
        self.here.clock.advance(2)
        for error in errors:
            self.hub.error = error
            for asking in (self.getting(), self.heading()):
                failure = self.failureResultOf(asking, type(error))
                self.assertEqual(failure.value.detail[0]["reason"], error.message)
        self.hub.error = None
        self.assertEqual(self.get().cached, Cached.HIT)

    def test_deleted(self) -> None:
        """A deleted tag whose copy is too old is unknown; the copy is not forgotten."""
        self.start(max_stale=0.0)
        self.get()
        del self.hub.manifests[NAME, LATEST]
        self.here.clock.advance(301)
        self.failureResultOf(self.getting(), ManifestUnknown)
        self.hub.manifests[NAME, LATEST] = self.old
        self.assertEqual(self.get().cached, Cached.HIT)
        self.assertEqual(self.kinds(), ["manifest", "head", "head"])

    def test_waits_for_the_answer(self) -> None:
        """With nothing to turn to, a client waits for the upstream past `revalidate_timeout`."""
        self.start(max_stale=0.0)
        self.get()
        self.here.clock.advance(301)
        self.hub.hung = Deferred()
        getting = self.getting()
        self.here.clock.advance(10)
        self.assertNoResult(getting)
        self.hub.hung.callback(None)
        self.assertEqual(self.successResultOf(getting).cached, Cached.HIT)

    def test_full_disk(self) -> None:
        """A tag that moved, on a disk that does not take the new manifest: the new one is served, not stored."""
        self.start(max_stale=0.0)
        self.get()
        new = self.move()

        async def add(data: bytes, digest: Digest) -> None:
            raise NoSpace("full")

        self.patch(self.here.blobs, "add", add)
        self.here.clock.advance(301)
        served = self.get()
        self.assertEqual((served.cached, served.content.body), (Cached.BYPASS, new.body))
        self.here.clock.advance(301)
        self.assertEqual(self.head().content.descriptor, new.descriptor)


class ForgetTests(TagTestCase):
    """What becomes of a tag that its upstream surely has no more."""

    def record(self) -> TagRecord | None:
        return self.successResultOf(Deferred.fromCoroutine(self.here.repositories.tag(HUB, LATEST.name)))

    def test_deleted(self) -> None:
        """With `forget`, the record goes and the client hears 404; the manifest stays for its digest and other tags."""
        self.start(forgets=frozenset({"absent"}))
        self.get()
        self.get(ONE)
        del self.hub.manifests[NAME, LATEST]
        self.here.clock.advance(301)
        failure = self.failureResultOf(self.getting(), Forgotten)
        self.assertEqual(failure.value.detail[0]["outcome"], "absent")
        self.assertIsNone(self.record())
        self.failureResultOf(self.heading(), ManifestUnknown)
        self.hub.error = Unavailable("dead")
        self.failureResultOf(self.getting(), Unavailable)
        self.assertEqual(self.get(self.old.digest).cached, Cached.HIT)
        self.assertEqual(self.get(ONE).cached, Cached.STALE)

    def test_denied(self) -> None:
        """Denied and deleted are apart: each is forgotten on only where it is told so."""
        for forgets, forgotten in (("absent", False), ("denied", True)):
            self.hub.error = None
            self.start(forgets=frozenset({forgets}))
            self.get()
            self.here.clock.advance(301)
            self.hub.error = Absent("it answered 401", denied=True)
            if forgotten:
                self.failureResultOf(self.heading(), Forgotten)
            else:
                self.assertEqual(self.get().cached, Cached.STALE)
            self.assertEqual(self.record() is None, forgotten)

    def test_not_definite(self) -> None:
        """Whatever else the upstream answers keeps the tag, and so does one of several that could not."""
        mirror = ScriptedUpstream("mirror", "docker.io")
        self.route = qualified([self.hub, mirror])
        self.start(forgets=frozenset({"absent", "denied"}))
        self.get()
        for one, other in ((Absent("no"), Unavailable("dead")), (Limited("429", 7), Absent("no"))):
            self.hub.error, mirror.error = one, other
            self.here.clock.advance(301)
            self.assertEqual(self.get().cached, Cached.STALE)
        self.hub.error, mirror.error = Absent("no"), Absent("secret", denied=True)
        self.failureResultOf(self.getting(), Forgotten)

    def test_moved_to_nothing(self) -> None:
        """A tag that is still there but points at what is not keeps its copy."""
        self.start(forgets=frozenset({"absent", "denied"}))
        self.get()
        new = self.move()
        del self.hub.manifests[NAME, new.digest]
        self.here.clock.advance(301)
        self.assertEqual(self.get().cached, Cached.STALE)
        self.assertIsNotNone(self.record())

    def test_pointer(self) -> None:
        """A tag from further down loses its pointer too, so that the chain begins at the owner again."""
        self.start(forgets=frozenset({"absent"}))
        self.get(ONE, self.chain)
        del self.hub.manifests[NAME, LATEST]
        self.move(self.ghcr)
        self.get(LATEST, self.chain)
        pointer = self.here.repositories.tag_upstream
        self.assertIsNotNone(self.successResultOf(Deferred.fromCoroutine(pointer(NAME, LATEST.name))))
        self.here.clock.advance(301)
        del self.ghcr.manifests[NAME, LATEST]
        self.failureResultOf(self.getting(LATEST, self.chain), Forgotten)
        self.assertIsNone(self.successResultOf(Deferred.fromCoroutine(pointer(NAME, LATEST.name))))

    def test_disk_that_forgets_nothing(self) -> None:
        """A record that cannot be removed costs the next client a question, not this one its answer."""
        self.start(forgets=frozenset({"absent"}))
        self.get()
        del self.hub.manifests[NAME, LATEST]
        self.here.clock.advance(301)

        async def remove_tag(repository: Repository, tag: str) -> bool:
            raise OSError("read-only")

        self.patch(self.here.repositories, "remove_tag", remove_tag)
        self.failureResultOf(self.getting(), Forgotten)
        self.assertIsNotNone(self.record())
