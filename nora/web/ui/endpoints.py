"""Endpoints: how a request for a page or for JSON is let in, answered and refused.

The door is the registry's own. While `[auth]` is on it tells browsers to ask for user and password by Basic: what
they remember holds for pages and API alike, and there is no session. A browser sends that whoever makes it ask, so what
changes something takes a POST that no other site's page can send (`nora.web.ui.actions`).
"""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from nora.oci.errors import NoraError, Unauthorized, Unsupported
from nora.web import challenges, errors
from nora.web.doorkeeper import Doorkeeper
from nora.web.guarded import GuardedDoor
from nora.web.requests import RegistryRequest
from nora.web.ui.rendering import viewer

HTML = b"text/html; charset=utf-8"
JSON = b"application/json"
EVENTS = b"text/event-stream"
POLICY = b"; ".join(
    (
        *(
            b"default-src 'none'",
            b"style-src 'self'",
            b"script-src 'self'",
            b"img-src 'self'",
            b"connect-src 'self'",
        ),
        *(b"base-uri 'none'", b"form-action 'self'", b"frame-ancestors 'none'"),
    )
)
_HEADERS = (
    (b"Content-Security-Policy", POLICY),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"X-Frame-Options", b"DENY"),
    (b"Referrer-Policy", b"same-origin"),
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
)


@attrs.frozen
class Answer:
    """What goes out."""

    body: bytes = attrs.field(repr=False)
    content_type: bytes
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ((b"Cache-Control", b"no-store"),)
    begin: Callable[[RegistryRequest], None] | None = None
    """Sends a body that comes bit by bit, in the place of `body`."""


Answering = Callable[[RegistryRequest], Awaitable[Answer]]


@attrs.frozen
class Endpoint:
    """What is at one path. `public`: it is shown without a login wherever anonymous clients may pull."""

    give: Answering | None
    """Answers a GET."""
    public: bool = False
    free: bool = False
    """It is shown to everybody, as the style sheet is."""
    deep: bool = False
    """It is also what is below its path, of one segment."""
    take: Answering | None = None
    """Answers a POST, which may change something; it sees to it itself that no other site made a browser send it."""

    def answering(self, request: RegistryRequest) -> Answering:
        """Tell what answers the request, and what of a method the endpoint allows. Raises `Unsupported`."""
        offered = {b"GET, HEAD": self.give, b"POST": self.take}
        request.allow = b", ".join(methods for methods, answer in offered.items() if answer is not None)
        answer = self.take if request.method == b"POST" else self.give
        if answer is None or request.method not in request.allow.split(b", "):
            raise Unsupported(f"this page takes {request.allow.decode('ascii')}")
        return answer


def as_json(facts: Mapping[str, object]) -> Answer:
    """Answer with facts, as the API does."""
    return Answer(json.dumps(facts, separators=(",", ":")).encode("ascii") + b"\n", JSON)


def plain(request: RegistryRequest, error: BaseException) -> Answer:
    """Refuse as the registry does: in JSON."""
    told = errors.tell(error, allow=request.allow)
    kept = tuple(
        (name, value) for name, value in told.headers if name not in (b"Content-Type", b"Content-Length")
    )
    return Answer(told.body, JSON, told.status, (*kept, (b"Cache-Control", b"no-store")))


class Endpoints(Resource):
    """The endpoints under one path, by the segments behind it. `refuse` tells an error."""

    isLeaf = True

    def __init__(
        self,
        endpoints: Mapping[tuple[bytes, ...], Endpoint],
        doorkeeper: Callable[[], Doorkeeper],
        refuse: Callable[[RegistryRequest, BaseException], Answer] = plain,
    ) -> None:
        super().__init__()
        self._endpoints = endpoints
        self._doorkeeper = doorkeeper
        self._refuse = refuse

    def render(self, request: Any) -> Any:
        """Answer a request."""
        request.endpoint = "page"
        answering = Deferred.fromCoroutine(self._answer(request))
        request.notifyFinish().addErrback(lambda _: answering.cancel())
        answering.addErrback(self._failed, request)
        answering.addCallback(self._send, request)
        answering.addErrback(lambda failure: None if request.gone else request.processingFailed(failure))
        answering.addErrback(lambda _: None)
        return NOT_DONE_YET

    async def _answer(self, request: RegistryRequest) -> Answer:
        segments = tuple(request.postpath or ())
        endpoint = self._endpoints.get(segments, self._endpoints.get(segments[:1]))
        if endpoint is None or not (endpoint.deep or segments in self._endpoints):
            raise errors.NotOffered("there is nothing at this path")
        answering = endpoint.answering(request)
        if not endpoint.free:
            await self._admit(request, endpoint)
            viewer.set(request.rights)
        return await answering(request)

    async def _admit(self, request: RegistryRequest, endpoint: Endpoint) -> None:
        doorkeeper = self._doorkeeper()
        try:
            request.rights = rights = await doorkeeper.admit(request)
        except Unauthorized as error:
            raise challenges.basic(error.message) from None
        if rights.user is None and isinstance(doorkeeper, GuardedDoor) and not endpoint.public:
            raise challenges.basic("log in to see this")
        request.rights = rights

    def _failed(self, failure: Failure, request: RegistryRequest) -> Answer:
        error = failure.value or RuntimeError()
        if not request.gone and not isinstance(error, NoraError):
            errors.report(error, request.id)
        return self._refuse(request, error)

    def _send(self, answer: Answer, request: RegistryRequest) -> None:
        if request.gone:
            return
        request.setResponseCode(answer.status)
        request.setHeader(b"Content-Type", answer.content_type)
        for name, value in (*_HEADERS, *answer.headers):
            request.setHeader(name, value)
        if answer.begin is not None and request.method != b"HEAD":
            answer.begin(request)
            return
        if answer.status != 304:
            request.setHeader(b"Content-Length", b"%d" % len(answer.body))
        request.write(b"" if request.method == b"HEAD" else answer.body)
        request.finish()
