"""What a person calls a pull, made of what clients were given."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Repository
from nora.telemetry.recent import GAP, KEPT, Entry, Given, make_ring, pulls

D1, D2, LAYER = ("sha256:" + letter * 64 for letter in "abc")


def some(began: float, reference: str, method: str = "GET", seconds: float = 0.5, **told: Any) -> Entry:
    """Make an answer: a manifest of library/thing that took half a second."""
    usual: dict[str, Any] = {
        "client": "10.0.0.5",
        "user": None,
        "namespace": "docker.io",
        "name": "library/thing",
        "endpoint": "manifest",
        "method": method,
        "reference": reference,
        "cache": "hit",
        "sent": 0 if method == "HEAD" else 10,
        "aborted": False,
    }
    return began, seconds, Given(**{**usual, **told})


def layer(began: float, **told: Any) -> Entry:
    """Make the answer of a blob."""
    return some(began, LAYER, endpoint="blob", sent=1000, **told)


class PullTests(SynchronousTestCase):
    """What belongs together."""

    def test_docker(self) -> None:
        """A HEAD of the tag, the index and a manifest by digest, and blobs are one pull, called by the tag."""
        (pull,) = pulls(
            [
                some(0, "1", "HEAD"),
                some(1, D1),
                some(2, D2, cache="miss"),
                layer(3, cache="miss"),
                layer(3.0, seconds=6.0),
            ]
        )
        self.assertEqual((pull.at, pull.seconds, pull.sent, pull.hit), (0, 9.0, 2020, False))
        self.assertEqual((pull.reference, pull.repository), ("1", Repository("docker.io", "library/thing")))

    def test_in_any_order(self) -> None:
        """What several processes gave is sorted first."""
        answers = [layer(3), some(0, "1"), layer(2)]
        self.assertEqual([each.sent for each in pulls(answers)], [2010])

    def test_again(self) -> None:
        """The tag again is another pull, the last one first; so is the same manifest by its digest."""
        self.assertEqual(
            [each.at for each in pulls([some(0, "1"), layer(1), some(2, "1"), layer(3)])], [2, 0]
        )
        self.assertEqual([each.at for each in pulls([some(0, D1), some(1, D1), some(2, D1)])], [2, 1, 0])
        self.assertEqual(
            [each.reference for each in pulls([some(0, "1"), some(1, "2"), some(2, D1)])], ["2", "1"]
        )

    def test_apart(self) -> None:
        """Other clients, users and repositories have pulls of their own."""
        answers = [some(0, "1"), *(layer(1, **other) for other in OTHERS)]
        self.assertEqual(len(pulls(answers)), 1 + len(OTHERS))

    def test_silence(self) -> None:
        """After a long silence it is another pull; a long transfer is none."""
        self.assertEqual(len(pulls([some(0, "1"), layer(GAP + 1)])), 2)
        self.assertEqual(len(pulls([some(0, "1"), layer(1, seconds=499.0), layer(510)])), 1)

    def test_heads_alone(self) -> None:
        """Who only asks for heads has not pulled."""
        self.assertEqual(pulls([some(0, "1", "HEAD"), some(1, D1, "HEAD")]), [])

    def test_head_then_get_of_the_tag(self) -> None:
        """A HEAD and a GET of the same tag are one pull, by when it began."""
        self.assertEqual([each.at for each in pulls([some(0, "1", "HEAD"), some(1, "1")])], [0])
        self.assertEqual([each.at for each in pulls([some(0, "1", "HEAD"), some(1, "2")])], [1])

    def test_hits(self) -> None:
        """It is a hit when no body moved from an upstream for any of it."""
        for cache, hit in (("stale", True), ("quota", True), ("followed", False), ("bypass", False)):
            self.assertEqual([each.hit for each in pulls([some(0, "1"), layer(1, cache=cache)])], [hit])

    def test_broken_off(self) -> None:
        """An answer that did not reach its end shows."""
        self.assertTrue(pulls([some(0, "1"), layer(1, aborted=True), layer(2)])[0].aborted)

    @given(
        st.lists(
            st.builds(
                some,
                st.integers(0, 300).map(float),
                st.sampled_from(("1", "2", D1, D2)),
                st.sampled_from(("GET", "HEAD")),
                endpoint=st.sampled_from(("manifest", "blob")),
                client=st.sampled_from(("a", "b")),
                sent=st.integers(0, 100),
            )
        )
    )
    def test_nothing_is_lost(self, answers: list[Entry]) -> None:
        """All bytes of GETs are in some pull; pulls come the last first, and none lasts less than nothing."""
        found = pulls(answers)
        sent = sum(each.sent for _, _, each in answers if each.method == "GET")
        self.assertEqual(sum(pull.sent for pull in found), sent)
        self.assertEqual([pull.at for pull in found], sorted((pull.at for pull in found), reverse=True))
        self.assertTrue(all(pull.seconds >= 0 for pull in found))

    def test_ring(self) -> None:
        """A process remembers so many answers, and forgets the first of them first."""
        ring = make_ring()
        ring.extend(layer(number) for number in range(KEPT + 5))
        self.assertEqual((len(ring), ring[0][0]), (KEPT, 5))


OTHERS: tuple[dict[str, Any], ...] = (
    {"client": "10.0.0.6"},
    {"user": "alice"},
    {"name": "library/other"},
    {"namespace": "ghcr.io"},
)
