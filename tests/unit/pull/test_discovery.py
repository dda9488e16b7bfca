"""Lists of tags through the cache: freshness, staleness, chains, owners."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from nora.access import ANONYMOUS, Rights
from nora.oci import Repository
from nora.oci.errors import (
    Denied,
    Limited,
    NameUnknown,
    NoraError,
    TimedOut,
    Unavailable,
    Unverified,
)
from nora.oci.listing import TagPage
from nora.pull.interfaces import Cached
from nora.storage.interfaces import OwnerRecord
from nora.upstream.interfaces import Route
from nora.upstream.outcomes import Absent
from tests.support.discovery_case import HUB, DiscoveryTestCase
from tests.support.pulling import NAME
from tests.support.scripted import ScriptedUpstream
from tests.support.storage_fakes import FullDisk
from tests.support.tag_case import LATEST


class TagsTests(DiscoveryTestCase):
    """Lists of tags."""

    def test_fresh(self) -> None:
        """A list is fetched once, in byte order, and then served from the store in pages, by any process."""
        first = self.tags()
        self.assertEqual((first.cached, first.content), (Cached.MISS, TagPage(("1", "10", "2"), False)))
        self.assertEqual((first.repository, first.upstream), (Repository("docker.io", NAME), "hub"))
        self.here = self.process(clock=self.here.clock)
        page = self.successResultOf(self.listing(last=b"1", limit=1))
        self.assertEqual(
            (page.cached, page.content, page.upstream), (Cached.HIT, TagPage(("10",), True), "hub")
        )
        self.assertEqual(self.hub.asked_for("tags"), 1)

    def test_renewed(self) -> None:
        """Past its time it is fetched again."""
        self.tags()
        self.hub.tag_lists[NAME] = ["3"]
        self.here.clock.advance(59)
        self.assertEqual(self.tags().content.tags, ("1", "10", "2"))
        self.here.clock.advance(1)
        again = self.tags()
        self.assertEqual((again.cached, again.content.tags), (Cached.MISS, ("3",)))
        self.assertEqual(self.tags().cached, Cached.HIT)

    def test_clock_set_back(self) -> None:
        """A list from the future is not believed for ever."""
        self.here.clock.advance(1000)
        self.tags()
        self.here = self.process()
        self.assertEqual(self.tags().cached, Cached.MISS)

    def test_single_flight(self) -> None:
        """Many who ask at once cost one request, whichever page each wants."""
        self.hub.hung = Deferred()
        asking = [self.listing(limit=limit) for limit in range(10)]
        self.hub.hung.callback(None)
        for limit, each in enumerate(asking):
            self.assertEqual(self.successResultOf(each).content.tags, ("1", "10", "2")[:limit])
        self.assertEqual(self.hub.asked_for("tags"), 1)

    def test_stale(self) -> None:
        """Whatever goes wrong upstream, a stored list is served, stale, and that is counted."""
        self.tags()
        self.here.clock.advance(61)
        errors: tuple[NoraError, ...] = (
            Unavailable("down"),
            TimedOut("slow"),
            Limited("limited", 7),
            Unverified("lie"),
            Absent("gone"),
            Absent("no", denied=True),
        )
        for count, error in enumerate(errors, 1):
            self.hub.error = error
            served = self.tags()
            self.assertEqual((served.cached, served.content.tags), (Cached.STALE, ("1", "10", "2")))
            self.assertEqual((served.upstream, self.here.counts.seen["stale"]), ("hub", count))

    def test_slow(self) -> None:
        """A slow upstream costs a client with a stored list two seconds; its list is there for the next one."""
        self.tags()
        self.here.clock.advance(61)
        self.hub.hung = Deferred()
        self.hub.tag_lists[NAME] = ["3"]
        asking = self.listing()
        self.here.clock.advance(1.9)
        self.assertNoResult(asking)
        self.here.clock.advance(0.1)
        self.assertEqual(self.successResultOf(asking).cached, Cached.STALE)
        self.hub.hung.callback(None)
        self.assertEqual((self.tags().cached, self.tags().content.tags), (Cached.HIT, ("3",)))
        self.assertEqual(self.hub.asked_for("tags"), 2)

    def test_no_list(self) -> None:
        """Tags that are stored are no list: without one a failure is an error, of its own kind."""
        self.successResultOf(Deferred.fromCoroutine(self.here.pull.manifest(self.route, LATEST, ANONYMOUS)))
        for error, kind in (
            (Unavailable("down"), Unavailable),
            (TimedOut("slow"), TimedOut),
            (Limited("limited", 7), Limited),
            (Unverified("lie"), Unavailable),
            (Absent("gone"), NameUnknown),
            (Absent("no", denied=True), NameUnknown),
        ):
            self.hub.error = error
            failure = self.failureResultOf(self.listing(), kind)
            self.assertIs(failure.type, kind)

    def test_absent_for_seconds(self) -> None:
        """A clean 404 is remembered for `negative_ttl`; anything else is asked again, and so is what turned up."""
        self.here = self.process(negative_ttl=5.0)
        for error, times in (
            (Absent("gone"), 1),
            (Absent("no", denied=True), 3),
            (Unavailable("down"), 3),
            (Limited("slow", 7), 3),
        ):
            self.hub.asked.clear()
            self.hub.error = error
            for _ in range(3):
                self.failureResultOf(self.listing())
            self.assertEqual(self.hub.asked_for("tags"), times)
            self.here.clock.advance(5)
        self.hub.error = Absent("gone")
        self.failureResultOf(self.listing(), NameUnknown)
        self.hub.error = None
        self.failureResultOf(self.listing(), NameUnknown)
        self.pull()
        self.assertEqual(self.tags().content.tags, ("1", "10", "2"), "the repository has something after all")

    def test_one_process_fetches(self) -> None:
        """Of two processes one asks, and the other reads what it stored, with a stored list and without."""
        other = self.process(clock=self.here.clock)
        for words in (["1"], ["2"]):
            self.hub.tag_lists[NAME] = words
            self.hub.asked.clear()
            self.hub.hung = Deferred()
            first = self.listing()
            second = Deferred.fromCoroutine(other.discovery.tags(self.route, b"", 9, ANONYMOUS))
            self.here.turn(0.5)
            self.assertNoResult(second)
            self.hub.hung.callback(None)
            self.here.turn(0.1)
            self.assertEqual(self.successResultOf(first).cached, Cached.MISS)
            served = self.successResultOf(second)
            self.assertEqual((served.cached, served.content.tags), (Cached.HIT, tuple(words)))
            self.assertEqual(self.hub.asked_for("tags"), 1)
            self.here.clock.advance(61)

    def test_always_asked(self) -> None:
        """With no time to live at all what another process fetched since is still good enough."""
        self.here = self.process(list_ttl=0.0)
        other = self.process(clock=self.here.clock, list_ttl=0.0)
        self.here.clock.advance(1)
        self.hub.hung = Deferred()
        first = self.listing()
        second = Deferred.fromCoroutine(other.discovery.tags(self.route, b"", 9, ANONYMOUS))
        self.here.turn(0.5)
        self.hub.hung.callback(None)
        self.here.turn(0.1)
        self.successResultOf(first)
        self.assertEqual(self.successResultOf(second).cached, Cached.HIT)
        self.assertEqual(self.hub.asked_for("tags"), 1)

    def test_another_process_hangs(self) -> None:
        """Who waits in vain for another process serves its stored list; without one it asks after all."""
        other = self.process(clock=self.here.clock)
        lock = self.successResultOf(Deferred.fromCoroutine(other.locks.hold(f"list:{HUB}:tags")))
        assert lock is not None
        asking = self.listing()
        self.here.turn(9.9, 0.1)
        self.assertNoResult(asking)
        self.here.turn(0.2, 0.1)
        self.assertEqual(self.successResultOf(asking).cached, Cached.MISS)
        self.here.clock.advance(61)
        asking = self.listing()
        self.here.turn(2.1, 0.1)
        self.assertEqual(self.successResultOf(asking).cached, Cached.STALE)
        self.here.turn(30, 0.1)
        self.assertEqual(self.hub.asked_for("tags"), 1)

    def test_rights(self) -> None:
        """Rights are asked before anything else."""
        nobody = Rights(None, frozenset())
        for work in (
            self.here.discovery.tags(self.route, b"", 9, nobody),
            self.here.discovery.referrers(self.route, self.subject, None, nobody),
        ):
            self.failureResultOf(Deferred.fromCoroutine(work), Denied)
        self.assertEqual(self.hub.asked, [])

    def test_nobody_to_ask(self) -> None:
        """A name without upstreams is unknown."""
        self.failureResultOf(self.listing(Route("team/x", (), False)), NameUnknown)

    def test_full_disk(self) -> None:
        """A disk that takes no list costs the cache, not the answer."""
        self.here.lists._disk = FullDisk()
        reads = self.process(clock=self.here.clock).lists
        self.here.lists.tags = reads.tags  # type: ignore[method-assign]
        served = self.tags()
        self.assertEqual((served.cached, served.content.tags), (Cached.BYPASS, ("1", "10", "2")))
        self.assertEqual(self.files(), [])


class ChainTests(DiscoveryTestCase):
    """Whose list it is."""

    def setUp(self) -> None:
        super().setUp()
        self.ghcr.tag_lists[NAME] = ["g"]

    def own(self, upstream: ScriptedUpstream, *, provisional: bool = False) -> None:
        record = OwnerRecord(upstream.name, upstream.namespace, provisional, 0.0)
        self.successResultOf(Deferred.fromCoroutine(self.here.repositories.put_owner(NAME, record)))

    def test_in_order(self) -> None:
        """The first that has a list ends the chain; absent leads on."""
        self.assertEqual(self.tags(self.chain).content.tags, ("1", "10", "2"))
        self.assertEqual(self.ghcr.asked, [])

    def test_absent_leads_on(self) -> None:
        """What the first lacks the next one has, and its list is found again without asking."""
        del self.hub.tag_lists[NAME]
        self.assertEqual(self.tags(self.chain).upstream, "github")
        self.assertEqual(self.tags(self.chain).cached, Cached.HIT)
        self.assertEqual((self.hub.asked_for("tags"), self.ghcr.asked_for("tags")), (1, 1))

    def test_owner_first(self) -> None:
        """The owner is asked first; a provisional one is not."""
        self.own(self.ghcr, provisional=True)
        self.assertEqual(self.tags(self.chain).upstream, "hub")
        self.own(self.ghcr)
        self.here.clock.advance(61)
        self.assertEqual(self.tags(self.chain).upstream, "github")

    def test_fallback_repository(self) -> None:
        """With `fallback = "repository"` nobody but the owner is asked."""
        self.here = self.process(fallback="repository")
        self.own(self.ghcr)
        del self.ghcr.tag_lists[NAME]
        self.failureResultOf(self.listing(self.chain), NameUnknown)
        self.assertEqual(self.hub.asked, [])

    def test_stored_comes_before_another(self) -> None:
        """A stored list, even stale, comes before another upstream's list of the same name."""
        self.tags(self.chain)
        self.here.clock.advance(61)
        self.hub.error = Unavailable("down")
        served = self.tags(self.chain)
        self.assertEqual((served.cached, served.upstream), (Cached.STALE, "hub"))
        self.assertEqual(self.ghcr.asked, [])

    def test_back_to_the_first(self) -> None:
        """A list that was had while the first was down goes back to the first when it returns."""
        self.hub.error = Unavailable("down")
        self.assertEqual(self.tags(self.chain).upstream, "github")
        self.hub.error = None
        self.here.clock.advance(61)
        self.assertEqual(self.tags(self.chain).upstream, "hub")
        self.assertEqual(self.tags(self.chain).upstream, "hub")

    def test_failures_add_up(self) -> None:
        """All absent is 404; any limited is 429 with the time told; each upstream's word is in the detail."""
        self.hub.error, self.ghcr.error = Limited("slow", 7), Absent("gone")
        error = self.failureResultOf(self.listing(self.chain), Limited).value
        assert isinstance(error, Limited)
        self.assertEqual(error.retry_after, 7)
        self.hub.error = Absent("no", denied=True)
        unknown = self.failureResultOf(self.listing(self.chain), NameUnknown).value
        assert isinstance(unknown, NameUnknown)
        assert isinstance(unknown.detail, list)
        self.assertEqual([each["outcome"] for each in unknown.detail], ["denied", "absent"])
