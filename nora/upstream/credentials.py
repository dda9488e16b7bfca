"""Our credential at one upstream: read where it is kept, read again when that changed or when it was refused.

A credential is a value whose secret no `repr` shows. Where it comes from is a `Source`; `Credentials` keeps what a
source gave, so that a program that makes passwords runs once for all who wait, and tells the operator, once for each
change, when the upstream refuses it. There is no way back to an anonymous request: that would look like an
image that is gone.
"""

from __future__ import annotations

import base64
import enum
from typing import Protocol

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nora.concurrency import Background, SingleFlight
from nora.oci.errors import Unavailable

MAX_SECRET = 64 * 1024
"""The longest password or token, in characters."""
PAUSE = 10.0
"""Seconds between two runs of a program for credentials that fail or are refused."""


class Kind(enum.Enum):
    """How a credential is shown to whom it is for."""

    BASIC = "basic"
    """User and password: to the upstream itself, or to its token service."""
    IDENTITY = "identity"
    """A token that the token service exchanges for others, and nobody else takes."""
    BEARER = "bearer"
    """A token that the upstream itself takes."""


@attrs.frozen(repr=False, str=False)
class Credential:
    """One credential; `user` is empty unless it is a Basic one. Shown as its kind alone."""

    kind: Kind
    user: str
    secret: str

    def header(self) -> str:
        """Give the value of `Authorization`; not for an identity token."""
        if self.kind is Kind.BASIC:
            pair = f"{self.user}:{self.secret}".encode()
            return f"Basic {base64.b64encode(pair).decode('ascii')}"
        return f"Bearer {self.secret}"

    def __repr__(self) -> str:
        return f"<{self.kind.value} credential>"

    __str__ = __repr__


class Unreadable(Exception):
    """A source gave no credential. The text is for the operator's log: it may hold a path, never a secret."""


class CredentialRefused(Unavailable):
    """The upstream, or its token service, does not take our credential."""

    def __init__(self) -> None:
        super().__init__("our credential was refused")


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


class Credentials:
    """The credential at the upstream called `upstream`."""

    _log = Logger()

    def __init__(
        self,
        source: Source,
        upstream: str,
        clock: IReactorTime,
        background: Background,
        observer: CredentialObserver,
    ) -> None:
        self._source = source
        self._upstream = upstream
        self._clock = clock
        self._observer = observer
        self._flights: SingleFlight[None, Credential] = SingleFlight(background)
        self._kept: Credential | None = None
        self._stamp: object = None
        self._until = 0.0
        self._failed_until = 0.0
        self._again_at = 0.0
        self._told: object = None

    async def get(self) -> Credential:
        """Give the credential, read once for all who wait; raises `Unavailable` when it cannot be read."""
        now = self._clock.seconds()
        stamp = self._source.stamp()
        if self._kept is not None and now < self._until and stamp == self._stamp:
            return self._kept
        if now < self._failed_until and stamp == self._stamp:
            raise Unavailable("our credential cannot be read")
        return await self._flights.run(None, self._read)

    async def another(self, refused: Credential) -> Credential:
        """Read again what was `refused`; raises `CredentialRefused`, and tells so, when it has not changed."""
        now = self._clock.seconds()
        if self._kept == refused and now >= self._again_at:
            self._again_at = now + self._source.pause
            self._kept = None
        current = await self.get()
        if current == refused:
            self.refused(refused)
            raise CredentialRefused
        return current

    def refused(self, credential: Credential) -> None:
        """Tell of a refusal: count it, and log it once for each credential."""
        self._observer.credential_refused(self._upstream)
        self._tell(credential, "our credential was refused: it, or where it is kept, must be changed")

    def unusable(self, reason: str) -> Unavailable:
        """Tell, once, why the credential could not be sent; gives the error to raise."""
        self._tell(reason, reason)
        return Unavailable(reason)

    def accepted(self) -> None:
        """Tell that it works: the next refusal is news again."""
        self._told = None

    def _tell(self, news: object, text: str) -> None:
        if news != self._told:
            self._told = news
            self._log.error("upstream {upstream}: {text}", upstream=self._upstream, text=text)

    async def _read(self) -> Credential:
        self._stamp = self._source.stamp()
        began = self._clock.seconds()
        try:
            credential = await self._source.read()
        except Unreadable as error:
            self._kept = None
            self._failed_until = self._clock.seconds() + self._source.pause
            self._tell(str(error), f"our credential cannot be read: {error}")
            raise Unavailable("our credential cannot be read") from None
        self._kept = credential
        self._until = began + self._source.lifetime
        return credential
