"""The chain, and what its outcomes come to."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Repository
from nora.oci.errors import (
    BlobUnknown,
    Broken,
    Limited,
    ManifestUnknown,
    TimedOut,
    TooLarge,
    Unavailable,
    Unverified,
)
from nora.upstream.chain import Found, first
from nora.upstream.interfaces import Candidate
from nora.upstream.outcomes import Absent, Attempt, conclude
from tests.support.scripted import ScriptedUpstream


def candidates(*names: str) -> list[Candidate]:
    return [Candidate(Repository("docker.io", "a"), ScriptedUpstream(name)) for name in names]


class ChainTests(SynchronousTestCase):
    """Strictly in order, the first ends it."""

    def setUp(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, object] = {}

    async def ask(self, candidate: Candidate) -> object:
        self.asked.append(candidate.upstream.name)
        answer = self.answers[candidate.upstream.name]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def run_chain(self, *names: str) -> Deferred[Found[object]]:
        return Deferred.fromCoroutine(first(candidates(*names), self.ask, ManifestUnknown))

    def test_first_ends_it(self) -> None:
        """Nobody is asked after the first that has it."""
        self.answers = {"a": Absent("no"), "b": "it", "c": "other"}
        found = self.successResultOf(self.run_chain("a", "b", "c"))
        self.assertEqual((found.value, found.candidate.upstream.name, self.asked), ("it", "b", ["a", "b"]))
        self.assertEqual([attempt.upstream for attempt in found.attempts], ["a"])
        self.assertFalse(found.provisional)

    def test_provisional(self) -> None:
        """After one that could not be asked, the answer is provisional; after a definite no, denied too, it is not."""
        for error, provisional in (
            (Absent("no"), False),
            (Absent("no", denied=True), False),
            (Limited("wait", 3), True),
            (Unavailable("down"), True),
            (Unverified("lies"), True),
            (Broken("cut"), True),
            (TimedOut("slow"), True),
        ):
            self.answers = {"a": error, "b": "it"}
            self.assertEqual(self.successResultOf(self.run_chain("a", "b")).provisional, provisional, error)

    def test_none_has_it(self) -> None:
        """When nobody has it, what is raised is concluded from all."""
        self.answers = {"a": Absent("no"), "b": Unavailable("down")}
        error = self.failureResultOf(self.run_chain("a", "b"), Unavailable).value
        self.assertEqual(
            error.detail,
            [
                {"upstream": "a", "outcome": "absent", "reason": "no"},
                {"upstream": "b", "outcome": "unavailable", "reason": "down"},
            ],
        )

    def test_nobody_to_ask(self) -> None:
        """An empty chain has it not."""
        self.failureResultOf(self.run_chain(), ManifestUnknown)

    def test_others_pass(self) -> None:
        """A defect, a limit of our own and a cancellation end the chain as they are."""
        for error in (ZeroDivisionError(), TooLarge("big"), CancelledError()):
            self.asked.clear()
            self.answers = {"a": error, "b": "it"}
            self.failureResultOf(self.run_chain("a", "b"), type(error))
            self.assertEqual(self.asked, ["a"])


class OpenCircuitTests(SynchronousTestCase):
    """Who does not answer is passed over while another is left, and never refused."""

    def setUp(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, object] = {}

    async def ask(self, candidate: Candidate) -> object:
        self.asked.append(candidate.upstream.name)
        answer = self.answers[candidate.upstream.name]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def run_chain(self, names: str, opened: str, *, last_resort: bool = True) -> Deferred[Found[object]]:
        chain = candidates(*names)
        for candidate in chain:
            upstream = candidate.upstream
            assert isinstance(upstream, ScriptedUpstream)
            upstream.circuit.opened = upstream.name in opened
        work = first(chain, self.ask, ManifestUnknown, last_resort=last_resort)
        return Deferred.fromCoroutine(work)

    def test_passed_over(self) -> None:
        """The next has it: the open one is not asked, and what was found is provisional."""
        self.answers = {"b": "it"}
        found = self.successResultOf(self.run_chain("ab", "a"))
        self.assertEqual((found.value, self.asked, found.provisional), ("it", ["b"], True))
        self.assertEqual(
            found.attempts[0].as_detail(),
            {"upstream": "a", "outcome": "unavailable", "reason": "circuit open: by hand"},
        )

    def test_alone(self) -> None:
        """One that is alone is asked, open or not."""
        self.answers = {"a": "it"}
        found = self.successResultOf(self.run_chain("a", "a"))
        self.assertEqual((found.value, found.provisional, found.attempts), ("it", False, ()))

    def test_last_resort(self) -> None:
        """When no other has it, those passed over are asked in order; a later one's no is nothing provisional."""
        self.answers = {"a": Unavailable("down"), "b": Absent("no"), "c": "it"}
        found = self.successResultOf(self.run_chain("abc", "ac"))
        self.assertEqual((found.value, self.asked, found.provisional), ("it", ["b", "a", "c"], True))
        self.assertEqual([attempt.upstream for attempt in found.attempts], ["a", "b"])
        self.asked.clear()
        self.answers = {"a": "it", "b": Unavailable("down"), "c": Absent("no")}
        found = self.successResultOf(self.run_chain("abc", "a"))
        self.assertEqual((self.asked, found.provisional), (["b", "c", "a"], False))

    def test_nobody_has_it(self) -> None:
        """A no of every one, the last resort's too, is a definite no; each is told once, in the chain's order."""
        self.answers = {"a": Absent("no"), "b": Absent("nor I")}
        error = self.failureResultOf(self.run_chain("ab", "a"), ManifestUnknown).value
        self.assertEqual(
            [(told["upstream"], told["reason"]) for told in error.detail], [("a", "no"), ("b", "nor I")]
        )

    def test_without_last_resort(self) -> None:
        """Where there is something else to serve, nobody waits for an open one."""
        failure = self.failureResultOf(self.run_chain("ab", "ab", last_resort=False), Unavailable)
        self.assertEqual(self.asked, [])
        self.assertEqual(failure.value.detail[1]["reason"], "circuit open: by hand")
        self.answers = {"b": Absent("no")}
        self.failureResultOf(self.run_chain("ab", "a", last_resort=False), Unavailable)
        self.assertEqual(self.asked, ["b"])


class ConcludeTests(SynchronousTestCase):
    """What a client is told."""

    def conclude(self, *errors: Exception) -> Exception:
        return conclude([Attempt(f"u{n}", error) for n, error in enumerate(errors)], BlobUnknown)  # type: ignore[arg-type]

    def test_table(self) -> None:
        """All absent: unknown. Any limited: limited. Else unavailable, or timed out when time was all that failed."""
        absent, denied, limited = Absent("no"), Absent("no", denied=True), Limited("wait", 5)
        self.assertIs(type(self.conclude()), BlobUnknown)
        self.assertIs(type(self.conclude(absent, denied)), BlobUnknown)
        self.assertIs(type(self.conclude(Unavailable("x"), limited, absent)), Limited)
        self.assertIs(type(self.conclude(absent, Unavailable("x"), TimedOut("x"))), Unavailable)
        self.assertIs(type(self.conclude(absent, TimedOut("x"), TimedOut("x"))), TimedOut)
        self.assertIs(type(self.conclude(Unverified("x"))), Unavailable)

    def test_longest_wait(self) -> None:
        """The longest time told is passed on; none when none was told."""
        several = self.conclude(Limited("a", 5), Limited("b"), Limited("c", 60))
        assert isinstance(several, Limited)
        self.assertEqual(several.retry_after, 60)
        silent = self.conclude(Limited("b"))
        assert isinstance(silent, Limited)
        self.assertIsNone(silent.retry_after)

    def test_words(self) -> None:
        """Each attempt has its word."""
        words = [
            Attempt("u", error).outcome
            for error in (Absent("x"), Absent("x", denied=True), Limited("x"), TimedOut("x"), Unverified("x"))
        ]
        self.assertEqual(words, ["absent", "denied", "limited", "unavailable", "unavailable"])
