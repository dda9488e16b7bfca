"""Workers that ask each other, through their parent."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.process.neighbours import PATIENCE, WORDS, Answers, Neighbours, pass_on
from tests.support.fake_workers import SupervisorCase


class FakeMember:
    """A worker, and its end of the wire; `deaf` it hears nothing."""

    def __init__(self, number: int, crew: list[FakeMember], clock: Clock) -> None:
        self.number = number
        self.serving = True
        self.deaf = False
        self.said: list[str] = []
        self._crew = crew
        self.neighbours = Neighbours(self._up, clock)
        self.neighbours.answer = lambda: b"%d" % number

    def say(self, word: str, value: object = None) -> None:
        """Hear the parent."""
        if not self.deaf:
            self.neighbours.hear(word, value)

    def _up(self, word: str, value: Any) -> None:
        assert word in WORDS
        self.said.append(word)
        pass_on(self._crew, self, word, value)


class NeighboursTests(SynchronousTestCase):
    """Three workers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.crew: list[FakeMember] = []
        self.crew += [FakeMember(number, self.crew, self.clock) for number in (1, 2, 3)]
        self.one, self.two, self.three = self.crew

    def test_all_answer(self) -> None:
        """Who asks is told what the others answer, in their order, and nothing is left that waits."""
        self.assertEqual(self.successResultOf(self.two.neighbours.ask()), Answers((b"1", b"3"), ()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_silent(self) -> None:
        """Nobody waits longer than so long for one that hangs, and it is told who that is."""
        self.three.deaf = True
        asked = self.one.neighbours.ask()
        self.assertNoResult(asked)
        self.clock.advance(PATIENCE)
        self.assertEqual(self.successResultOf(asked), Answers((b"2",), (3,)))

    def test_away(self) -> None:
        """One that does not serve now is not asked."""
        self.two.serving = False
        self.assertEqual(self.successResultOf(self.one.neighbours.ask()), Answers((b"3",), ()))
        self.three.serving = False
        self.assertEqual(self.successResultOf(self.one.neighbours.ask()), Answers())

    def test_too_late(self) -> None:
        """An answer that comes too late, and one to a question that was given up, are dropped."""
        self.three.deaf = True
        asked = self.one.neighbours.ask()
        asked.addErrback(lambda _: None)
        asked.cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.one.neighbours.hear("told", (0, 3, b"late"))
        self.three.deaf = False
        self.assertEqual(self.successResultOf(self.one.neighbours.ask()), Answers((b"2", b"3"), ()))

    def test_parent_is_gone(self) -> None:
        """Without a parent there is an answer too: that nobody answers."""
        self.one.deaf = True
        asked = self.one.neighbours.ask()
        self.clock.advance(PATIENCE)
        self.assertEqual(self.successResultOf(asked), Answers())

    @given(st.lists(st.sampled_from((1, 2, 3)), max_size=12), st.sampled_from((None, 1, 2, 3)))
    def test_many_questions(self, askers: list[int], deaf: int | None) -> None:
        """However many ask at once, each is told all that can be told, once."""
        self.setUp()
        if deaf is not None:
            self.crew[deaf - 1].deaf = True
        asked = [(number, self.crew[number - 1].neighbours.ask()) for number in askers]
        self.clock.advance(PATIENCE)
        for number, answers in asked:
            others = {b"%d" % each for each in (1, 2, 3) if each not in (number, deaf)}
            expected = set() if number == deaf else others
            self.assertEqual(set(self.successResultOf(answers).told), expected)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ParentTests(SupervisorCase):
    """The parent between them."""

    def test_passes_on(self) -> None:
        """What a worker asks the others reaches those that serve, and their answer comes back to it."""
        self.start()
        first, second = self.running()
        first.say_to_parent("ask", 7)
        self.assertEqual(first.told[-1], ("asked", (7, [2])))
        self.assertEqual(second.told[-1], ("tell", (1, 7)))
        second.say_to_parent("told", (1, 7, b"it goes"))
        self.assertEqual(first.told[-1], ("told", (7, 2, b"it goes")))
        second.end()
        first.say_to_parent("ask", 8)
        self.assertEqual(first.told[-1], ("asked", (8, [])))
