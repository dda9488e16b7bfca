"""Asking the other workers what they do just now; the parent passes question and answers on.

Nothing is told before somebody asks, so what nobody looks at costs nothing. Words: a worker says `ask` with a number of
its own; the parent says `asked` with that number and the workers it asks, and `tell` to each of these; each says
`told`, which the parent passes on. Whoever does not answer in time is told as silent; nobody waits for it any longer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

PATIENCE = 0.5
"""Seconds that an answer may take."""
WORDS = frozenset({"ask", "told"})
"""What the parent passes on."""


@attrs.frozen
class Answers:
    """What the other workers said, in the order of their numbers."""

    told: tuple[bytes, ...] = ()
    silent: tuple[int, ...] = ()
    """The numbers of those that were asked, and did not answer."""


class _Question:
    def __init__(self, result: Deferred[Answers], timer: IDelayedCall) -> None:
        self.result = result
        self.timer = timer
        self.asked: frozenset[int] | None = None
        self.told: dict[int, bytes] = {}


class Neighbours:
    """The other workers, as one of them asks and answers them. `say` sends a word to the parent."""

    def __init__(self, say: Callable[[str, object], None], clock: IReactorTime) -> None:
        self.answer: Callable[[], bytes] = bytes
        """Gives what this worker answers; it must not take long."""
        self._say = say
        self._clock = clock
        self._questions: dict[int, _Question] = {}
        self._next = 0

    def ask(self) -> Deferred[Answers]:
        """Ask the others; it never fails, and takes `PATIENCE` seconds at most."""
        number, self._next = self._next, self._next + 1
        result: Deferred[Answers] = Deferred(lambda _: self._forget(number))
        timer = self._clock.callLater(PATIENCE, self._end, number)
        self._questions[number] = _Question(result, timer)
        self._say("ask", number)
        return result

    def hear(self, word: str, value: Any) -> None:
        """Take what the parent says: `asked`, `tell` or `told`."""
        if word == "tell":
            self._say("told", (*value, self.answer()))
            return
        number, *more = value
        question = self._questions.get(number)
        if question is None:
            return
        if word == "asked":
            question.asked = frozenset(more[0])
        else:
            question.told[more[0]] = more[1]
        if question.asked is not None and question.asked <= question.told.keys():
            self._end(number)

    def _end(self, number: int) -> None:
        question = self._drop(number)
        if question is not None:
            told = tuple(answer for _, answer in sorted(question.told.items()))
            silent = sorted((question.asked or frozenset()) - question.told.keys())
            question.result.callback(Answers(told, tuple(silent)))

    def _forget(self, number: int) -> None:
        self._drop(number)

    def _drop(self, number: int) -> _Question | None:
        question = self._questions.pop(number, None)
        if question is not None and question.timer.active():
            question.timer.cancel()
        return question


class Asked(Protocol):
    """A worker, as its parent sees it."""

    number: int
    serving: bool

    def say(self, word: str, value: object = None) -> None:
        """Send it a message."""


def pass_on(members: Sequence[Asked], member: Asked, word: str, value: Any) -> None:
    """Pass a question, or an answer, of `member` on to those of `members` that it is for."""
    if word == "ask":
        others = [each for each in members if each is not member and each.serving]
        member.say("asked", (value, [each.number for each in others]))
        for each in others:
            each.say("tell", (member.number, value))
        return
    asker, number, answer = value
    for each in members:
        if each.number == asker:
            each.say("told", (number, member.number, answer))
