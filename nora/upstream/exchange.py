"""An exchange: one question to a registry until it is answered, the token dance included, and what the answer means."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from twisted.internet.interfaces import IReactorTime

from nora.oci import check_name
from nora.oci.errors import InvalidName, Limited, NoraError, Unavailable, Unverified
from nora.upstream.challenge import bearer
from nora.upstream.client import Answer, Client, Leads, anywhere
from nora.upstream.credential import Credential
from nora.upstream.credentials import Credentials
from nora.upstream.limits import parse_retry_after
from nora.upstream.login import Login
from nora.upstream.origin import Origin
from nora.upstream.outcomes import Absent
from nora.upstream.refusals import CredentialRefused
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
    """Asks the registry at `origin`, with the tokens that it and a second one behind it ask for.

    With a `login` the registry at `origin`, and nobody else, is asked with our credential.
    """

    def __init__(
        self, client: Client, tokens: Tokens, origin: Origin, clock: IReactorTime, login: Login | None = None
    ) -> None:
        self._client = client
        self._tokens = tokens
        self._origin = origin
        self._clock = clock
        self._login = login

    async def ask(
        self, method: str, url: str, repository: str, headers: Mapping[str, str], leads: Leads = anywhere
    ) -> Answer:
        """Give the answer, whatever its status, once no other token or credential could change it.

        Redirects are followed where `leads` says so.

        Each registry on the way is asked with a token of its own, renewed once when it is refused; a credential
        that is refused is read again, once. Raises what `Client.request`, `Tokens.renew` and `Credentials` do.
        """
        if self._login is None:
            return await self._ask(method, url, repository, headers, leads, None)
        credentials = self._login.credentials
        credential = await credentials.get()
        try:
            return await self._ask(method, url, repository, headers, leads, credential)
        except CredentialRefused as refused:
            credential = await credentials.another(credential, refused)
        try:
            return await self._ask(method, url, repository, headers, leads, credential)
        except CredentialRefused as refused:
            credentials.refused(credential, refused)
            raise

    async def _ask(
        self,
        method: str,
        url: str,
        repository: str,
        headers: Mapping[str, str],
        leads: Leads,
        credential: Credential | None,
    ) -> Answer:
        held: dict[Origin, Token] = {}
        if self._direct(credential) is None:
            token = await self._tokens.ahead(self._origin, repository, credential)
            if token is not None:
                held[self._origin] = token

        def authorization_for(at: Origin, path: str) -> str | None:
            ours = credential if at == self._origin else None
            direct = self._direct(ours)
            if direct is not None:
                return direct
            token = held.get(at) or self._tokens.kept(at, self._name_at(at, path, repository), ours)
            return token.header if token is not None else None

        for _ in range(_MAX_ROUNDS):
            asking = partial(self._client.request, method, url, headers, authorization_for, leads)
            answer, learned, shown = await self._showing(asking, method, credential)
            ours = credential if answer.origin == self._origin else None
            if shown and not learned:
                return answer
            if answer.status == 401 and self._direct(ours) not in (None, answer.authorization):
                # Meanwhile this exchange, or one beside it, has learned to show the credential itself.
                await answer.drain()
                continue
            if not await _wants_token(answer):
                return answer
            name = self._name_at(answer.origin, answer.path, repository)
            renewed = await self._renew(answer, name, held, ours)
            if renewed is None:
                if ours is not None and answer.authorization is None and self._login is not None:
                    raise self._login.credentials.unusable("it answered 401 and did not say how to log in")
                return answer
            held[answer.origin] = renewed
        raise Unavailable("it refuses every token that it gives")

    async def _showing(
        self, asking: Callable[[], Coroutine[Any, Any, Answer]], method: str, credential: Credential | None
    ) -> tuple[Answer, bool, bool]:
        """Ask; tell whether a new way to log in was learned, and whether the answer is one to the credential itself.

        Raises `CredentialRefused`.
        """
        direct = self._direct(credential)
        if direct is None or credential is None or self._login is None:
            answer = await asking()
            return answer, self._learns(answer, credential), False
        ours = credential
        credentials = self._login.credentials

        async def show() -> tuple[Answer, bool, bool]:
            answer = await asking()
            shown = answer.origin == self._origin and answer.authorization == direct
            if self._learns(answer, ours):
                return answer, True, shown
            if shown:
                await self._require_taken(method, answer, ours, credentials)
            return answer, False, shown

        return await credentials.show(ours, show)

    def _direct(self, credential: Credential | None) -> str | None:
        """Give the `Authorization` with which our credential itself goes to the registry."""
        return None if credential is None or self._login is None else self._login.header(credential)

    def _learns(self, answer: Answer, credential: Credential | None) -> bool:
        """Tell whether a 401 asks for another scheme than was known: the first one, or one that changed its mind."""
        if credential is None or self._login is None or answer.status != 401:
            return False
        if answer.origin != self._origin:
            return False
        return self._login.learn(answer.headers("WWW-Authenticate"), credential)

    async def _require_taken(
        self, method: str, answer: Answer, credential: Credential, credentials: Credentials
    ) -> None:
        """Raise `CredentialRefused` when that is what the answer to our credential means.

        A 403 may be about the repository alone. Its body tells; after HEAD, which has none, the registry's own
        endpoint for logging in does. It is asked about a 401, too, to a credential that was taken before: nobody shall
        make us keep it back by asking for what is not ours.
        """
        refused = answer.status == 401
        if answer.status == 403 and method != "HEAD":
            refused = b"expired" in (await answer.read(_MAX_ERROR_BODY)).lower()
        elif answer.status == 403 or (refused and credentials.was_taken(credential)):
            checked = await self._client.request(
                "GET",
                f"{self._origin}/v2/",
                {},
                lambda at, _: credential.header() if at == self._origin else None,
            )
            refused = checked.status in (401, 403)
            await checked.drain()
        if refused:
            await answer.drain()
            raise CredentialRefused
        if answer.status < 500 and answer.status != 429:
            credentials.taken(credential)

    def refusal(self, answer: Answer) -> NoraError:
        """Say what an answer that is not the wanted one means; its body is the caller's to end."""
        status = answer.status
        if status in (404, 410):
            return Absent(f"it answered {status}")
        if status in (401, 402, 403):
            if answer.origin == self._origin or answer.authorization is not None:
                whom = "an anonymous pull" if self._login is None else "our credential"
                return Absent(f"it answered {status} to {whom}", denied=True)
            return Unavailable(f"the storage that it redirects to answered {status}")
        if status == 429:
            return Limited("it answered 429", retry_after(answer, self._clock))
        if status == 416:
            return Unverified("it has no bytes at the range asked for")
        if 200 <= status < 300:
            return Unverified(f"it answered {status}, which was not asked for")
        return Unavailable(f"it answered {status}")

    async def _renew(
        self, answer: Answer, name: str, held: Mapping[Origin, Token], credential: Credential | None
    ) -> Token | None:
        """Get another token for where `answer` came from; None when none could help."""
        await answer.drain()
        at = answer.origin
        challenge = bearer(answer.headers("WWW-Authenticate"))
        if answer.authorization is not None:
            self._tokens.refused(at, name, answer.authorization, credential)
        used = held.get(at)
        if (
            used is not None
            and used.fresh is not None
            and (challenge is None or Service.of(challenge) == used.fresh)
        ):
            return None
        return await self._tokens.renew(at, name, challenge, credential)

    def _name_at(self, at: Origin, path: str, repository: str) -> str:
        """Tell what the repository is called at `at`: a second registry may know it by another name."""
        found = _REPOSITORY.match(path) if at != self._origin and len(path) <= _MAX_PATH else None
        try:
            return check_name(found[1]) if found else repository
        except InvalidName:
            return repository


async def _wants_token(answer: Answer) -> bool:
    """Tell whether another token may be the answer's cure: a 401, or a 403 that says that this one expired."""
    if answer.status == 403 and answer.authorization is not None:
        return b"expired" in (await answer.read(_MAX_ERROR_BODY)).lower()
    return answer.status == 401


async def says_invalid_name(answer: Answer) -> bool:
    """Tell whether a 400 means that no such repository can exist there: its error code is `NAME_INVALID`."""
    try:
        document = json.loads(await answer.read(_MAX_ERROR_BODY))
        return any(error["code"] == "NAME_INVALID" for error in document["errors"])
    except (ValueError, RecursionError, TypeError, KeyError, Unavailable):
        return False
