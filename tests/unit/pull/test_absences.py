"""The memory of what is not there: what gets into it, what it saves, and what ends it."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.access import ANONYMOUS
from nora.oci import Digest, Manifest, Reference, Repository, Tag
from nora.oci.errors import BlobUnknown, Limited, ManifestUnknown, NoraError, Unavailable, Unknown
from nora.oci.manifest import OCI_MANIFEST
from nora.pull.absences import MAX_ABSENCES, Absences
from nora.pull.interfaces import Content, Served
from nora.upstream.interfaces import Route
from nora.upstream.outcomes import Absent, Attempt, conclude
from tests.support.pulling import NAME, Counts, Pulling, qualified, read_all, unqualified
from tests.support.scripted import ScriptedUpstream

HERE = Repository("docker.io", "library/thing")
THERE = Repository("ghcr.io", "library/thing")
NONE = Tag("none")


def clean(unknown: type[Unknown] = ManifestUnknown) -> NoraError:
    return conclude([Attempt("hub", Absent("no"))], unknown)


class AbsencesTests(SynchronousTestCase):
    """`Absences` alone."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.counts = Counts()
        self.absences = Absences(self.clock, 5.0, self.counts)
        self.asked = 0

    def ask(
        self,
        answer: NoraError | Deferred[str] | None = None,
        *repositories: Repository,
        reference: Reference = NONE,
        unknown: type[Unknown] = ManifestUnknown,
    ) -> Deferred[str]:
        async def work() -> str:
            self.asked += 1
            if isinstance(answer, NoraError):
                raise answer
            return "found" if answer is None else await answer

        asking = self.absences.ask(repositories or (HERE,), reference, unknown, work)
        return Deferred.fromCoroutine(asking)

    def test_remembered(self) -> None:
        """A clean no is given again for its time, the same in type, words and detail, and then asked for again."""
        told = clean()
        first = self.failureResultOf(self.ask(told)).value
        self.clock.advance(4.9)
        again = self.failureResultOf(self.ask(), ManifestUnknown).value
        self.assertIs(first, told)
        self.assertEqual((again.message, again.detail), (told.message, told.detail))
        self.assertIsNot(again, told)
        self.assertEqual((self.asked, self.counts.seen["negative"]), (1, 1))
        self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(self.ask()), "found")
        self.assertEqual((self.asked, len(self.absences)), (2, 0))

    def test_only_what_was_asked(self) -> None:
        """Another reference, kind, or set of repositories is another question."""
        self.failureResultOf(self.ask(clean()))
        self.successResultOf(self.ask(reference=Tag("other")))
        self.successResultOf(self.ask(unknown=BlobUnknown))
        self.successResultOf(self.ask(None, HERE, THERE))
        self.successResultOf(self.ask(None, THERE))
        self.assertEqual(self.asked, 5)

    def test_nothing_else_is_remembered(self) -> None:
        """Denied, limited, unavailable, with or without a no beside it, or nobody asked: asked for again each time."""
        no = Attempt("hub", Absent("no"))
        for error in (
            conclude([Attempt("hub", Absent("no", denied=True))], ManifestUnknown),
            conclude([no, Attempt("b", Absent("no", denied=True))], ManifestUnknown),
            conclude([no, Attempt("b", Limited("wait", 5))], ManifestUnknown),
            conclude([no, Attempt("b", Unavailable("down"))], ManifestUnknown),
            conclude([], ManifestUnknown),
            ManifestUnknown("no such thing"),
            clean(BlobUnknown),
        ):
            self.failureResultOf(self.ask(error), type(error))
            self.assertEqual(len(self.absences), 0, error)

    def test_off(self) -> None:
        """With 0 nothing is remembered."""
        self.absences = Absences(self.clock, 0, self.counts)
        self.failureResultOf(self.ask(clean()))
        self.successResultOf(self.ask())

    def test_forgotten(self) -> None:
        """What a repository has ends the memory of all that it had not, and of no other's."""
        for number in range(3):
            self.failureResultOf(self.ask(clean(), HERE, THERE, reference=Tag(f"t{number}")))
        self.failureResultOf(self.ask(clean(), THERE))
        self.absences.forget(HERE)
        self.assertEqual(len(self.absences), 1)
        self.failureResultOf(self.ask(None, THERE), ManifestUnknown)
        self.absences.forget(HERE)
        self.absences.forget(THERE)
        self.assertEqual(len(self.absences), 0)

    def test_old_news(self) -> None:
        """A no that was on its way when the repository came to have something is not remembered."""
        answer: Deferred[str] = Deferred()
        other: Deferred[str] = Deferred()
        asking, elsewhere = self.ask(answer), self.ask(other, THERE)
        self.absences.forget(HERE)
        answer.errback(clean())
        other.errback(clean())
        self.failureResultOf(asking, ManifestUnknown)
        self.failureResultOf(elsewhere, ManifestUnknown)
        self.assertEqual(self.successResultOf(self.ask()), "found")
        self.failureResultOf(self.ask(None, THERE), ManifestUnknown)

    def test_bounded(self) -> None:
        """However much is asked for, the memory has its bound; what is asked for most stays."""
        for number in range(MAX_ABSENCES):
            self.failureResultOf(self.ask(clean(), reference=Tag(f"t{number}")))
        self.failureResultOf(self.ask(None, reference=Tag("t0")))
        self.failureResultOf(self.ask(clean()))
        self.assertEqual(len(self.absences), MAX_ABSENCES)
        self.failureResultOf(self.ask(None, reference=Tag("t0")))
        self.assertEqual(self.successResultOf(self.ask(reference=Tag("t1"))), "found")


class NegativePullTests(SynchronousTestCase):
    """The memory in its place: behind the store, before the upstreams."""

    def setUp(self) -> None:
        self.hub = ScriptedUpstream("hub", "docker.io")
        self.ghcr = ScriptedUpstream("github", "ghcr.io")
        self.here = Pulling(self.mktemp(), negative_ttl=5.0)
        self.addCleanup(self.here.close)
        self.chain = unqualified([self.hub, self.ghcr])
        self.layer = b"a layer"

    def add_image(self, upstream: ScriptedUpstream) -> Manifest:
        digest = upstream.add_blob(NAME, self.layer)
        kind = "application/vnd.oci.image.layer.v1.tar"
        part = f'{{"mediaType":"{kind}","digest":"{digest}","size":{len(self.layer)}}}'
        body = f'{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{part},"layers":[]}}'
        return upstream.add_manifest(NAME, body.encode(), OCI_MANIFEST, NONE)

    def get(self, reference: Reference = NONE, route: Route | None = None) -> Deferred[object]:
        getting = self.here.pull.manifest(route or self.chain, reference, ANONYMOUS)
        return Deferred.fromCoroutine(getting).addCallback(lambda served: served.content.body)

    def head(self, reference: Reference = NONE) -> Deferred[object]:
        return Deferred.fromCoroutine(self.here.pull.describe(self.chain, reference, ANONYMOUS))

    def blob(self) -> Deferred[Served[Content]]:
        return Deferred.fromCoroutine(self.here.pull.blob(self.chain, Digest.of(self.layer), ANONYMOUS))

    def asked(self) -> int:
        return len(self.hub.asked) + len(self.ghcr.asked)

    def test_manifest(self) -> None:
        """A tag or a digest that no upstream has costs one question each, whoever asks how, until its time is up."""
        for reference in (NONE, Digest.of(b"nothing")):
            before = self.asked()
            self.failureResultOf(self.get(reference), ManifestUnknown)
            for again in (self.get(reference), self.head(reference), self.get(reference)):
                self.failureResultOf(again, ManifestUnknown)
            self.assertEqual(self.asked() - before, 2)
        self.assertEqual(self.here.counts.seen["negative"], 6)
        self.add_image(self.ghcr)
        self.here.clock.advance(5)
        self.successResultOf(self.get())

    def test_head_comes_first(self) -> None:
        """What HEAD did not find GET does not ask for."""
        self.failureResultOf(self.head(), ManifestUnknown)
        self.failureResultOf(self.get(), ManifestUnknown)
        self.assertEqual(self.asked(), 2)

    def test_blob(self) -> None:
        """So does a blob, whose fill is not started again."""
        for _ in range(3):
            self.failureResultOf(self.blob(), BlobUnknown)
        self.assertEqual((self.asked(), self.here.counts.seen["started"]), (2, 1))

    def test_listed_blob(self) -> None:
        """HEAD of a blob that a stored manifest lists, and that is gone, asks once."""
        self.add_image(self.hub)
        self.successResultOf(self.get())
        self.hub.blobs.clear()
        before = self.asked()
        for _ in range(3):
            describing = self.here.pull.describe_blob(self.chain, Digest.of(self.layer), ANONYMOUS)
            self.failureResultOf(Deferred.fromCoroutine(describing), BlobUnknown)
        self.assertEqual(self.asked() - before, 2)

    def test_a_push_upstream_between(self) -> None:
        """An image that was just pushed upstream is whole as soon as its manifest is seen, by GET or by HEAD."""
        for seen in (self.get, self.head):
            self.hub.manifests.clear()
            self.hub.blobs.clear()
            self.here = Pulling(self.mktemp(), negative_ttl=5.0)
            self.addCleanup(self.here.close)
            self.failureResultOf(self.blob(), BlobUnknown)
            self.failureResultOf(self.get(Tag("early")), ManifestUnknown)
            self.add_image(self.hub)
            self.successResultOf(seen())
            content = self.successResultOf(self.blob()).content
            self.assertEqual(self.successResultOf(Deferred.fromCoroutine(read_all(content))), self.layer)

    def test_stored_is_never_hidden(self) -> None:
        """What is in the store is served, whatever is remembered."""
        manifest = self.add_image(self.hub)
        self.successResultOf(self.get())
        self.hub.manifests.clear()
        self.here.clock.advance(301)
        self.successResultOf(self.get())
        self.failureResultOf(self.get(Tag("other")), ManifestUnknown)
        self.assertEqual(self.successResultOf(self.get(manifest.digest)), manifest.body)
        self.here.clock.advance(1)
        self.assertEqual(self.successResultOf(self.get()), manifest.body)

    def test_revalidation_always_asks(self) -> None:
        """A cached tag that is gone upstream is asked for each time that it is due, and is back when it is back."""
        self.add_image(self.hub)
        self.successResultOf(self.get())
        gone, self.hub.manifests = self.hub.manifests, {}
        for _ in range(3):
            self.here.clock.advance(301)
            before = self.hub.asked_for("head")
            self.successResultOf(self.get())
            self.successResultOf(self.get())
            self.assertEqual(self.hub.asked_for("head") - before, 2)
        self.hub.manifests = gone
        self.successResultOf(self.get())
        self.assertEqual(self.here.counts.seen.get("negative", 0), 0)

    def test_other_errors_are_asked_again(self) -> None:
        """Denied, limited and unavailable are asked about each time."""
        for error in (Absent("no", denied=True), Limited("wait", 7), Unavailable("down")):
            self.hub.error = error
            before = self.asked()
            for _ in range(2):
                self.failureResultOf(self.get(route=qualified([self.hub])), NoraError)
            self.assertEqual(self.asked() - before, 2)
