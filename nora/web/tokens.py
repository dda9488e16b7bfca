"""`/v2/token`: the token service, as the Docker token specification has it, by GET and by the form of OAuth 2.

Clients come here after a challenge, with or without user and password, and take the token to the registry.
"""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qs

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from nora.access import scopes as scopes_of
from nora.access.scopes import Scopes
from nora.access.tokens import Issued
from nora.oci.errors import InvalidRequest, NoraError, RequestTooLarge, Unsupported
from nora.web import errors
from nora.web.challenges import basic
from nora.web.guarded import Asked, GuardedDoor
from nora.web.logins import Basic, Bearer, Malformed, authorization
from nora.web.requests import RegistryRequest

MAX_FORM = 32 * 1024
_MAX_FIELDS = 64


class TokenPage(Resource):
    """The page. `door` gives the door that is in force, None while nobody can log in: then there is no such page."""

    isLeaf = True

    def __init__(self, door: Callable[[], GuardedDoor | None]) -> None:
        super().__init__()
        self._door = door

    def render(self, request: Any) -> Any:
        """Answer when it is known who asks."""
        request.endpoint = "token"
        answering = Deferred.fromCoroutine(self._answer(request))
        request.notifyFinish().addErrback(lambda _: answering.cancel())
        answering.addCallback(self._tell, request).addErrback(self._failed, request)
        return NOT_DONE_YET

    async def _answer(self, request: RegistryRequest) -> bytes:
        door = self._door()
        if door is None:
            raise errors.NotOffered("nobody can log in here: [auth] is off")
        if request.method not in (b"GET", b"HEAD", b"POST"):
            raise Unsupported("the token service takes GET and POST")
        asked = await _form(request) if request.method == b"POST" else _query(request)
        issued, scopes = await door.issue(request, asked)
        return _body(issued, scopes)

    def _tell(self, body: bytes, request: RegistryRequest) -> None:
        request.setHeader(b"Content-Type", b"application/json")
        request.setHeader(b"Content-Length", b"%d" % len(body))
        request.setHeader(b"Cache-Control", b"no-store")
        request.write(b"" if request.method == b"HEAD" else body)
        request.finish()

    def _failed(self, failure: Failure, request: RegistryRequest) -> None:
        error = failure.value
        if isinstance(error, CancelledError) or request.gone:
            return
        if not isinstance(error, NoraError):
            request.processingFailed(failure)
            return
        request.write(errors.answer(request, error, request.endpoint, b"GET, POST"))
        request.finish()


class WithTokens(Resource):
    """What belongs under `/v2`: the token service, and the registry for all else."""

    isLeaf = True

    def __init__(self, page: TokenPage, registry: Resource) -> None:
        super().__init__()
        self._page = page
        self._registry = registry

    def render(self, request: Any) -> Any:
        """Let the one or the other answer."""
        return (self._page if request.postpath == [b"token"] else self._registry).render(request)


def _query(request: RegistryRequest) -> Asked:
    scopes = [value.decode("utf-8", "replace") for value in (request.args or {}).get(b"scope", [])]
    try:
        given = authorization(request)
    except Malformed as error:
        raise basic(str(error)) from None
    if isinstance(given, Bearer):
        return Asked(scopes_of.parse(scopes), refresh=given.token)
    return Asked(scopes_of.parse(scopes), basic=given)


async def _form(request: RegistryRequest) -> Asked:
    """Read the form that asks for a token by a password, or by a token of the configuration as `refresh_token`."""
    try:
        fields = parse_qs(
            (await _body_of(request)).decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS
        )
    except ValueError:
        raise InvalidRequest("the form cannot be read") from None
    scopes = scopes_of.parse(fields.get("scope", []))
    grant = _one(fields, "grant_type")
    if grant == "password":
        return Asked(scopes, basic=Basic(_one(fields, "username"), _one(fields, "password")))
    if grant == "refresh_token":
        return Asked(scopes, refresh=_one(fields, "refresh_token"))
    raise InvalidRequest("grant_type must be password or refresh_token")


async def _body_of(request: RegistryRequest) -> bytes:
    """Read the request's body, whether it is there already or streams."""
    flow: Any = getattr(request, "body", None)
    if flow is None:
        content: Any = request.content
        data: bytes = content.read(MAX_FORM + 1)
    else:
        chunks: list[bytes] = []

        def take(chunk: bytes) -> None:
            chunks.append(chunk)
            if sum(map(len, chunks)) > MAX_FORM:
                raise RequestTooLarge(f"the form has more than {MAX_FORM} bytes")

        await flow.deliver(take)
        data = b"".join(chunks)
    if len(data) > MAX_FORM:
        raise RequestTooLarge(f"the form has more than {MAX_FORM} bytes")
    return data


def _one(fields: Mapping[str, Sequence[str]], name: str) -> str:
    values = fields.get(name, [])
    if len(values) != 1:
        raise InvalidRequest(f"the form must have one {name}")
    return values[0]


def _body(issued: Issued, scopes: Scopes) -> bytes:
    since = datetime.fromtimestamp(issued.since, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    answer = {
        "token": issued.text,
        "access_token": issued.text,
        "token_type": "Bearer",
        "expires_in": issued.lifetime,
        "issued_at": since,
        "scope": scopes_of.write(scopes),
    }
    return json.dumps(answer, separators=(",", ":")).encode("ascii")
