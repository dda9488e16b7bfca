"""Refusals: a credential that was refused is not shown again and again, because that is how accounts get locked.

After a refusal the same credential is kept back for a pause: 30 s at first, twice as long each time, 15 min at most,
jittered. When it is over one exchange shows it, and the others wait for what comes of that; so it is, too, with a
credential that was never taken yet, however many clients come at once. Any other credential starts anew. That it was
taken once ends the pause but not the growth: some registries take whatever is shown with a request that they would
have answered without.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.interfaces import IReactorTime

from nora.concurrency import Waiters
from nora.oci.errors import Unavailable
from nora.upstream.credential import Credential

T = TypeVar("T")

FIRST_PAUSE = 30.0
LONGEST_PAUSE = 900.0
"""Seconds for which a refused credential is kept back, at first and at most; each is halved at most by jitter."""


class CredentialRefused(Unavailable):
    """The upstream, or its token service, does not take our credential. `shown`: it was asked just now."""

    def __init__(self, *, shown: bool = True) -> None:
        super().__init__("our credential was refused")
        self.shown = shown


class Refusals:
    """What became of showing the credentials of one upstream. `random` gives numbers from 0 to 1."""

    def __init__(self, clock: IReactorTime, random: Callable[[], float]) -> None:
        self._clock = clock
        self._random = random
        self._taken: Credential | None = None
        self._refused: Credential | None = None
        self._count = 0
        self._last = 0.0
        self._until = 0.0
        self._showing: Credential | None = None
        self._shown: Waiters[None] = Waiters()

    def was_taken(self, credential: Credential) -> bool:
        """Tell whether the last that is known of `credential` is that it was taken."""
        return credential == self._taken

    def require_free(self, credential: Credential) -> None:
        """Raise `CredentialRefused` while `credential` is kept back."""
        if self.keeps_back(credential):
            raise CredentialRefused(shown=False)

    def keeps_back(self, credential: Credential) -> bool:
        """Tell whether it was refused so lately that it is not shown again."""
        return credential == self._refused and self._clock.seconds() < self._until

    def next_try(self) -> float:
        """Tell in how many seconds what was refused may be shown again."""
        return max(0.0, self._until - self._clock.seconds())

    def forget(self) -> None:
        """Keep nothing back: a person says that something changed."""
        self._refused = None
        self._count = 0

    async def show(self, credential: Credential, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do `work`, which shows `credential`, and raises `CredentialRefused` when it is not taken.

        `work` says by `taken` that it was. Without having been taken it is shown once at a time. Raises
        `CredentialRefused` without any work while the credential is kept back.
        """
        while self._showing == credential and not self.was_taken(credential):
            await self._shown.wait()
        self.require_free(credential)
        if self.was_taken(credential):
            return await self._show(credential, work)
        self._showing = credential
        try:
            return await self._show(credential, work)
        finally:
            if self._showing == credential:
                self._showing = None
            self._shown.succeed(None)

    def taken(self, credential: Credential) -> None:
        """Take note that it was."""
        self._taken = credential
        if credential == self._refused:
            self._until = 0.0

    async def _show(self, credential: Credential, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return await work()
        except CredentialRefused as error:
            if error.shown:
                self._note(credential)
            raise

    def _note(self, credential: Credential) -> None:
        now = self._clock.seconds()
        if self.keeps_back(credential):
            return  # it was under way when another one was refused
        if credential != self._refused or now - self._last > 2 * LONGEST_PAUSE:
            self._count = 0
        if credential == self._taken:
            self._taken = None
        longest = min(FIRST_PAUSE * 2.0**self._count, LONGEST_PAUSE)
        self._refused = credential
        self._count = min(self._count + 1, 16)
        self._last = now
        self._until = now + longest * (0.5 + 0.5 * self._random())
