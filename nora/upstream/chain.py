"""The chain: ask one candidate after the other, strictly in order, and keep what each said.

Two rules of the outcome table live here: the first that has it ends the chain, and what it gave is provisional
when an earlier one could not be asked, because that one might have had another image of this name. What an open
circuit means for the order stands in `nora.upstream.circuit`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar

import attrs

from nora.oci.errors import Limited, Unavailable, Unknown
from nora.upstream.interfaces import Candidate
from nora.upstream.outcomes import Absent, Attempt, conclude

T = TypeVar("T")


@attrs.frozen
class Found(Generic[T]):
    """What a chain came to: the `value`, the `candidate` that gave it, and the `attempts` at earlier ones."""

    value: T
    candidate: Candidate
    attempts: tuple[Attempt, ...]

    @property
    def provisional(self) -> bool:
        """An earlier upstream was limited or unavailable, so the owner is not certain."""
        return not all(attempt.definite for attempt in self.attempts)


async def first(
    candidates: Iterable[Candidate],
    ask: Callable[[Candidate], Awaitable[T]],
    unknown: type[Unknown],
    *,
    last_resort: bool = True,
) -> Found[T]:
    """Ask `ask(candidate)` of each until one has it.

    Only the outcomes `Absent`, `Limited` and `Unavailable` (with its kinds) lead on; anything else is raised as it
    is. One whose circuit is open is passed over; when no other has it, those passed over are asked after all, unless
    there is no `last_resort`. When none has it, raises what `conclude` makes of the attempts: `unknown` for a
    definite no.
    """
    chain = list(candidates)
    attempts: dict[int, Attempt] = {}
    passed_over: list[int] = []

    async def attempt(position: int) -> Found[T] | None:
        candidate = chain[position]
        try:
            value = await ask(candidate)
        except (Absent, Limited, Unavailable) as error:
            attempts[position] = Attempt(candidate.upstream.name, error)
            return None
        # Whoever comes later in the order has no say in whose it is.
        return Found(value, candidate, tuple(attempts[each] for each in sorted(attempts) if each < position))

    for position, candidate in enumerate(chain):
        objection = candidate.upstream.circuit.objection()
        if objection is not None:
            attempts[position] = Attempt(candidate.upstream.name, objection)
            passed_over.append(position)
        elif (found := await attempt(position)) is not None:
            return found
    for position in passed_over if last_resort else ():
        if (found := await attempt(position)) is not None:
            return found
    raise conclude([attempts[each] for each in sorted(attempts)], unknown)
