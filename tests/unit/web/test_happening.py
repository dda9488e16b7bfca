"""What happens now, looked at in one process and put together from several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from nora.concurrency import Background
from nora.oci import Repository
from nora.process.neighbours import Answers
from nora.pull.progress import Place, Progress
from nora.storage.interfaces import OpenUpload
from nora.telemetry.recent import Entry, Given, make_ring
from nora.web.happening import MOST, Happening, Happenings

THING = Repository("docker.io", "library/thing")
UPLOAD = OpenUpload(Repository("local", "team/app"), None, 1.0, 2.0, 3)


def fill(digest: str, written: int, *, followers: int = 1) -> Progress:
    """Tell of a fill."""
    return Progress(digest, (Place(THING, "hub"),), True, written, 100, 5.0, followers)


def given(began: float, endpoint: str = "manifest", user: str | None = None) -> Entry:
    """Tell of an answer."""
    reference = "1" if endpoint == "manifest" else "sha256:aa"
    place = ("10.0.0.5", user, THING.namespace, THING.name)
    return began, 1.0, Given(*place, endpoint, "GET", reference, "hit", 10, False)


class HappeningsTests(SynchronousTestCase):
    """Processes of one store."""

    def process(
        self, fills: Sequence[Progress] = (), gave: Sequence[Entry] = (), ask: Any = None
    ) -> Happenings:
        """Make a process that has these fills, and gave these answers."""
        ring = make_ring()
        ring.extend(gave)
        return Happenings(lambda most: list(fills)[:most], ring, self.uploads, ask, Background())

    async def uploads(self, most: int) -> list[OpenUpload]:
        """Tell of one upload."""
        self.assertEqual(most, MOST)
        return [UPLOAD]

    def look(self, happenings: Happenings) -> Happening:
        """Look."""
        happening: Happening = self.successResultOf(happenings.look())
        return happening

    def test_alone(self) -> None:
        """A process alone tells of itself."""
        happening = self.look(self.process([fill("a", 5)], [given(0)]))
        self.assertEqual((happening.fills, happening.pushes), ((fill("a", 5),), (UPLOAD,)))
        self.assertEqual([pull.sent for pull in happening.pulls], [10])

    def test_together(self) -> None:
        """One of several tells the same as another: blobs once, pulls whole, pushes once."""
        one = ([fill("a", 5), fill("b", 7)], [given(0), given(3, user='\N{HEBREW LETTER ALEF}"\n')])
        two = ([fill("a", 6, followers=2)], [given(1, "blob")])
        looked = []
        for mine, other in ((one, two), (two, one)):
            answers = Answers((b"", self.process(*other).own()), (3,))
            looked.append(self.look(self.process(*mine, ask=lambda answers=answers: succeed(answers))))
        for happening in looked:
            self.assertEqual(
                {each.digest: (each.written, each.followers) for each in happening.fills},
                {"a": (6, 3), "b": (7, 1)},
            )
            self.assertEqual(happening.fills[0].places, (Place(THING, "hub"),))
            self.assertEqual([(pull.at, pull.sent) for pull in happening.pulls], [(3, 10), (0, 20)])
            self.assertEqual((happening.pushes, happening.silent), ((UPLOAD,), (3,)))

    def test_one_look_at_a_time(self) -> None:
        """Who looks while somebody does, sees the same; and who gives up, takes it from nobody."""
        asked: list[Deferred[Answers]] = []

        def ask() -> Deferred[Answers]:
            asked.append(Deferred())
            return asked[-1]

        happenings = self.process(ask=ask)
        looks = [happenings.look() for _ in range(3)]
        looks[0].addErrback(lambda _: None)
        looks[0].cancel()
        self.assertEqual(len(asked), 1)
        asked[0].callback(Answers())
        self.assertIs(self.successResultOf(looks[1]), self.successResultOf(looks[2]))
        happenings.look()
        self.assertEqual(len(asked), 2)

    def test_so_many(self) -> None:
        """Of endlessly many fills so many are told of."""
        many = [fill(str(number), number) for number in range(MOST + 5)]
        other = self.process([fill(f"other {number}", 1) for number in range(MOST)])
        answers = Answers((other.own(),))
        happening = self.look(self.process(many, ask=lambda: succeed(answers)))
        self.assertEqual(happening.fills, tuple(many[:MOST]))
