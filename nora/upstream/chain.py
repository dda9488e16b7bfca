"""The chain: ask one candidate after the other, strictly in order, and keep what each said.

Two rules of the outcome table live here: the first that has it ends the chain, and what it gave is provisional
when an earlier one could not be asked, because that one might have had another image of this name.
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
    """What a chain came to: the `value`, the `candidate` that gave it, and the `attempts` before it."""

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
) -> Found[T]:
    """Ask `ask(candidate)` of each until one has it.

    Only the outcomes `Absent`, `Limited` and `Unavailable` (with its kinds) lead on; anything else is raised as it
    is. When none has it, raises what `conclude` makes of the attempts: `unknown` for a definite no.
    """
    attempts: list[Attempt] = []
    for candidate in candidates:
        try:
            value = await ask(candidate)
        except (Absent, Limited, Unavailable) as error:
            attempts.append(Attempt(candidate.upstream.name, error))
        else:
            return Found(value, candidate, tuple(attempts))
    raise conclude(attempts, unknown)
