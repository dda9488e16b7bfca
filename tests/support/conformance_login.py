"""How a check of a registry shows who it is: by a password with each request, or by tokens, as a challenge says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.support.doors import basic

if TYPE_CHECKING:
    from tests.support.conformance import Answer

_ENDPOINT = re.compile(r"(/v2/.+?/(?:blobs/uploads|blobs|manifests|tags|referrers))/")
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')

Fetch = Callable[[str, Mapping[str, str]], "Answer"]


class Login:
    """A user. `at_once` sends the password with each request; else a challenge is waited for, as clients do.

    What answers challenges is kept, and shown again where the same was asked for.
    """

    def __init__(self, user: str, password: str, at_once: bool = False) -> None:
        self._basic = basic(user, password)
        self._at_once = at_once
        self._given: dict[tuple[str, ...], str] = {}

    @property
    def has_tokens(self) -> bool:
        """Whether a challenge led to a token service."""
        return any(given.startswith("Bearer ") for given in self._given.values())

    def header(self, method: str, url: str) -> str | None:
        """Give the `Authorization` of a request; None where the registry has to say first what it wants."""
        return self._basic if self._at_once else self._given.get(_endpoint(method, url))

    def answer(self, method: str, url: str, refused: Answer, fetch: Fetch) -> str | None:
        """Give the `Authorization` that a 401 asks for; `fetch` gets a token. None where there is no better one."""
        if self._at_once:
            return None
        challenge: str = refused.headers["WWW-Authenticate"] or ""
        kind, _, rest = challenge.partition(" ")
        if kind == "Basic":
            given = self._basic
        else:
            assert kind == "Bearer", f"WWW-Authenticate: {challenge}"
            asked = dict(_PARAMETER.findall(rest))
            query = urlencode(
                [("service", asked["service"]), *(("scope", each) for each in asked.get("scope", "").split())]
            )
            told = fetch(f"{asked['realm']}?{query}", {"Authorization": self._basic}).expect(200).json
            given = f"Bearer {told['token']}"
        self._given[_endpoint(method, url)] = given
        return given


def _endpoint(method: str, url: str) -> tuple[str, ...]:
    """Name what is asked for so that the same token is good for all that has the same name."""
    parts = urlsplit(url)
    found = _ENDPOINT.match(parts.path)
    return (method, found[1] if found else parts.path, *parse_qs(parts.query).get("from", []))
