"""The registry's endpoints under `/v2/`, as far as pulling goes (distribution-spec, "Pull", "Content Discovery").

Klein routes what the grammar of names admits; everything else is told what is wrong with it, in JSON, and never
reaches the rooms below. A failure after the first byte of an answer breaks the connection off: to finish it
would make a broken blob look like a whole one.
"""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import attrs
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from nora.access import ANONYMOUS, Rights
from nora.oci import Digest, Reference, check_name, parse_reference
from nora.oci.errors import InvalidName, NoraError, Unavailable, Unsupported
from nora.oci.reference import NAME_PATTERN
from nora.pull.interfaces import Answer, Cached, Content, Discovery, Pull, Served
from nora.storage import witness
from nora.storage.witness import Witness
from nora.telemetry import Metrics
from nora.upstream import via
from nora.upstream.interfaces import Route
from nora.web import answers, errors, listings, ranges
from nora.web.bodies import send
from nora.web.patience import Patience
from nora.web.requests import RegistryRequest, Visit

T = TypeVar("T")

WHOLE = 1024 * 1024
"""Blobs of up to this many bytes are verified before the headers of an answer go out."""
_MAX_PATH = 2048
_METHODS = frozenset({b"GET", b"HEAD"})
_CONTENT = {b"manifests": "manifest", b"blobs": "blob", b"referrers": "referrers"}

Answering = Coroutine[Any, Any, Served[Answer]]


class Router(Protocol):
    """What resolves names; `nora.upstream` has the real one."""

    def route(self, name: str, ns: str | None = None) -> Route:
        """Resolve a checked name and what the client sent as `ns`; raises the errors of `nora.oci.errors`."""


@attrs.define
class Backend:
    """What the endpoints stand on; its attributes are swapped when the configuration is read anew."""

    routing: Router
    pull: Pull
    discovery: Discovery


class _Name(BaseConverter):
    """A repository name, by the grammar: a path outside it is no route at all."""

    regex = NAME_PATTERN
    part_isolating = False


class _Rest(BaseConverter):
    """Anything that is left."""

    regex = r"(?s:.*)"
    part_isolating = False
    weight = 1000


class Registry:
    """The endpoints. `instance` is what this server calls itself in `Via`."""

    app = Klein()
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.converters["name"] = _Name
    app.url_map.converters["rest"] = _Rest

    def __init__(
        self,
        backend: Backend,
        clock: IReactorTime,
        metrics: Metrics,
        instance: str,
        *,
        answer_timeout: float = 25.0,
        stall_timeout: float = 60.0,
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._metrics = metrics
        self._instance = instance
        self._patience = Patience(clock, answer_timeout)
        self._stall_timeout = stall_timeout

    def resource(self) -> Resource:
        """Give what belongs under `/v2`."""
        return _Entrance(self, self.app.resource())

    def admit(self, request: RegistryRequest) -> None:
        """Refuse what no endpoint may see; names the endpoint for metrics and begins the audit event."""
        segments = request.postpath or []
        if len(segments) >= 3 and segments[-2] in _CONTENT:
            request.endpoint = _CONTENT[segments[-2]]
            request.visit = Visit(
                repository=b"/".join(segments[:-2])[:1024].decode("utf-8", "replace"),
                reference=segments[-1][:1024].decode("utf-8", "replace"),
                action="list" if request.endpoint == "referrers" else "pull",
            )
        elif len(segments) >= 3 and segments[-2:] == [b"tags", b"list"]:
            request.endpoint = "tags"
            name = b"/".join(segments[:-2])[:1024].decode("utf-8", "replace")
            request.visit = Visit(repository=name, reference="", action="list")
        if len(request.path) > _MAX_PATH or any(b"/" in part or not _is_text(part) for part in segments):
            raise InvalidName("the path is too long, or hides a slash or other bytes behind percent signs")
        if len(segments) > 1 and not segments[0]:
            # The router would strip the slashes that a path begins with.
            raise InvalidName("the name of a repository does not begin with a slash")
        came_through = via.pseudonyms(request.text(b"Via"))
        if self._instance in came_through or len(came_through) > via.MAX_HOPS:
            raise Unavailable("this request came from this very server: a loop of upstreams")

    @app.handle_errors(Exception)  # type: ignore[arg-type]
    def _failed(self, request: RegistryRequest, failure: Failure) -> Any:
        return self.failed(request, failure.value or RuntimeError())

    def failed(self, request: RegistryRequest, error: BaseException) -> bytes | Deferred[None]:
        """Answer an error; after the answer's first byte, break off and tell when that is done."""
        if isinstance(error, HTTPException):
            error = errors.NotOffered("no such endpoint")
        if not request.startedWriting:
            errors.report(error, request.id)
            return errors.answer(
                request, error, request.endpoint, _ALLOW_OTHERWISE.get(request.endpoint, _ALLOW)
            )
        if not request.gone:
            answers.broken(request, error)
            request.abort()
        return request.lost()

    @app.route("/")
    def _base(self, request: RegistryRequest) -> bytes:
        request.endpoint = "base"
        _require(request)
        return answers.base(request)

    @app.route("/<name:name>/manifests/<string:reference>")
    async def _manifest(self, request: RegistryRequest, name: str, reference: str) -> bytes:
        _require(request)
        via.forwarded.set(via.pseudonyms(request.text(b"Via")))
        watching = Witness()
        witness.present.set(watching)
        rights = self._rights(request)
        parsed = parse_reference(reference)
        route = self._route(request, name)
        served = await self._patience.wait(request, self._ask(request.method, route, parsed, rights))
        descriptor = served.content.descriptor
        self._note(request, served, descriptor.digest)
        answers.manifest(request, served, route.namespace)
        if ranges.none_match(request.text(b"If-None-Match"), answers.etag(descriptor.digest)):
            return answers.unchanged(request)
        body = None if request.method == b"HEAD" else served.content.body
        hot = request.site.hot
        if hot is not None and served.cached is Cached.HIT:
            pull = body is not None and not answers.is_index(descriptor.media_type)
            hot.keep(request, rights, watching, body or b"", pull=pull)
        if body is None:
            return b""
        self._count(served)
        return body

    @app.route("/<name:name>/blobs/<string:digest>")
    async def _blob(self, request: RegistryRequest, name: str, digest: str) -> bytes | None:
        _require(request)
        via.forwarded.set(via.pseudonyms(request.text(b"Via")))
        rights = self._rights(request)
        parsed = Digest.parse(digest)
        route = self._route(request, name)
        pull = self._backend.pull
        if request.method == b"HEAD":
            size = await self._patience.wait(request, pull.describe_blob(route, parsed, rights))
            self._note(request, size, parsed)
            answers.blob(request, size, parsed, route.namespace, size.content)
            if ranges.none_match(request.text(b"If-None-Match"), answers.etag(parsed)):
                return answers.unchanged(request)
            return b""
        served = await self._patience.wait(request, pull.blob(route, parsed, rights))
        self._note(request, served, parsed)
        try:
            return await self._stream(request, served, parsed, route)
        finally:
            served.content.close()

    @app.route("/<name:name>/tags/list")
    async def _tags(self, request: RegistryRequest, name: str) -> bytes:
        last, limit = listings.span(request)
        return await self._list(
            request,
            name,
            lambda route, rights: self._backend.discovery.tags(route, last, limit, rights),
            lambda route, served: listings.tags(request, served, route, limit),
        )

    @app.route("/<name:name>/referrers/<string:digest>")
    async def _referrers(self, request: RegistryRequest, name: str, digest: str) -> bytes:
        kind = listings.artifact_type(request)
        parsed = Digest.parse(digest)
        return await self._list(
            request,
            name,
            lambda route, rights: self._backend.discovery.referrers(route, parsed, kind, rights),
            lambda route, served: listings.referrers(request, served, route),
        )

    async def _list(
        self,
        request: RegistryRequest,
        name: str,
        ask: Callable[[Route, Rights], Coroutine[Any, Any, Served[T]]],
        answer: Callable[[Route, Served[T]], bytes],
    ) -> bytes:
        via.forwarded.set(via.pseudonyms(request.text(b"Via")))
        rights = self._rights(request)
        route = self._route(request, name)
        served = await self._patience.wait(request, ask(route, rights))
        self._note(request, served, None)
        return answer(route, served)

    @app.route("/<rest:path>")
    def _other(self, request: RegistryRequest, path: str) -> bytes:
        if request.visit is not None:
            (_require if request.visit.action == "pull" else listings.require)(request)
            check_name(request.visit.repository)
            parse_reference(request.visit.reference)
        if "/blobs/uploads/" in f"/{path}/":
            raise Unsupported("this registry takes no pushes")
        raise errors.NotOffered("this registry does not offer that endpoint")

    async def _stream(
        self, request: RegistryRequest, served: Served[Content], digest: Digest, route: Route
    ) -> bytes | None:
        content = served.content
        span = ranges.choose(
            request.text(b"Range"), request.text(b"If-Range"), answers.etag(digest), content.size
        )
        if request.clientproto == b"HTTP/1.0":
            # It would take the end of the connection for the end of the blob.
            await content.verified()
        elif content.size <= WHOLE:
            await self._patience.wait(request, content.verified())
        answers.blob(request, served, digest, route.namespace, content.size)
        if ranges.none_match(request.text(b"If-None-Match"), answers.etag(digest)):
            return answers.unchanged(request)
        if span is not None:
            answers.partial(request, span, content.size)
        start, stop = span or (0, content.size)
        reader = await self._patience.wait(request, content.reader(start, stop))
        try:
            await send(request, reader, self._clock, self._stall_timeout)
        finally:
            reader.close()
        return None

    def _ask(self, method: bytes, route: Route, reference: Reference, rights: Rights) -> Answering:
        pull = self._backend.pull
        ask = pull.describe if method == b"HEAD" else pull.manifest
        return ask(route, reference, rights)

    def _rights(self, request: RegistryRequest) -> Rights:
        if request.visit is not None:
            request.visit.user = ANONYMOUS.user
        return ANONYMOUS

    def _route(self, request: RegistryRequest, name: str) -> Route:
        told = (request.args or {}).get(b"ns")
        ns = None
        if told:
            if len(told[0]) > 255 or not told[0].isascii():
                raise InvalidName("ns is not the name of a registry")
            ns = told[0].decode("ascii")
        if request.visit is not None:
            request.visit.namespace = ns
        return self._backend.routing.route(check_name(name), ns)

    def _note(self, request: RegistryRequest, served: Served[Any], digest: Digest | None) -> None:
        if request.visit is not None:
            request.visit.namespace = served.repository.namespace
            request.visit.digest = None if digest is None else str(digest)
            request.visit.cache = served.cached.value
            request.visit.upstream = served.upstream

    def _count(self, served: Served[Answer]) -> None:
        if not answers.is_index(served.content.descriptor.media_type):
            self._metrics.pulled(served.cached.stored)


class _Entrance(Resource):
    """What every request under `/v2` passes before the router sees it."""

    isLeaf = True

    def __init__(self, registry: Registry, inner: Any) -> None:
        super().__init__()
        self._registry = registry
        self._inner = inner

    def render(self, request: Any) -> Any:
        """Render a request: see `Registry.admit`."""
        request.setHeader(b"Docker-Distribution-API-Version", b"registry/2.0")
        try:
            self._registry.admit(request)
        except NoraError as error:
            return self._registry.failed(request, error)
        return self._inner.render(request)


_ALLOW = b"GET, HEAD"
_ALLOW_OTHERWISE = {"other": b"", "tags": b"GET", "referrers": b"GET"}


def _require(request: RegistryRequest) -> None:
    if request.method not in _METHODS:
        raise Unsupported("this registry is read-only here: GET and HEAD")


def _is_text(part: bytes) -> bool:
    """Tell whether a decoded part of a path is ASCII without control characters."""
    return part.isascii() and (not part or part.decode("ascii").isprintable())
