"""Logins: user names and passwords as they come in by HTTP; checked, limited per address, counted, logged, audited."""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

import base64
import binascii
from typing import Protocol

import attrs
from twisted.logger import Logger

from nora.access.limits import Attempts, TooManyLogins
from nora.access.passwords import Passwords
from nora.oci.errors import Overloaded
from nora.web.requests import RegistryRequest, Visit
from nora.web.visitors import visitor

MAX_HEADER = 16_384
_MAX_SHOWN = 128


class LoginObserver(Protocol):
    """Hears how logins end."""

    def login(self, outcome: str) -> None:
        """One ended: `accepted`, `refused`, `limited` (too many failed from its address) or `busy`."""


@attrs.frozen
class Basic:
    """A user name and a password, as the client sent them."""

    user: str
    password: str = attrs.field(repr=False)


@attrs.frozen
class Bearer:
    """A token, as the client sent it."""

    token: str = attrs.field(repr=False)


class Malformed(ValueError):
    """An `Authorization` that is neither Basic nor Bearer, or is cut short."""


def authorization(request: RegistryRequest) -> Basic | Bearer | None:
    """Read the header; None where there is none. Raises `Malformed`."""
    lines = request.requestHeaders.getRawHeaders(b"Authorization")
    if not lines:
        return None
    scheme, _, rest = lines[0].strip().partition(b" ")
    text = rest.strip()
    if len(lines) > 1 or not text or len(text) > MAX_HEADER:
        raise Malformed("the Authorization header cannot be read")
    if scheme.lower() == b"bearer":
        return Bearer(text.decode("latin-1"))
    if scheme.lower() != b"basic":
        raise Malformed("Authorization must be Basic or Bearer")
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("the Authorization header is no base64") from None
    user, colon, password = _text(decoded).partition(":")
    if not colon:
        raise Malformed("the Authorization header has no password")
    return Basic(user, password)


class Logins:
    """Checks passwords. `attempts` outlives a reload of the configuration, `passwords` does not."""

    _log = Logger()

    def __init__(self, passwords: Passwords, attempts: Attempts, observer: LoginObserver) -> None:
        self.passwords = passwords
        self._attempts = attempts
        self._observer = observer

    async def check(self, request: RegistryRequest, user: str, password: str) -> bool:
        """Tell whether it is the user's password; raises `TooManyLogins`, and `Overloaded` when too many ask at once.

        What was right a short while ago costs nothing, and is right whatever else came from the same address.
        """
        await self.passwords.renew()
        if self.passwords.remembers(user, password):
            return True
        address = visitor(request).address
        try:
            self._attempts.begin(address)
        except TooManyLogins:
            self._failed(request, user, "limited")
            raise
        right = None
        try:
            right = await self.passwords.check(user, password)
        except Overloaded:
            self._failed(request, user, "busy")
            raise
        finally:
            self._attempts.end(address, right)
        if right:
            self._observer.login("accepted")
        else:
            self._failed(request, user, "refused")
            self._log.warn(
                "login of {user} from {address} refused",
                user=printable(user),
                address=address or "a UNIX socket",
            )
        return right

    def _failed(self, request: RegistryRequest, user: str, outcome: str) -> None:
        self._observer.login(outcome)
        note_login(request, user)


def note_login(request: RegistryRequest, user: str | None) -> None:
    """Make the audit log tell of `request` as a login of `user`, by the name that was tried."""
    visit = request.visit
    if visit is None:
        visit = request.visit = Visit(repository="", reference="")
    visit.action = "login"
    visit.user = None if user is None else printable(user)


def printable(text: str) -> str:
    """Make a text from outside one that can be shown: bounded, and without what a terminal would obey."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:_MAX_SHOWN])


def _text(data: bytes) -> str:
    """Read what should be UTF-8 (RFC 7617) and, from old clients, is not."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
