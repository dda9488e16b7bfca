"""An exchange: one question to a registry until it is answered, the token dance included, and what the answer means."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from twisted.internet.interfaces import IReactorTime

from nora.oci import check_name
from nora.oci.errors import InvalidName, Limited, NoraError, Unavailable, Unverified
from nora.upstream.challenge import bearer
from nora.upstream.client import Answer, Client, Leads, anywhere
from nora.upstream.limits import parse_retry_after
from nora.upstream.origin import Origin
from nora.upstream.outcomes import Absent
from nora.upstream.tokens import MAX_TOKEN_ANSWER, Fetched, Service, Token, Tokens

_MAX_ROUNDS = 4
_MAX_ERROR_BODY = 16 * 1024
_MAX_PATH = 1024
_REPOSITORY = re.compile(r"(?:/[^/]+)*?/v2/(.+)/(?:manifests|blobs|referrers|tags)/[^/]+\Z")


async def fetch_token(client: Client, clock: IReactorTime, url: str) -> Fetched:
    """Ask a token service; how long it takes is the caller's to bound."""
    answer = await client.request("GET", url, {"Accept": "application/json"})
    if answer.status == 200:
        return Fetched(200, await answer.read(MAX_TOKEN_ANSWER))
    await answer.drain()
    return Fetched(answer.status, b"", retry_after(answer, clock))


def retry_after(answer: Answer, clock: IReactorTime) -> int | None:
    """Tell how long a 429 asks to wait, in seconds."""
    return parse_retry_after(answer.header("Retry-After"), answer.header("Date"), clock.seconds())


class Exchange:
    """Asks the registry at `origin`, with the tokens that it and a second one behind it ask for."""

    def __init__(self, client: Client, tokens: Tokens, origin: Origin, clock: IReactorTime) -> None:
        self._client = client
        self._tokens = tokens
        self._origin = origin
        self._clock = clock

    async def ask(
        self, method: str, url: str, repository: str, headers: Mapping[str, str], leads: Leads = anywhere
    ) -> Answer:
        """Give the answer, whatever its status, once no other token could change it.

        Redirects are followed where `leads` says so.

        Each registry on the way is asked with a token of its own, renewed once when it is refused. Raises what
        `Client.request` and `Tokens.renew` do.
        """
        held: dict[Origin, Token] = {}
        token = await self._tokens.ahead(self._origin, repository)
        if token is not None:
            held[self._origin] = token

        def token_for(at: Origin, path: str) -> str | None:
            token = held.get(at) or self._tokens.kept(at, self._name_at(at, path, repository))
            return token.text if token is not None else None

        for _ in range(_MAX_ROUNDS):
            answer = await self._client.request(method, url, headers, token_for, leads)
            if not await _wants_token(answer):
                return answer
            renewed = await self._renew(answer, self._name_at(answer.origin, answer.path, repository), held)
            if renewed is None:
                return answer
            held[answer.origin] = renewed
        raise Unavailable("it refuses every token that it gives")

    def refusal(self, answer: Answer) -> NoraError:
        """Say what an answer that is not the wanted one means; its body is the caller's to end."""
        status = answer.status
        if status in (404, 410):
            return Absent(f"it answered {status}")
        if status in (401, 402, 403):
            if answer.origin == self._origin or answer.token is not None:
                return Absent(f"it answered {status} to an anonymous pull", denied=True)
            return Unavailable(f"the storage that it redirects to answered {status}")
        if status == 429:
            return Limited("it answered 429", retry_after(answer, self._clock))
        if status == 416:
            return Unverified("it has no bytes at the range asked for")
        if 200 <= status < 300:
            return Unverified(f"it answered {status}, which was not asked for")
        return Unavailable(f"it answered {status}")

    async def _renew(self, answer: Answer, name: str, held: Mapping[Origin, Token]) -> Token | None:
        """Get another token for where `answer` came from; None when none could help."""
        await answer.drain()
        at = answer.origin
        challenge = bearer(answer.headers("WWW-Authenticate"))
        if answer.token is not None:
            self._tokens.refused(at, name, answer.token)
        used = held.get(at)
        if (
            used is not None
            and used.fresh is not None
            and (challenge is None or Service.of(challenge) == used.fresh)
        ):
            return None
        return await self._tokens.renew(at, name, challenge)

    def _name_at(self, at: Origin, path: str, repository: str) -> str:
        """Tell what the repository is called at `at`: a second registry may know it by another name."""
        found = _REPOSITORY.match(path) if at != self._origin and len(path) <= _MAX_PATH else None
        try:
            return check_name(found[1]) if found else repository
        except InvalidName:
            return repository


async def _wants_token(answer: Answer) -> bool:
    """Tell whether another token may be the answer's cure: a 401, or a 403 that says that this one expired."""
    if answer.status == 403 and answer.token is not None:
        return b"expired" in (await answer.read(_MAX_ERROR_BODY)).lower()
    return answer.status == 401


async def says_invalid_name(answer: Answer) -> bool:
    """Tell whether a 400 means that no such repository can exist there: its error code is `NAME_INVALID`."""
    try:
        document = json.loads(await answer.read(_MAX_ERROR_BODY))
        return any(error["code"] == "NAME_INVALID" for error in document["errors"])
    except (ValueError, RecursionError, TypeError, KeyError, Unavailable):
        return False
