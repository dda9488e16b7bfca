"""The registry's endpoints under `/v2/`: the router, and what is pulled (distribution-spec, "Pull", "Discovery").

What changes something is in `nora.web.uploads` and `nora.web.changes`.

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
from twisted.web.http import OK
from twisted.web.resource import Resource
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from nora.access import Rights
from nora.concurrency import Background
from nora.content.contents import Contents
from nora.content.interfaces import Administration, Catalog, Removal
from nora.oci import Digest, Reference, check_name, parse_reference
from nora.oci.errors import InvalidName, NoraError, Unavailable, Unsupported
from nora.oci.reference import NAME_PATTERN
from nora.pull.interfaces import Answer, Cached, Content, Discovery, Pull, Reader, Served
from nora.push.interfaces import Push
from nora.telemetry import Metrics
from nora.telemetry.pulls import Key as PullKey
from nora.upstream import via
from nora.upstream.interfaces import Route
from nora.web import answers, asked, errors, listings, ranges
from nora.web.bodies import send
from nora.web.changes import Changes
from nora.web.doorkeeper import Doorkeeper, OpenDoor
from nora.web.entrance import Entrance
from nora.web.hot import MAX_BLOB
from nora.web.patience import Patience
from nora.web.requests import RegistryRequest
from nora.web.shelf import Streamed
from nora.web.turns import Turns
from nora.web.uploads import Unbroken, Uploads

T = TypeVar("T")

WHOLE = 1024 * 1024
"""Blobs of up to this many bytes are verified before the headers of an answer go out."""
_MAX_PATH = 2048
_READING = frozenset({b"GET", b"HEAD"})

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
    push: Push
    removal: Removal
    administration: Administration
    catalog: Catalog
    contents: Contents | None = None
    """What pages show of it all."""
    doorkeeper: Doorkeeper = attrs.field(factory=OpenDoor)

    def take_over(self, other: Backend) -> None:
        """Let everything of `other` be here from now on."""
        for field in attrs.fields(Backend):
            setattr(self, field.name, getattr(other, field.name))


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
        background: Background,
        *,
        answer_timeout: float = 25.0,
        stall_timeout: float = 60.0,
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._metrics = metrics
        self._instance = instance
        unbroken = Unbroken(background)
        self._upload_endpoints = Uploads(unbroken)
        self._changes = Changes(unbroken)
        self._patience = Patience(clock, answer_timeout)
        self._stall_timeout = stall_timeout
        self._turns = Turns()

    def resource(self) -> Resource:
        """Give what belongs under `/v2`."""
        # The patterns of routes are compiled at the first look for one: 3.5 ms that no client shall wait for.
        self.app.url_map.bind("").match("/name/blobs/digest")
        return Entrance(self, self.app.resource())

    async def admit(self, request: RegistryRequest) -> None:
        """Ask the doorkeeper, and refuse what no endpoint may see."""
        request.rights = await self._backend.doorkeeper.admit(request)
        if request.visit is not None:
            request.visit.user = request.rights.user
        segments = request.postpath or []
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
            if isinstance(error, NoraError):
                error = self._backend.doorkeeper.answer(request, error)
            errors.report(error, request.id)
            return errors.answer(request, error, request.endpoint, request.allow)
        if not request.gone:
            answers.broken(request, error)
            request.abort()
        return request.lost()

    @app.route("/")
    def _base(self, request: RegistryRequest) -> bytes:
        request.endpoint = "base"
        _require(request)
        return answers.base(request)

    @app.route("/_catalog")
    async def _catalog(self, request: RegistryRequest) -> bytes:
        last, limit = listings.span(request)
        names = self._backend.catalog.repositories(last.decode("utf-8", "replace"), limit, request.rights)
        return listings.catalog(request, await self._patience.wait(request, names), limit)

    @app.route("/<name:name>/blobs/uploads")
    @app.route("/<name:name>/blobs/uploads/")
    async def _uploads(self, request: RegistryRequest, name: str) -> bytes:
        return await self._upload_endpoints.start(request, self._backend.push, name)

    @app.route("/<name:name>/blobs/uploads/<string:id>")
    async def _upload(self, request: RegistryRequest, name: str, id: str) -> bytes:
        return await self._upload_endpoints.go_on(request, self._backend.push, name, id)

    @app.route("/<name:name>/manifests/<string:reference>")
    async def _manifest(self, request: RegistryRequest, name: str, reference: str) -> bytes:
        if request.method == b"PUT":
            return await self._changes.put(request, self._backend.push, name, reference)
        if request.method == b"DELETE":
            return await self._changes.remove_manifest(request, self._backend.removal, name, reference)
        _require(request)
        via.forwarded.set(via.pseudonyms(request.text(b"Via")))
        hot = request.site.hot
        watch = None if hot is None else hot.watch()
        rights = request.rights
        parsed = parse_reference(reference)
        route = self._route(request, name)
        served = await self._patience.wait(request, self._ask(request.method, route, parsed, rights))
        descriptor = served.content.descriptor
        self._note(request, served, descriptor.digest)
        answers.manifest(request, served, route.namespace)
        if ranges.none_match(request.text(b"If-None-Match"), answers.etag(descriptor.digest)):
            return answers.unchanged(request)
        body = None if request.method == b"HEAD" else served.content.body
        if hot is not None and watch is not None and served.cached is Cached.HIT:
            pull = body is not None and not answers.is_index(descriptor.media_type)
            given = None if body is None else _pulled(served)
            hot.keep(request, rights, watch, body or b"", pull=pull, pulled=given)
        if body is None:
            return b""
        self._count(served)
        return body

    @app.route("/<name:name>/blobs/<string:digest>")
    async def _blob(self, request: RegistryRequest, name: str, digest: str) -> bytes | None:
        if request.method == b"DELETE":
            return await self._changes.remove_blob(request, self._backend.removal, name, digest)
        _require(request)
        via.forwarded.set(via.pseudonyms(request.text(b"Via")))
        hot = request.site.hot
        watch = None if hot is None else hot.watch()
        rights = request.rights
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
            reader = await self._open(request, served, parsed, route)
        finally:
            # The reader has a descriptor of its own; a slow client costs one less.
            served.content.close()
        if reader is None:
            return b""
        try:
            if hot is not None and watch is not None and request.code == OK and served.cached is Cached.HIT:
                if reader.stop <= MAX_BLOB:
                    body = await _whole(reader)
                    hot.keep(request, rights, watch, body)
                    return body
                hot.keep(request, rights, watch, Streamed(served.content.again, self._send_again))
            await self._send(request, reader)
        finally:
            reader.close()
        return None

    def _send(self, request: RegistryRequest, reader: Reader) -> Deferred[int]:
        return send(request, reader, self._clock, self._stall_timeout, self._turns)

    def _send_again(self, request: RegistryRequest, reader: Reader) -> None:
        """Send the body of a prepared answer, and end it."""

        def ended(result: object) -> None:
            reader.close()
            if isinstance(result, Failure):
                self.failed(request, result.value or RuntimeError())
            else:
                request.finish()

        self._send(request, reader).addBoth(ended)

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
        last = listings.span(request)[0].decode("utf-8", "replace")
        return await self._list(
            request,
            name,
            lambda route, rights: self._backend.discovery.referrers(route, parsed, kind, rights, last),
            lambda route, served: listings.referrers(request, served, route, parsed),
        )

    async def _list(
        self,
        request: RegistryRequest,
        name: str,
        ask: Callable[[Route, Rights], Coroutine[Any, Any, Served[T]]],
        answer: Callable[[Route, Served[T]], bytes],
    ) -> bytes:
        via.forwarded.set(via.pseudonyms(request.text(b"Via")))
        rights = request.rights
        route = self._route(request, name)
        served = await self._patience.wait(request, ask(route, rights))
        self._note(request, served, None)
        return answer(route, served)

    @app.route("/<rest:path>")
    def _other(self, request: RegistryRequest, path: str) -> bytes:
        if request.visit is not None:
            # It looks like an endpoint, so its name or its reference is none.
            if request.method not in request.allow.split(b", "):
                raise Unsupported("this endpoint does not offer that method")
            check_name(request.visit.repository)
            if request.endpoint in ("manifest", "blob", "referrers"):
                parse_reference(request.visit.reference)
        raise errors.NotOffered("this registry does not offer that endpoint")

    async def _open(
        self, request: RegistryRequest, served: Served[Content], digest: Digest, route: Route
    ) -> Reader | None:
        """Set the headers of a blob's answer, and give the reader of its body; None when it has none."""
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
            answers.unchanged(request)
            return None
        if span is not None:
            answers.partial(request, span, content.size)
        start, stop = span or (0, content.size)
        return await self._patience.wait(request, content.reader(start, stop))

    def _ask(self, method: bytes, route: Route, reference: Reference, rights: Rights) -> Answering:
        pull = self._backend.pull
        ask = pull.describe if method == b"HEAD" else pull.manifest
        return ask(route, reference, rights)

    def _route(self, request: RegistryRequest, name: str) -> Route:
        ns = asked.namespace(request)
        if request.visit is not None:
            request.visit.namespace = ns
        return self._backend.routing.route(check_name(name), ns)

    def _note(self, request: RegistryRequest, served: Served[Any], digest: Digest | None) -> None:
        if request.visit is not None:
            request.visit.namespace = served.repository.namespace
            request.visit.digest = None if digest is None else str(digest)
            request.visit.cache = served.cached.value
            request.visit.upstream = served.upstream
            request.visit.found = served.repository

    def _count(self, served: Served[Answer]) -> None:
        if not answers.is_index(served.content.descriptor.media_type):
            self._metrics.pulled(served.cached.stored)
        self._metrics.pulls.pulled(_pulled(served))


def _pulled(served: Served[Answer]) -> PullKey:
    repository = served.repository
    return repository.namespace, repository.name, str(served.content.descriptor.digest)


async def _whole(reader: Reader) -> bytes:
    """Read all that a reader has."""
    parts = []
    while reader.position < reader.stop:
        parts.append(await reader.read(reader.stop - reader.position))
    return b"".join(parts)


def _require(request: RegistryRequest) -> None:
    if request.method not in _READING:
        raise Unsupported("this endpoint does not offer that method")


def _is_text(part: bytes) -> bool:
    """Tell whether a decoded part of a path is ASCII without control characters."""
    return part.isascii() and (not part or part.decode("ascii").isprintable())
