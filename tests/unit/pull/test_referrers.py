"""Referrers through the cache: fetched, believed for a while, filtered."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from nora.oci import Digest
from nora.oci.errors import (
    Limited,
    ManifestUnknown,
    NameUnknown,
    TimedOut,
    Unavailable,
    Unverified,
)
from nora.oci.listing import NO_REFERRERS, compose_referrers
from nora.pull.interfaces import Cached
from nora.upstream.interfaces import Route
from nora.upstream.outcomes import Absent
from tests.support.discovery_case import ENTRY, DiscoveryTestCase
from tests.support.pulling import NAME, unqualified


class ReferrersTests(DiscoveryTestCase):
    """Indexes of referrers."""

    def test_cached(self) -> None:
        """An index is fetched once and served whole from the store, stale when the upstream is down."""
        self.hub.indexes[NAME, self.subject] = [ENTRY]
        body = compose_referrers([ENTRY])
        first, second = self.referrers(), self.referrers()
        self.assertEqual((first.cached, first.content), (Cached.MISS, body))
        self.assertEqual((second.cached, second.content, second.upstream), (Cached.HIT, body, "hub"))
        self.here.clock.advance(61)
        for error in (Unavailable("down"), Limited("slow", 7), Absent("gone"), Absent("no", denied=True)):
            self.hub.error = error
            third = self.referrers()
            self.assertEqual((third.cached, third.content), (Cached.STALE, body))

    def test_filter(self) -> None:
        """One type can be wanted, of a list just fetched and of a stored one; what is stored is the whole."""
        self.hub.indexes[NAME, self.subject] = [{**ENTRY, "artifactType": kind} for kind in ("a/b", "c/d")]
        for kind in ("a/b", "c/d", None, "e/f"):
            served = self.successResultOf(self.referring(kind=kind))
            wanted = [
                each for each in self.hub.indexes[NAME, self.subject] if kind in (None, each["artifactType"])
            ]
            self.assertEqual(served.content, compose_referrers(wanted))
        self.assertEqual(self.hub.asked_for("referrers"), 1)

    def test_surely_nothing(self) -> None:
        """Where every upstream says for sure that it has none, that is an empty index."""
        self.assertEqual(self.referrers().content, NO_REFERRERS)
        self.hub.indexes[NAME, self.subject] = []
        self.assertEqual(self.referrers().content, NO_REFERRERS)

    def test_nobody_to_ask(self) -> None:
        """Where there is no upstream at all, nothing refers to anything, of whatever type."""
        for kind in (None, "a/b"):
            served = self.successResultOf(self.referring(Route("team/x", (), False), kind=kind))
            self.assertEqual((served.content, served.upstream), (NO_REFERRERS, None))

    def test_not_to_be_had(self) -> None:
        """Anything less sure is an error, never an empty index; with several upstreams too."""
        for error, kind in (
            (Unavailable("down"), Unavailable),
            (TimedOut("slow"), TimedOut),
            (Limited("slow", 7), Limited),
            (Unverified("lie"), Unavailable),
            (Absent("no", denied=True), NameUnknown),
            (NameUnknown("nobody may be asked"), NameUnknown),
            (ManifestUnknown("nobody may be asked"), ManifestUnknown),
        ):
            self.hub.error = error
            for route in (self.route, self.chain):
                self.assertIs(self.failureResultOf(self.referring(route), kind).type, kind)
        self.ghcr.indexes[NAME, self.subject] = []
        self.hub.error = Unavailable("down")
        self.failureResultOf(self.referring(self.chain), Unavailable)

    def test_next_upstream(self) -> None:
        """An upstream that lists nothing leads on to the next, which may have the signatures."""
        self.hub.indexes[NAME, self.subject] = []
        self.ghcr.indexes[NAME, self.subject] = [ENTRY]
        self.assertEqual(self.referrers(self.chain).upstream, "github")

    def test_holder_first(self) -> None:
        """Where the manifest came from is asked first."""
        self.pull()
        self.hub.indexes[NAME, self.subject] = self.ghcr.indexes[NAME, self.subject] = [ENTRY]
        self.assertEqual(self.referrers(unqualified([self.ghcr, self.hub])).upstream, "hub")

    def test_deleted(self) -> None:
        """A list that the upstream emptied is empty, while a repository that is gone empties nothing."""
        self.pull()
        self.hub.indexes[NAME, self.subject] = [ENTRY]
        self.referrers()
        self.here.clock.advance(61)
        del self.hub.indexes[NAME, self.subject]
        self.assertEqual(self.referrers().cached, Cached.STALE)
        self.hub.indexes[NAME, self.subject] = []
        self.assertEqual((self.referrers().cached, self.referrers().content), (Cached.MISS, NO_REFERRERS))
        self.here.clock.advance(61)
        del self.hub.indexes[NAME, self.subject]
        self.assertEqual(self.referrers().cached, Cached.MISS)

    def test_empty_lists_are_kept_for_stored_images_alone(self) -> None:
        """Whoever makes up digests does not fill the disk; an image that is here has its empty list kept."""
        for number in range(5):
            served = self.successResultOf(self.referring(digest=Digest.of(b"%d" % number)))
            self.assertEqual((served.cached, served.content), (Cached.BYPASS, NO_REFERRERS))
        self.assertEqual(self.files(), [])
        self.pull()
        self.assertEqual([self.referrers().cached for _ in range(2)], [Cached.MISS, Cached.HIT])
        self.here.clock.advance(61)
        self.hub.error = Unavailable("down")
        served = self.referrers()
        self.assertEqual((served.cached, served.content), (Cached.STALE, NO_REFERRERS))

    def test_single_flight(self) -> None:
        """Many who ask at once cost one request."""
        self.hub.hung = Deferred()
        asking = [self.referring() for _ in range(10)]
        self.hub.hung.callback(None)
        for each in asking:
            self.successResultOf(each)
        self.assertEqual(self.hub.asked_for("referrers"), 1)
