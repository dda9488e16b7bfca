"""Bearer tokens: the dance that a registry's 401 asks for (the distribution project's token specification).

Tokens are kept per origin, credential and scope for 5 minutes or their `expires_in`, whichever is shorter, fetched
once for all who wait, and asked for before the first request to a repository once the origin's token service is known.
The scope is that of the repository wanted, never the one a challenge echoes, which may be a placeholder.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from urllib.parse import unquote_plus, urlencode

import attrs
from twisted.internet.interfaces import IReactorTime

from nora.concurrency import Background, SingleFlight
from nora.oci.errors import Limited, Unavailable
from nora.upstream.challenge import Challenge
from nora.upstream.credential import Credential
from nora.upstream.origin import BadURL, Origin
from nora.upstream.outcomes import Absent

LIFETIME = 300.0
"""The longest that a token is used, in seconds."""
MARGIN = 5.0
"""How long before its end a token is not used any more, in seconds."""
MAX_TOKENS = 10_000
MAX_TOKEN_ANSWER = 64 * 1024
"""The longest answer of a token service, in bytes."""

_MAX_SERVICES = 64
_TOKEN = re.compile(r"[\x21-\x7e]{1,32768}\Z")
_REPOSITORY_SCOPE = "repository:"


@attrs.frozen
class Fetched:
    """A token service's answer; `retry_after` in seconds, None when it did not say."""

    status: int
    body: bytes = attrs.field(repr=False)
    retry_after: int | None = None

    @property
    def outcome(self) -> str:
        """The word for it, as in `nora.upstream.observer`."""
        if self.status == 200:
            return "found"
        if self.status in (401, 403):
            return "denied"
        return "limited" if self.status == 429 else "unavailable"


@attrs.frozen
class Service:
    """Where an origin's tokens come from. `scope` is set only where one scope serves all repositories."""

    realm: str
    service: str | None
    scope: str | None

    @classmethod
    def of(cls, challenge: Challenge) -> Service:
        """Read it from a Bearer challenge."""
        told = challenge.parameters.get("scope")
        fixed = told if told and not told.startswith(_REPOSITORY_SCOPE) else None
        return cls(challenge.parameters.get("realm", ""), challenge.parameters.get("service") or None, fixed)

    def scope_for(self, repository: str) -> str:
        """Tell the scope to ask for."""
        return self.scope or f"{_REPOSITORY_SCOPE}{repository}:pull"

    def url_for(self, repository: str, origin: Origin) -> str:
        """Give the URL to ask; a query that the realm has of its own stays, but for a repository's scope in it.

        Raises `Unavailable` for an unsafe realm.
        """
        try:
            scheme = Origin.of(self.realm).scheme
        except BadURL as bad:
            raise Unavailable(f"its challenge names {bad}") from None
        if scheme == "http" and origin.scheme == "https":
            raise Unavailable("its challenge leads from https to http")
        query = [("service", self.service)] if self.service else []
        query.append(("scope", self.scope_for(repository)))
        realm = _without_scope(self.realm.partition("#")[0])
        return f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"


def _without_scope(realm: str) -> str:
    """Leave a repository's scope out of a realm's own query: like one in the challenge it may be a placeholder."""
    path, mark, query = realm.partition("?")
    kept = [
        pair for pair in query.split("&") if not unquote_plus(pair).startswith(f"scope={_REPOSITORY_SCOPE}")
    ]
    return f"{path}{mark}{'&'.join(kept)}" if any(kept) else path


@attrs.frozen
class Token:
    """A bearer token. `fresh` tells the service that gave it just now, None when it was kept from before."""

    text: str = attrs.field(repr=lambda _: "***")
    fresh: Service | None = None

    @property
    def header(self) -> str:
        """The value of `Authorization`."""
        return f"Bearer {self.text}"


Fetch = Callable[[str], Awaitable[Fetched]]
LogIn = Callable[[Service, str, Credential], Awaitable[Fetched]]
_Key = tuple[Origin, Credential | None, str]


class Tokens:
    """The tokens of one upstream and of whomever it redirects to, those of each credential apart.

    `fetch` asks a URL, bounded in time and in `MAX_TOKEN_ANSWER`; `log_in` asks a token service for a scope with a
    credential, raising `CredentialRefused`.
    """

    def __init__(
        self,
        fetch: Fetch,
        clock: IReactorTime,
        background: Background,
        log_in: LogIn | None = None,
    ) -> None:
        self._fetch = fetch
        self._log_in = log_in
        self._clock = clock
        self._kept: OrderedDict[_Key, tuple[str, float]] = OrderedDict()
        self._services: OrderedDict[Origin, Service] = OrderedDict()
        self._flights: SingleFlight[tuple[_Key, Service], str] = SingleFlight(background)

    def __len__(self) -> int:
        return len(self._kept)

    async def ahead(
        self, origin: Origin, repository: str, credential: Credential | None = None
    ) -> Token | None:
        """Give a token to begin with: a kept one, or a new one where the token service is known; else None.

        Raises what `renew` does.
        """
        service = self._services.get(origin)
        if service is None:
            return None
        kept = self.kept(origin, repository, credential)
        return kept if kept is not None else await self._obtain(origin, repository, service, credential)

    async def renew(
        self,
        origin: Origin,
        repository: str,
        challenge: Challenge | None,
        credential: Credential | None = None,
    ) -> Token | None:
        """Give a new token, as `challenge` (or the last one known) asks; None when there never was one.

        Raises `Absent` with `denied` when the token service refuses an anonymous client, or one with a credential
        this repository; `CredentialRefused` when it refuses the credential; `Limited` and `Unavailable`.
        """
        if challenge is not None:
            service = Service.of(challenge)
            self._services[origin] = service
            self._services.move_to_end(origin)
            if len(self._services) > _MAX_SERVICES:
                self._services.popitem(last=False)
        elif origin not in self._services:
            return None
        return await self._obtain(origin, repository, self._services[origin], credential)

    def kept(self, origin: Origin, repository: str, credential: Credential | None = None) -> Token | None:
        """Give the kept token that is still good, None when there is none."""
        service = self._services.get(origin)
        if service is None:
            return None
        key = (origin, credential, service.scope_for(repository))
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept[1] <= self._clock.seconds():
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return Token(kept[0])

    def refused(
        self, origin: Origin, repository: str, authorization: str, credential: Credential | None = None
    ) -> None:
        """Drop the token that `authorization` was, unless another has taken its place."""
        service = self._services.get(origin)
        if service is not None:
            key = (origin, credential, service.scope_for(repository))
            if Token(self._kept.get(key, ("", 0.0))[0]).header == authorization:
                del self._kept[key]

    async def _obtain(
        self, origin: Origin, repository: str, service: Service, credential: Credential | None
    ) -> Token:
        url = service.url_for(repository, origin)
        key = (origin, credential, service.scope_for(repository))
        text = await self._flights.run((key, service), lambda: self._ask(url, service, key))
        return Token(text, service)

    async def _ask(self, url: str, service: Service, key: _Key) -> str:
        since = self._clock.seconds()
        _, credential, scope = key
        if credential is None or self._log_in is None:
            answer = await self._fetch(url)
        else:
            answer = await self._log_in(service, scope, credential)
        text, lifetime = _read(answer)
        if lifetime > MARGIN:
            self._kept[key] = (text, since + lifetime - MARGIN)
            self._kept.move_to_end(key)
            if len(self._kept) > MAX_TOKENS:
                self._kept.popitem(last=False)
        return text


def _read(answer: Fetched) -> tuple[str, float]:
    """Read the token and its lifetime in seconds from the service's answer."""
    if answer.status in (401, 403):
        raise Absent("the token service refuses us this repository", denied=True)
    if answer.status == 429:
        raise Limited("the token service asks to wait", answer.retry_after)
    if answer.status != 200:
        raise Unavailable(f"the token service answered {answer.status}")
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise Unavailable("the token service's answer is not a JSON object")
    text = document.get("token") or document.get("access_token")
    if not isinstance(text, str) or not _TOKEN.match(text):
        raise Unavailable("the token service's answer has no token")
    told = document.get("expires_in")
    if not isinstance(told, int | float) or isinstance(told, bool) or not told > 0:
        return text, LIFETIME
    return text, float(min(told, LIFETIME))
