"""Revalidation on the wire: what a stale tag costs at a registry that wants tokens and counts pulls."""

from __future__ import annotations

from twisted.internet.defer import Deferred, gatherResults

from nora.access import ANONYMOUS
from nora.oci import Repository, Tag
from nora.pull.interfaces import Answer, Cached, Served
from nora.upstream.interfaces import Candidate, Route
from tests.support.fake_upstream import Fault, make_image
from tests.support.pulling import Pulling
from tests.support.upstreams import IMAGE, REPOSITORY, UpstreamTestCase

ONE = Tag("1")
NEXT = make_image([b"the next layer"])


class RevalidationTests(UpstreamTestCase):
    """A store with one tag, past its time; its registry, whose token is in hand."""

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.upstream = await self.filled(auth=True)
        registry = self.registry(self.upstream.url)
        self.route = Route(REPOSITORY, (Candidate(Repository("fake.example", REPOSITORY), registry),), True)
        self.here = Pulling(self.mktemp(), quota_reserve=10)
        self.addCleanup(self.here.close)
        await self.get()
        self.upstream.requests.clear()
        self.here.clock.advance(301)

    async def get(self) -> Served[Answer]:
        return await self.here.pull.manifest(self.route, ONE, ANONYMOUS)

    def requests(self) -> list[str]:
        return [f"{seen.method} {seen.path.rpartition('/')[2]}" for seen in self.upstream.requests]

    async def test_one_request(self) -> None:
        """One HEAD with the token in hand, no 401 before it; for a hundred clients at once too."""
        self.upstream.fault("*", Fault(hold=True, times=1))
        asking = [Deferred.fromCoroutine(self.get()) for _ in range(100)]
        await self.upstream.asked()
        self.upstream.release()
        for served in await gatherResults(asking):
            self.assertEqual((served.cached, served.content.body), (Cached.HIT, IMAGE.manifest))
        self.assertEqual(self.requests(), ["HEAD 1"])
        self.assertTrue(self.upstream.requests[0].headers["authorization"].startswith("Bearer "))

    async def test_moved(self) -> None:
        """Where it moved, one GET by the digest that HEAD gave."""
        self.upstream.add_image(REPOSITORY, "1", NEXT)
        self.assertEqual((await self.get()).content.body, NEXT.manifest)
        self.assertEqual(self.requests(), ["HEAD 1", f"GET {NEXT.digest}"])

    async def test_low_quota(self) -> None:
        """Where the HEAD tells that few pulls are left, the copy is served; and the new image once there are more."""
        self.upstream.add_image(REPOSITORY, "1", NEXT)
        self.upstream.fault("*", Fault(headers=(("ratelimit-remaining", "10;w=21600"),)))
        served = await self.get()
        self.assertEqual((served.cached, served.content.body), (Cached.QUOTA, IMAGE.manifest))
        self.assertEqual(self.requests(), ["HEAD 1"])
        self.upstream.fault("*", Fault(headers=(("ratelimit-remaining", "11;w=21600"),)))
        self.assertEqual((await self.get()).content.body, NEXT.manifest)
