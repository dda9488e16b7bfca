"""Tokens: what `/v2/token` gives out, and what comes back as `Authorization: Bearer`.

JSON Web Tokens (RFC 7519) with the claims of the Docker token specification, signed by HS256 with a key that only this
store has. One says who logged in and which names and actions it was asked for; what the operator's rules allow is
looked up at each request, so that a change of them counts at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import attrs
import jwt

from nora.access import scopes as scopes_of
from nora.access.rights import Action
from nora.access.scopes import Scopes

ISSUER = "nora"
MAX_TOKEN = 16_384
"""The longest token that is looked at, in characters."""
_ALGORITHM = "HS256"
_SKEW = 5.0
"""Seconds that a token may come from the future: clocks are set back a little."""
_MAX_REMEMBERED = 4096
_REQUIRED = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"]


class BadToken(ValueError):
    """A token that is not ours, not for this service, or not valid any more; the message holds nothing of it."""


@attrs.frozen
class Grant:
    """What a token says. `user` is None for an anonymous client; times are in seconds since the epoch."""

    user: str | None
    scopes: Scopes
    audience: str
    expires: float


@attrs.frozen
class Issued:
    """A new token, for how many seconds it is good, and since when, in seconds since the epoch."""

    text: str = attrs.field(repr=False)
    lifetime: int
    since: int


class Tokens:
    """Makes tokens and reads them.

    `key` gives the key, 32 random bytes; `now` seconds since the epoch; `new_id` a name that no token had. A token is
    good for `lifetime` seconds.
    """

    def __init__(
        self, key: Callable[[], bytes], now: Callable[[], float], new_id: Callable[[], str], lifetime: int
    ) -> None:
        self._key = key
        self._now = now
        self._new_id = new_id
        self._lifetime = lifetime
        self._remembered: OrderedDict[str, Grant] = OrderedDict()

    def issue(self, user: str | None, audience: str, scopes: Scopes) -> Issued:
        """Make a token for `user` at the service `audience`."""
        since = int(self._now())
        claims = {
            "iss": ISSUER,
            "sub": user or "",
            "aud": audience,
            "exp": since + self._lifetime,
            "nbf": since,
            "iat": since,
            "jti": self._new_id(),
            "access": [
                {"type": "repository", "name": name, "actions": actions}
                for name, actions in scopes_of.by_name(scopes)
            ],
        }
        return Issued(jwt.encode(claims, self._key(), _ALGORITHM), self._lifetime, since)

    def verify(self, text: str, audience: str | None) -> Grant:
        """Read a token; `audience` is the service that it must be for, None for any. Raises `BadToken`."""
        grant = self._remembered.get(text)
        if grant is None:
            grant = self._read(text)
            self._remembered[text] = grant
            while len(self._remembered) > _MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        if grant.expires <= self._now():
            del self._remembered[text]
            raise BadToken("the token has expired")
        if audience is not None and grant.audience != audience:
            raise BadToken("the token is for another service")
        return grant

    def _read(self, text: str) -> Grant:
        if len(text) > MAX_TOKEN or not text.isascii():
            raise BadToken("this is no token of this server")
        # Times are compared by our own clock.
        unchecked: Any = {f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud")}
        unchecked["require"] = _REQUIRED
        try:
            claims: dict[str, Any] = jwt.decode(
                text,
                self._key(),
                algorithms=[_ALGORITHM],
                issuer=ISSUER,
                options=unchecked,
            )
            user, audience = claims["sub"], claims["aud"]
            if not isinstance(user, str) or not isinstance(audience, str):
                raise BadToken("this is no token of this server")
            if claims["nbf"] > self._now() + _SKEW:
                raise BadToken("the token is not valid yet")
            scopes = frozenset(
                (entry["name"], Action(word)) for entry in claims["access"] for word in entry["actions"]
            )
            return Grant(user or None, scopes, audience, float(claims["exp"]))
        except BadToken:
            raise
        except (jwt.PyJWTError, RecursionError, KeyError, TypeError, ValueError) as error:
            raise BadToken("this is no token of this server") from error
