"""Logging in: whom our credential may be shown to, and asking a token service with it.

It goes to its upstream itself and to a token service that is on the same host, in the table here, or named by the
operator; over http only where the upstream is http; and a redirect never takes it along.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlencode

import attrs
from twisted.internet.interfaces import IReactorTime

from nora.oci.errors import Unavailable
from nora.upstream.challenge import parse_challenges
from nora.upstream.client import Answer, Client
from nora.upstream.credential import Credential, Kind
from nora.upstream.credentials import Credentials
from nora.upstream.limits import parse_retry_after
from nora.upstream.origin import BadURL, Origin
from nora.upstream.refusals import CredentialRefused
from nora.upstream.tokens import MAX_TOKEN_ANSWER, Fetched, Service

_TOKEN_SERVICES = {
    "registry-1.docker.io": "auth.docker.io",
    "index.docker.io": "auth.docker.io",
    "docker.io": "auth.docker.io",
    "registry.gitlab.com": "gitlab.com",
}
"""Registries whose token service is on another host. Both by https."""


@attrs.frozen
class Realms:
    """The token services that our credential at `origin` may go to; `listed` are hosts, with their port if any."""

    origin: Origin
    listed: frozenset[str] = frozenset()

    def trusts(self, realm: Origin) -> bool:
        """Tell whether `realm` is one of them."""
        if realm.scheme == "http" and self.origin.scheme == "https":
            return False
        if realm.host == self.origin.host or realm.netloc in self.listed:
            return True
        return realm.scheme == "https" and realm.netloc == _TOKEN_SERVICES.get(self.origin.netloc)


class Login:
    """How one upstream wants our credential, as far as it has said so."""

    def __init__(self, credentials: Credentials, origin: Origin, realms: Iterable[str] = ()) -> None:
        self.credentials = credentials
        self.basic = False
        """The upstream itself asked for Basic credentials."""
        self._realms = Realms(origin, frozenset(realms))

    def header(self, credential: Credential) -> str | None:
        """Give the `Authorization` that goes to the upstream itself; None where a token service comes first."""
        if credential.kind is Kind.BEARER or (self.basic and credential.kind is Kind.BASIC):
            return credential.header()
        return None

    def learn(self, lines: Iterable[str], credential: Credential) -> bool:
        """Learn from the upstream's challenges whether it wants Basic credentials; True when that is news.

        Raises `Unavailable` when it does and ours is none.
        """
        schemes = {challenge.scheme for challenge in parse_challenges(lines)}
        basic = "basic" in schemes and "bearer" not in schemes
        if basic and credential.kind is not Kind.BASIC:
            raise self.credentials.unusable(
                "it asks for a user and a password, and our credential is a token"
            )
        news = basic != self.basic and bool(schemes)
        if schemes:
            self.basic = basic
        return news

    def require_trusted(self, service: Service) -> None:
        """Raise `Unavailable` unless our credential may go to the token service."""
        try:
            realm = Origin.of(service.realm)
        except BadURL as bad:
            raise Unavailable(f"its challenge names {bad}") from None
        if not self._realms.trusts(realm):
            raise self.credentials.unusable(
                f"its token service is at {realm.netloc}, where our credential does not go unless `realms` names it"
            )


async def log_in(
    client: Client,
    clock: IReactorTime,
    credentials: Credentials,
    service: Service,
    scope: str,
    credential: Credential,
) -> Fetched:
    """Ask a token service that may have `credential` for a token of `scope`. Its time is the caller's to bound.

    Raises `CredentialRefused`. A 403 is ambiguous: some answer so to a wrong password, some to a repository that is
    not ours. A question without a scope, which is all that a login asks, tells them apart. It does so for a 401 to a
    credential that was taken before, too: nobody shall make us keep it back by asking for what is not ours.
    """
    answer = await _ask(client, service, scope, credential)
    if answer.status == 403 or (answer.status == 401 and credentials.was_taken(credential)):
        await answer.drain()
        checked = await _ask(client, service, None, credential)
        await checked.drain()
        if checked.status in (401, 403):
            raise CredentialRefused
        return Fetched(403, b"")
    if answer.status == 200:
        credentials.taken(credential)
        return Fetched(200, await answer.read(MAX_TOKEN_ANSWER))
    await answer.drain()
    if answer.status == 401:
        raise CredentialRefused
    retry = parse_retry_after(answer.header("Retry-After"), answer.header("Date"), clock.seconds())
    return Fetched(answer.status, b"", retry)


async def _ask(client: Client, service: Service, scope: str | None, credential: Credential) -> Answer:
    realm = Origin.of(service.realm)
    url = service.realm.partition("#")[0]
    fields = [("service", service.service)] if service.service else []
    fields += [("scope", scope)] if scope else []
    headers = {"Accept": "application/json"}
    if credential.kind is Kind.IDENTITY:
        fields += [
            ("grant_type", "refresh_token"),
            ("client_id", "nora"),
            ("refresh_token", credential.secret),
        ]
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        return await client.request("POST", url, headers, data=urlencode(fields).encode())

    def only_there(at: Origin, _: str) -> str | None:
        return credential.header() if at == realm else None

    if fields:
        url = f"{url}{'&' if '?' in url else '?'}{urlencode(fields)}"
    return await client.request("GET", url, headers, only_there)
