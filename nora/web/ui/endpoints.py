"""Endpoints: how a request for a page or for JSON is let in, answered and refused.

The door is the registry's own. While `[auth]` is on it tells browsers to ask for user and password by Basic: what
they remember holds for pages and API alike, and there is no session. No request here changes anything, so that another
site gains nothing by making a browser send one.
"""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

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

HTML = b"text/html; charset=utf-8"
JSON = b"application/json"
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
    (b"Referrer-Policy", b"no-referrer"),
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


@attrs.frozen
class Endpoint:
    """What is at one path. `public`: it is shown without a login wherever anonymous clients may pull."""

    give: Callable[[RegistryRequest], Awaitable[Answer]]
    public: bool = False
    free: bool = False
    """It is shown to everybody, as the style sheet is."""
    deep: bool = False
    """It is also what is below its path, of one segment."""


def plain(request: RegistryRequest, error: BaseException) -> Answer:
    """Refuse as the registry does: in JSON."""
    told = errors.tell(error)
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
        if request.method not in (b"GET", b"HEAD"):
            raise Unsupported("this page takes GET and HEAD")
        segments = tuple(request.postpath or ())
        endpoint = self._endpoints.get(segments, self._endpoints.get(segments[:1]))
        if endpoint is None or not (endpoint.deep or segments in self._endpoints):
            raise errors.NotOffered("there is nothing at this path")
        if not endpoint.free:
            await self._admit(request, endpoint)
        return await endpoint.give(request)

    async def _admit(self, request: RegistryRequest, endpoint: Endpoint) -> None:
        doorkeeper = self._doorkeeper()
        try:
            request.rights = rights = await doorkeeper.admit(request)
        except Unauthorized as error:
            raise challenges.basic(error.message) from None
        if rights.user is None and isinstance(doorkeeper, GuardedDoor) and not endpoint.public:
            raise challenges.basic("log in to see this")

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
        if answer.status != 304:
            request.setHeader(b"Content-Length", b"%d" % len(answer.body))
        request.write(b"" if request.method == b"HEAD" else answer.body)
        request.finish()
