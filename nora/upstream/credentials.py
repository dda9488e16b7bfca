"""Our credential at one upstream: read where it is kept, read again when that changed or when it was refused.

Where it comes from is a `Source`; `Credentials` keeps what a source gave, so that a program that makes passwords
runs once for all who wait, and tells the operator, once for each change, when the upstream refuses it; how often it is
shown then, `nora.upstream.refusals` says. There is no way back to an anonymous request: that would look like an image
that is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nora.concurrency import Background, SingleFlight
from nora.oci.errors import Unavailable
from nora.upstream.credential import Credential
from nora.upstream.refusals import CredentialRefused, Refusals

T = TypeVar("T")

PAUSE = 10.0
"""Seconds between two runs of a program for credentials that fail or are refused."""

_UNREADABLE = "our credential cannot be read"


class Unreadable(Exception):
    """A source gave no credential. The text is for the operator's log: it may hold a path, never a secret."""


class Source(Protocol):
    """Where a credential is kept."""

    lifetime: float
    """For how many seconds what was read is good, unless the stamp changes; infinite for a file's content."""
    pause: float
    """How many seconds to wait before it is read again after a failure or a refusal."""

    def stamp(self) -> object:
        """Give a value that changes when the credential is to be read again: made by `stat` alone."""

    async def read(self) -> Credential:
        """Read it; raises `Unreadable`."""


class CredentialObserver(Protocol):
    """Hears of refusals."""

    def credential_refused(self, upstream: str) -> None:
        """Tell that `upstream` did not take our credential."""


@attrs.frozen
class Trouble:
    """What keeps our credential from being of use, in words that hold no secret; `since` seconds since the epoch."""

    text: str
    since: float
    next_try: float | None = None
    """In how many seconds what was refused may be shown again; None where it was not refused."""


class Credentials:
    """The credential at the upstream called `upstream`. `random` gives numbers from 0 to 1."""

    _log = Logger()

    def __init__(
        self,
        source: Source,
        upstream: str,
        clock: IReactorTime,
        background: Background,
        observer: CredentialObserver,
        random: Callable[[], float],
    ) -> None:
        self._source = source
        self._upstream = upstream
        self._clock = clock
        self._observer = observer
        self._refusals = Refusals(clock, random)
        self._flights: SingleFlight[None, Credential] = SingleFlight(background)
        self._kept: Credential | None = None
        self._stamp: object = None
        self._until = 0.0
        self._failed_until = 0.0
        self._again_at = 0.0
        self._told: object = None
        self._trouble: Trouble | None = None

    async def get(self) -> Credential:
        """Give the credential, read once for all who wait; raises `Unavailable` when it cannot be read.

        One that was refused lately is read again, and while it is the same raises `CredentialRefused`.
        """
        credential = await self._read_lately()
        if self._refusals.keeps_back(credential):
            credential = await self._read_again(credential)
            self._refusals.require_free(credential)
        return credential

    async def another(self, refused: Credential, error: CredentialRefused) -> Credential:
        """Read again what was `refused` with `error`; raises that, and tells so, when it has not changed."""
        current = await self._read_again(refused)
        if current == refused:
            self.refused(refused, error)
            raise error
        return current

    async def show(self, credential: Credential, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do `work`, which shows the credential and raises `CredentialRefused` when it is not taken.

        Else it calls `taken`, where the answer tells that. See `nora.upstream.refusals`: raises
        `CredentialRefused` without any work while the credential is kept back.
        """
        return await self._refusals.show(credential, work)

    def was_taken(self, credential: Credential) -> bool:
        """Tell whether it was taken when it was shown last."""
        return self._refusals.was_taken(credential)

    def taken(self, credential: Credential) -> None:
        """Tell that it works: the next refusal is news again."""
        self._refusals.taken(credential)
        self._told = self._trouble = None

    def refused(self, credential: Credential, error: CredentialRefused) -> None:
        """Tell of a refusal: count it where it was shown, and log it once for each credential."""
        if error.shown:
            self._observer.credential_refused(self._upstream)
            text = "our credential was refused: it, or where it is kept, must be changed"
            self._tell(credential, text, error.message)

    def unusable(self, reason: str) -> Unavailable:
        """Tell, once, why the credential could not be sent; gives the error to raise."""
        self._tell(reason, reason, reason)
        return Unavailable(reason)

    def forgive(self) -> None:
        """Show again what was refused, because a person may have seen to it."""
        self._refusals.forget()
        self._failed_until = 0.0

    def trouble(self) -> Trouble | None:
        """Tell what a person must see to; None when nothing is known to be wrong."""
        if self._trouble is not None and isinstance(self._told, Credential):
            return attrs.evolve(self._trouble, next_try=self._refusals.next_try())
        return self._trouble

    def _tell(self, news: object, text: str, brief: str) -> None:
        if news != self._told:
            self._told = news
            self._trouble = Trouble(brief, self._clock.seconds())
            self._log.error("upstream {upstream}: {text}", upstream=self._upstream, text=text)

    async def _read_lately(self) -> Credential:
        now = self._clock.seconds()
        stamp = self._source.stamp()
        if self._kept is not None and now < self._until and stamp == self._stamp:
            return self._kept
        if now < self._failed_until and stamp == self._stamp:
            raise Unavailable(_UNREADABLE)
        return await self._flights.run(None, self._read)

    async def _read_again(self, refused: Credential) -> Credential:
        """Read what may have changed though its stamp did not, a program's no more often than its pause."""
        now = self._clock.seconds()
        if self._kept == refused and now >= self._again_at:
            self._again_at = now + self._source.pause
            self._kept = None
        return await self._read_lately()

    async def _read(self) -> Credential:
        self._stamp = self._source.stamp()
        began = self._clock.seconds()
        try:
            credential = await self._source.read()
        except Unreadable as error:
            self._kept = None
            self._failed_until = self._clock.seconds() + self._source.pause
            self._tell(str(error), f"{_UNREADABLE}: {error}", _UNREADABLE)
            raise Unavailable(_UNREADABLE) from None
        self._kept = credential
        self._until = began + self._source.lifetime
        if self._trouble is not None and self._trouble.text == _UNREADABLE:
            self._told = self._trouble = None
        return credential
