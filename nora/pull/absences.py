"""Absences: what every upstream lately said it has not, remembered for seconds.

Clients ask again at once, and some ask for what cannot be there each time they pull (signatures, attestations, another
platform's tag). Only a clean no is remembered: each upstream that a name may be at answered that it has not got
it. Denied, limited or unavailable is none of that. The store is always looked at first, so what is stored is
never hidden; and whatever a repository turns out to have ends all memory of what it had not, because whoever put
it there may just have put the rest there, too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

import attrs
from twisted.internet.interfaces import IReactorTime

from nora.oci import Reference, Repository
from nora.oci.errors import Unknown
from nora.upstream.outcomes import is_clean

T = TypeVar("T")

MAX_ABSENCES = 10_000
"""How many are remembered; the one asked for longest ago goes first."""

_Key = tuple[tuple[Repository, ...], Reference | None, type[Unknown]]
"""Where it was asked for, what, and the error: of one digest a manifest, a blob or its referrers may be missing."""


class AbsenceObserver(Protocol):
    """Hears what the memory is good for."""

    def negative_hit(self) -> None:
        """A client was answered 404 without asking an upstream."""


@attrs.define(eq=False)
class _Asking:
    """A question under way; what its repositories turn out to have meanwhile makes a no old news."""

    repositories: tuple[Repository, ...]
    outdated: bool = False


class Absences:
    """The memory of one process. `ttl` in seconds is how long a no counts; 0 remembers nothing."""

    def __init__(self, clock: IReactorTime, ttl: float, observer: AbsenceObserver) -> None:
        self._clock = clock
        self._ttl = ttl
        self._observer = observer
        self._known: OrderedDict[_Key, tuple[Unknown, float]] = OrderedDict()
        self._of: dict[Repository, set[_Key]] = {}
        """What of it each repository has a part in."""
        self._asking: set[_Asking] = set()

    def __len__(self) -> int:
        return len(self._known)

    async def ask(
        self,
        repositories: Iterable[Repository],
        reference: Reference | None,
        unknown: type[Unknown],
        work: Callable[[], Awaitable[T]],
    ) -> T:
        """Give what `work` gives, which asks for `reference` at all of `repositories`, in this order.

        Without a `reference` it is their tags.

        Where that lately came to a clean no, raises it again, an `unknown`, without any work.
        """
        asking = _Asking(tuple(repositories))
        key = (asking.repositories, reference, unknown)
        self._raise_known(key)
        self._asking.add(asking)
        try:
            return await work()
        except Unknown as error:
            if self._ttl > 0 and type(error) is unknown and is_clean(error) and not asking.outdated:
                self._remember(key, error)
            raise
        finally:
            self._asking.discard(asking)

    def forget(self, repository: Repository) -> None:
        """Forget everything that `repository` had not: it has something that it may not have had before."""
        for asking in self._asking:
            if repository in asking.repositories:
                asking.outdated = True
        for key in self._of.get(repository, set()).copy():
            self._drop(key)

    def _raise_known(self, key: _Key) -> None:
        known = self._known.get(key)
        if known is None:
            return
        error, until = known
        if self._clock.seconds() >= until:
            self._drop(key)
            return
        self._known.move_to_end(key)
        self._observer.negative_hit()
        raise type(error)(error.message, error.detail)

    def _remember(self, key: _Key, error: Unknown) -> None:
        # A new one: what was raised holds on to the frames that it went through.
        self._known[key] = (type(error)(error.message, error.detail), self._clock.seconds() + self._ttl)
        self._known.move_to_end(key)
        for repository in key[0]:
            self._of.setdefault(repository, set()).add(key)
        if len(self._known) > MAX_ABSENCES:
            self._drop(next(iter(self._known)))

    def _drop(self, key: _Key) -> None:
        del self._known[key]
        for repository in set(key[0]):
            mine = self._of[repository]
            mine.discard(key)
            if not mine:
                del self._of[repository]
