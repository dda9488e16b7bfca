"""Manifests that two processes of one store are asked for at once: fetched by one of them."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from nora.access import ANONYMOUS
from nora.oci import Reference
from nora.oci.errors import Unavailable
from nora.pull.interfaces import Answer, Cached, Served
from nora.pull.manifests import ELSEWHERE
from tests.support.pulling import Pulling
from tests.support.tag_case import LATEST, TagTestCase


class TwoProcessesTests(TagTestCase):
    """`here` and `there` on one store, with one clock."""

    def setUp(self) -> None:
        """Have an upstream that answers when it is told to."""
        super().setUp()
        self.clock = Clock()
        self.clock.advance(1000)
        self.here = self.process(clock=self.clock)
        self.there = self.process(clock=self.clock)
        self.hub.hung = Deferred()

    def ask(self, process: Pulling, reference: Reference) -> Deferred[Served[Answer]]:
        """Ask one of the two."""
        return Deferred.fromCoroutine(process.pull.manifest(self.route, reference, ANONYMOUS))

    def answer(self) -> None:
        """Let the upstream answer, a moment after the questions."""
        self.clock.advance(0.1)
        self.unhang().callback(None)
        self.clock.pump([0.01] * 10)

    def test_tag(self) -> None:
        """A tag that nobody has yet costs one pull, and the second process serves what the first one fetched."""
        asked = [self.ask(self.here, LATEST), self.ask(self.there, LATEST)]
        self.answer()
        served = [self.successResultOf(each) for each in asked]
        self.assertEqual({each.content.body for each in served}, {self.old.body})
        self.assertEqual([each.cached for each in served], [Cached.MISS, Cached.HIT])
        self.assertEqual(self.hub.asked_for("manifest"), 1)

    def test_digest(self) -> None:
        """So does a manifest that is asked for by its digest."""
        asked = [self.ask(self.here, self.old.digest), self.ask(self.there, self.old.digest)]
        self.answer()
        self.assertEqual({self.successResultOf(each).content.body for each in asked}, {self.old.body})
        self.assertEqual(self.hub.asked_for("manifest"), 1)

    def test_first_one_fails(self) -> None:
        """The second process asks for itself when the first one was told that the upstream is ill."""
        asked = [self.ask(self.here, LATEST), self.ask(self.there, LATEST)]
        self.clock.advance(0.1)
        hung = self.unhang()
        self.hub.error = Unavailable("ill")
        hung.callback(None)
        self.failureResultOf(asked[0], Unavailable)
        self.hub.error = None
        self.clock.pump([0.01] * 10)
        self.assertEqual(self.successResultOf(asked[1]).content.body, self.old.body)

    def unhang(self) -> Deferred[None]:
        """Let the upstream answer later questions at once; what hangs goes on with the Deferred."""
        hung, self.hub.hung = self.hub.hung, None
        assert hung is not None
        return hung

    def check_patience(self, reference: Reference) -> None:
        """Ask both, the upstream hanging for the first one only."""
        first = self.ask(self.here, reference)
        hung = self.unhang()
        second = self.ask(self.there, reference)
        self.assertNoResult(second)
        self.clock.advance(ELSEWHERE)
        self.assertEqual(self.successResultOf(second).content.body, self.old.body)
        hung.callback(None)
        self.assertEqual(self.successResultOf(first).content.body, self.old.body)

    def test_patience_for_a_tag_ends(self) -> None:
        """A process that hangs on an upstream keeps the other one waiting for a bounded time only."""
        self.check_patience(LATEST)

    def test_patience_for_a_digest_ends(self) -> None:
        """So it is with a digest."""
        self.check_patience(self.old.digest)
