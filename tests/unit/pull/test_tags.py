"""Tags: freshness, staleness and fallbacks."""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred

from nora.access import ANONYMOUS, Rights
from nora.oci import Digest, Repository, Tag
from nora.oci.errors import (
    Denied,
    Limited,
    ManifestUnknown,
    NoSpace,
    TimedOut,
    Unavailable,
    Unverified,
)
from nora.oci.manifest import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from nora.pull.interfaces import Cached
from nora.upstream.interfaces import Route
from tests.support.pulling import NAME, qualified
from tests.support.tag_case import LATEST, TagTestCase, manifest_body


class FreshnessTests(TagTestCase):
    """How long a tag is believed, and what happens then."""

    def test_fresh_is_not_asked_for(self) -> None:
        """Within its time a tag costs the upstream nothing; its bytes are those that the upstream sent."""
        first, second = self.get(), self.get()
        self.assertEqual((first.cached, second.cached), (Cached.MISS, Cached.HIT))
        self.assertEqual((first.content.body, second.content.body), (self.old.body, self.old.body))
        self.assertEqual(second.content.descriptor, self.old.descriptor)
        self.assertEqual(self.kinds(), ["manifest"])

    def test_unmoved(self) -> None:
        """Past its time one HEAD confirms it, and it is fresh again."""
        self.get()
        self.here.clock.advance(301)
        self.assertEqual(self.get().cached, Cached.HIT)
        self.assertEqual(self.get().cached, Cached.HIT)
        self.assertEqual(self.kinds(), ["manifest", "head"])

    def test_moved(self) -> None:
        """Where it moved, one GET by digest follows, and the new manifest is there."""
        self.get()
        new = self.move()
        self.here.clock.advance(301)
        served = self.get()
        self.assertEqual((served.cached, served.content.body), (Cached.MISS, new.body))
        self.assertEqual(self.hub.asked[-2:], [("head", NAME, LATEST, 0), ("manifest", NAME, new.digest, 0)])
        self.assertEqual(self.get().cached, Cached.HIT)

    def test_moved_to_what_is_stored(self) -> None:
        """A tag that moved to a manifest that is stored already costs the HEAD alone."""
        new = self.move()
        self.get()
        self.hub.manifests[NAME, LATEST] = self.old
        self.get(self.old.digest)
        self.here.clock.advance(301)
        self.assertEqual(self.get().content.body, self.old.body)
        self.assertEqual(self.kinds(), ["manifest", "manifest", "head"])
        self.assertNotEqual(new.digest, self.old.digest)

    def test_zero_always_asks_and_never_never(self) -> None:
        """A time of 0 asks each time; an infinite one never again."""
        self.here = self.process(ttl=0.0)
        for _ in range(3):
            self.get()
        self.assertEqual(self.kinds(), ["manifest", "head", "head"])
        self.here = self.process(ttl=float("inf"))
        self.here.clock.advance(1e9)
        self.get()
        self.assertEqual(len(self.kinds()), 3)

    def test_stale_comes_before_errors(self) -> None:
        """Whatever goes wrong, and if the tag is deleted, the stored copy is served and said to be stale."""
        self.get()
        for error in (Unavailable("dead"), TimedOut("slow"), Limited("429", 7), Unverified("a lie")):
            self.here.clock.advance(301)
            self.hub.error = error
            self.assertEqual((self.get().cached, self.head().cached), (Cached.STALE, Cached.STALE))
        self.hub.error = None
        del self.hub.manifests[NAME, LATEST]
        self.assertEqual(self.get().cached, Cached.STALE)
        self.assertEqual(self.here.counts.seen["stale"], 9)

    def test_silent_upstream(self) -> None:
        """A HEAD that is not answered in two seconds leads to the stale copy, and goes on behind for the next."""
        self.get()
        new = self.move()
        self.here.clock.advance(301)
        self.hub.hung = Deferred()
        getting, second = self.getting(), self.getting()
        self.here.clock.advance(1.9)
        self.assertNoResult(getting)
        self.here.clock.advance(0.2)
        self.assertEqual(self.successResultOf(getting).cached, Cached.STALE)
        self.assertEqual(self.successResultOf(second).cached, Cached.STALE)
        self.hub.hung.callback(None)
        self.assertEqual(self.get().content.body, new.body)
        self.assertEqual(self.kinds(), ["manifest", "head", "manifest"])

    def test_moved_but_not_to_be_had(self) -> None:
        """A tag that moved to what cannot be fetched keeps the stored copy."""
        self.get()
        self.move()
        del self.hub.manifests[NAME, self.hub.manifests[NAME, LATEST].digest]
        self.here.clock.advance(301)
        served = self.get()
        self.assertEqual((served.cached, served.content.body), (Cached.STALE, self.old.body))

    def test_one_check_for_many(self) -> None:
        """Many clients past the time: one HEAD."""
        self.get()
        self.here.clock.advance(301)
        self.hub.hung = Deferred()
        waiting = [self.getting() for _ in range(10)]
        self.hub.hung.callback(None)
        self.assertEqual({self.successResultOf(each).cached for each in waiting}, {Cached.HIT})
        self.assertEqual(self.kinds(), ["manifest", "head"])

    def test_checked_by_another_process(self) -> None:
        """What another process has just checked is not checked again."""
        self.get()
        there = self.process(clock=self.here.clock)
        self.here.clock.advance(301)
        lock = self.successResultOf(
            Deferred.fromCoroutine(there.locks.hold(f"tag:{Repository('docker.io', NAME)}:latest"))
        )
        assert lock is not None
        getting = self.getting()
        self.assertNoResult(getting)
        pull = there.tags._ask  # the other process, which holds the lock, gets its answer
        _, known = self.successResultOf(Deferred.fromCoroutine(there.tags._look(self.route, LATEST)))
        assert known is not None
        self.successResultOf(Deferred.fromCoroutine(pull(self.route, LATEST, known)))
        lock.release()
        self.here.turn(0.1)
        self.assertEqual(self.successResultOf(getting).cached, Cached.HIT)
        self.assertEqual(self.kinds(), ["manifest", "head"])

    def test_clock_set_back(self) -> None:
        """A record from the future is not believed for ever."""
        self.here.clock.advance(1000)
        self.get()
        self.here = self.process()
        self.get()
        self.assertEqual(self.kinds(), ["manifest", "head"])


class OpenCircuitTests(TagTestCase):
    """An upstream that is known to be dead costs nobody's time while there is anything to serve."""

    def test_stale_at_once(self) -> None:
        """A stored copy is served without a HEAD; when the circuit closes, the next pull asks again."""
        self.get()
        self.here.clock.advance(301)
        self.hub.circuit.opened = True
        self.hub.hung = Deferred()
        self.assertEqual((self.get().cached, self.head().cached), (Cached.STALE, Cached.STALE))
        self.assertEqual(self.kinds(), ["manifest"])
        self.hub.circuit.opened, self.hub.hung = False, None
        self.assertEqual(self.get().cached, Cached.HIT)
        self.assertEqual(self.kinds(), ["manifest", "head"])

    def test_uncached_is_still_asked_for(self) -> None:
        """What is not stored is asked for all the same."""
        self.hub.circuit.opened = True
        self.assertEqual(self.get().cached, Cached.MISS)

    def test_the_first_comes_back(self) -> None:
        """What the second one served meanwhile is the first one's again once it answers."""
        self.ghcr.add_manifest(NAME, manifest_body("other"), OCI_MANIFEST, LATEST)
        self.hub.circuit.opened = True
        self.hub.hung = Deferred()
        self.assertEqual(self.get(route=self.chain).upstream, "github")
        self.here.clock.advance(301)
        self.assertEqual(self.get(route=self.chain).upstream, "github")
        self.assertEqual(self.kinds(), [])
        self.hub.circuit.opened, self.hub.hung = False, None
        self.here.clock.advance(301)
        self.assertEqual(self.get(route=self.chain).content.body, self.old.body)


class MissTests(TagTestCase):
    """What is not stored."""

    def test_herd(self) -> None:
        """Twenty clients at once: one GET."""
        self.hub.hung = Deferred()
        waiting = [self.getting() for _ in range(20)]
        waiting[0].cancel()
        self.hub.hung.callback(None)
        self.failureResultOf(waiting[0])
        self.assertEqual({self.successResultOf(each).content.body for each in waiting[1:]}, {self.old.body})
        self.assertEqual(self.kinds(), ["manifest"])

    def test_head_then_digest(self) -> None:
        """As containerd pulls: HEAD of the tag, GET by digest; then the tag is there without the upstream."""
        head = self.head()
        self.assertEqual((head.cached, head.content.body), (Cached.MISS, None))
        self.assertEqual(self.get(head.content.descriptor.digest).cached, Cached.MISS)
        self.hub.error = Unavailable("dead")
        self.assertEqual(self.head().cached, Cached.HIT)
        self.assertEqual(self.get().cached, Cached.HIT)
        self.assertEqual(self.head(self.old.digest).cached, Cached.HIT)

    def test_head_stores_no_manifest(self) -> None:
        """After a HEAD alone, GET of the tag still asks."""
        self.head()
        self.head()
        self.assertEqual(self.kinds(), ["head"])
        self.assertEqual(self.get().cached, Cached.MISS)

    def test_unknown(self) -> None:
        """What no upstream has is unknown, and each is listed with its outcome."""
        failure = self.failureResultOf(self.getting(Tag("nope"), self.chain), ManifestUnknown)
        self.assertEqual(
            failure.value.detail,
            [{"upstream": name, "outcome": "absent", "reason": "not found"} for name in ("hub", "github")],
        )
        self.failureResultOf(self.getting(Digest.of(b"nope")), ManifestUnknown)

    def test_no_upstream(self) -> None:
        """Without an upstream everything that is not stored is unknown."""
        nowhere = Route("name", (), False)
        self.failureResultOf(self.getting(LATEST, nowhere), ManifestUnknown)
        self.failureResultOf(self.getting(self.old.digest, nowhere), ManifestUnknown)
        for reference in (LATEST, self.old.digest):
            describing = self.here.pull.describe(nowhere, reference, ANONYMOUS)
            self.failureResultOf(Deferred.fromCoroutine(describing), ManifestUnknown)

    def test_errors_without_a_copy(self) -> None:
        """Without a stored copy the client hears what the upstream's outcome means."""
        for error in (Unavailable("dead"), TimedOut("slow"), Limited("429", 7)):
            self.hub.error = error
            failure = self.failureResultOf(self.getting(), type(error))
            self.assertEqual(failure.value.detail[0]["reason"], error.message)

    def test_right_per_repository(self) -> None:
        """A manifest that is stored for one repository is unknown in another."""
        self.get()
        self.failureResultOf(
            self.getting(self.old.digest, qualified([self.hub], "library/other")), ManifestUnknown
        )

    def test_no_right_no_look(self) -> None:
        """Who may not pull hears nothing of what is there."""
        nobody = Rights("nobody", frozenset())
        for asking in (
            self.here.pull.manifest(self.route, LATEST, nobody),
            self.here.pull.describe(self.route, LATEST, nobody),
            self.here.pull.blob(self.route, self.old.digest, nobody),
            self.here.pull.describe_blob(self.route, self.old.digest, nobody),
        ):
            self.failureResultOf(Deferred.fromCoroutine(asking), Denied)
        self.assertEqual(self.hub.asked, [])

    def test_full_disk(self) -> None:
        """A disk that takes no manifest costs the cache, not the answer."""

        async def add(data: bytes, digest: Digest) -> None:
            raise NoSpace("full")

        self.patch(self.here.blobs, "add", add)
        for _ in range(2):
            served = self.get()
            self.assertEqual((served.cached, served.content.body), (Cached.BYPASS, self.old.body))
        self.assertEqual(self.get(self.old.digest).cached, Cached.BYPASS)

    def test_full_disk_for_records(self) -> None:
        """Nor does one that takes no record."""

        async def put_tag(*arguments: object, **options: object) -> None:
            raise NoSpace("full")

        self.patch(self.here.repositories, "put_tag", put_tag)
        self.assertEqual(self.get().content.body, self.old.body)

    def test_damaged_copy(self) -> None:
        """A stored manifest whose bytes are gone is a miss."""
        self.get()
        self.successResultOf(Deferred.fromCoroutine(self.here.blobs.remove(self.old.digest)))
        self.assertEqual(self.get().cached, Cached.MISS)

    def test_listed_for_blobs(self) -> None:
        """What a stored manifest lists is known to the index, so that HEAD of a blob may ask."""
        self.get()
        size = self.here.index.listed_size(Repository("docker.io", NAME), Digest.of(b"{}"))
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(size)), 2)

    def test_index_and_docker_types(self) -> None:
        """Indexes and Docker's types pull through as they are, with what they list."""
        child = {"mediaType": OCI_MANIFEST, "size": 5, "digest": str(Digest.of(b"child"))}
        index = json.dumps({"schemaVersion": 2, "manifests": [child]}).encode()
        self.hub.add_manifest(NAME, index, OCI_INDEX, Tag("multi"))
        docker = manifest_body("docker").replace(OCI_MANIFEST.encode(), DOCKER_MANIFEST.encode())
        self.hub.add_manifest(NAME, docker, DOCKER_MANIFEST, Tag("docker"))
        self.assertEqual(self.get(Tag("multi")).content.descriptor.media_type, OCI_INDEX)
        self.assertEqual(self.get(Tag("docker")).content.body, docker)
