"""The server inside `tests.support.fake_upstream`: connections, paths, tokens, bodies that go wrong."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import attrs
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.web import resource, server

from nora.oci import Digest
from tests.support.fake_body import FakeBody

if TYPE_CHECKING:
    from tests.support.fake_upstream import FakeUpstream

_PAGE = b"<!doctype html><title>Sign in</title><p>Please accept the terms of this network."
_CONTENT = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)\Z")
_LIST = re.compile(r"/v2/(?P<name>.+)/(?P<what>tags/list|referrers/[^/]+)\Z")
_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]*)\Z")


@attrs.frozen
class Fault:
    """What goes wrong with an answer. Everything left alone stays right; None means no such fault."""

    status: int | None = None
    """This status with a small JSON error in place of the answer."""
    code: str = "DENIED"
    """The error code in that body."""
    body: bytes | None = None
    """With `status`: this body in place of the JSON; `headers` say its type."""
    headers: tuple[tuple[str, str], ...] = ()
    """Headers set on the answer, last; an empty value removes the header. One named twice is sent twice."""
    html: bool = False
    """A web page with status 200 in place of the answer."""
    redirect: str | None = None
    """A redirect with this `Location`; `{path}` in it becomes the request's path."""
    redirect_status: int = 307
    """The redirect's status."""
    padding: int = 0
    """The body of a redirect or an error is this many bytes longer."""
    corrupt: bool = False
    """The body's last byte is another."""
    truncate: int | None = None
    """The connection is cut after this many bytes of the body."""
    stall: int | None = None
    """After this many bytes of the body nothing more comes until `release`."""
    rate: int | None = None
    """The body comes at this many bytes a second."""
    hold: bool = False
    """Nothing is answered until `release`."""
    chunked: bool = False
    """No Content-Length: the body comes in chunks."""
    bare: bool = False
    """Neither Content-Length nor chunks: the connection's end is the body's."""
    no_ranges: bool = False
    """A range is answered with the whole and 200."""
    content_range: str | None = None
    """A range is answered with this `Content-Range`."""
    no_digest: bool = False
    """No `Docker-Content-Digest`."""
    drop: bool = False
    """The connection is closed in place of an answer."""
    times: int | None = None
    """How many answers it spoils; None for all."""
    method: str | None = None
    """The method that it is for; None for all."""


@attrs.frozen
class Seen:
    """One request as it came; names of headers are lower-case."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes = b""


def serve(upstream: FakeUpstream) -> Factory:
    """Make the factory that answers for `upstream`."""
    site = _Site(_Root(upstream), timeout=600, reactor=upstream.reactor)
    site.requestFactory = _Request
    return _Doorman(upstream, site)


class _Site(server.Site):
    """A site without an access log: what NORA logs is looked at, and URLs are signed."""

    def log(self, request: Any) -> None:
        """Leave it."""


class _Doorman(Factory):
    """Counts connections, and closes them at the door when told to."""

    noisy = False

    def __init__(self, upstream: FakeUpstream, site: server.Site) -> None:
        self._upstream = upstream
        self._site = site

    def startFactory(self) -> None:
        self._site.startFactory()

    def stopFactory(self) -> None:
        self._site.stopFactory()

    def buildProtocol(self, addr: Any) -> Protocol | None:
        if self._upstream.refusing:
            self._upstream.connections += 1
            return None
        channel: Any = self._site.buildProtocol(addr)
        made, lost = channel.makeConnection, channel.connectionLost
        transports: list[Any] = []

        def make_connection(transport: Any) -> None:
            transports.append(transport)
            self._upstream.came(transport)
            made(transport)

        def connection_lost(reason: Failure) -> None:
            lost(reason)
            self._upstream.went(transports.pop())

        channel.makeConnection = make_connection
        channel.connectionLost = connection_lost
        protocol: Protocol = channel
        return protocol


class _Request(server.Request):
    """A request that logs nothing and knows when its client left."""

    gone = False

    def process(self) -> None:
        channel: Any = self.channel
        channel.site.resource.render(self)

    def connectionLost(self, reason: Failure) -> None:
        self.gone = True
        super().connectionLost(reason)


class _Root(resource.Resource):
    """All paths."""

    isLeaf = True

    def __init__(self, upstream: FakeUpstream) -> None:
        super().__init__()
        self._upstream = upstream

    def render(self, request: Any) -> int:
        """Answer, now or later."""
        path, _, query = request.uri.decode("latin-1").partition("?")
        headers = {
            name.decode("latin-1").lower(): b", ".join(values).decode("latin-1")
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        seen = Seen(request.method.decode("ascii"), path, parse_qs(query), headers, request.content.read())
        fault = self._upstream.rule(seen)
        if fault.hold:
            self._upstream.held().addCallback(lambda _: self._answer(request, seen, fault))
        elif fault.drop:
            request.transport.abortConnection()
        else:
            self._answer(request, seen, fault)
        self._upstream.note(seen)
        return server.NOT_DONE_YET

    def _answer(self, request: Any, seen: Seen, fault: Fault) -> None:
        if request.gone:
            return
        if fault.html:
            self._send(request, seen, fault, 200, _PAGE, "text/html; charset=utf-8")
        elif fault.status is not None:
            self._error(request, seen, fault, fault.status, fault.code)
        elif fault.redirect is not None:
            self._redirect(
                request, seen, fault, fault.redirect_status, fault.redirect.replace("{path}", seen.path)
            )
        elif self._upstream.presigned and "authorization" in seen.headers:
            self._error(request, seen, fault, 400, "INVALID_ARGUMENT")
        elif seen.path in self._upstream.objects:
            self._blob(request, seen, fault, self._upstream.objects[seen.path])
        elif seen.path == self._upstream.token_path:
            self._token(request, seen, fault)
        else:
            self._content(request, seen, fault)

    def _token(self, request: Any, seen: Seen, fault: Fault) -> None:
        upstream = self._upstream
        form = parse_qs(seen.body.decode()) if seen.method == "POST" else {}
        scope = (form or seen.query).get("scope", [""])[0]
        name = scope.removeprefix("repository:").removesuffix(":pull")
        shown = form["refresh_token"][0] if form else seen.headers.get("authorization")
        if upstream.logins is not None and shown not in upstream.logins:
            if shown is not None or name not in upstream.public:
                self._error(request, seen, fault, 401 if shown else 403, "DENIED")
                return
        elif upstream.member_of is not None and name and name not in upstream.member_of:
            self._error(request, seen, fault, 403, "DENIED")
            return
        answer = json.dumps(upstream.issue(scope)).encode()
        self._send(request, seen, fault, 200, answer, "application/json")

    def _redirect(self, request: Any, seen: Seen, fault: Fault, status: int, location: str) -> None:
        request.setHeader("Location", location)
        page = b"<a href=elsewhere>Temporary Redirect</a>" + b" " * fault.padding
        self._send(request, seen, fault, status, page, "text/html")

    def _challenge(self, request: Any, seen: Seen, fault: Fault, name: str) -> None:
        challenge = self._upstream.challenge.replace("{url}", self._upstream.url).replace("{name}", name)
        if challenge:
            request.setHeader("WWW-Authenticate", challenge)
        self._error(request, seen, fault, 401, "UNAUTHORIZED")

    def _content(self, request: Any, seen: Seen, fault: Fault) -> None:
        upstream = self._upstream
        found = _CONTENT.match(seen.path)
        listed = _LIST.match(seen.path)
        named = found or listed
        name = named["name"] if named else None
        if upstream.auth and not self._allowed(seen, name):
            self._challenge(request, seen, fault, name or "")
        elif seen.path == "/v2/":
            self._send(request, seen, fault, 200, b"{}", "application/json")
        elif listed is not None and (
            page := upstream.lists.answer(listed["name"], listed["what"], seen.query)
        ):
            if page.link is not None:
                request.setHeader("Link", page.link)
            self._send(request, seen, fault, 200, page.body, page.media_type)
        elif found is None:
            self._error(request, seen, fault, 404, "UNSUPPORTED")
        elif found["kind"] in upstream.elsewhere:
            status, location = upstream.elsewhere[found["kind"]]
            self._redirect(
                request, seen, fault, status, upstream.place(location, found["name"], found["reference"])
            )
        elif found["kind"] == "manifests":
            manifest = upstream.manifests.get((found["name"], found["reference"]))
            if manifest is None:
                self._error(request, seen, fault, 404, "MANIFEST_UNKNOWN")
            else:
                body, media_type, digest = manifest
                self._digest(request, fault, digest)
                self._send(request, seen, fault, 200, body, media_type)
        else:
            blob = upstream.blobs.get((found["name"], found["reference"]))
            if blob is None:
                self._error(request, seen, fault, 404, "BLOB_UNKNOWN")
            else:
                self._digest(request, fault, Digest.parse(found["reference"]))
                self._blob(request, seen, fault, blob)

    def _allowed(self, seen: Seen, name: str | None) -> bool:
        if self._upstream.keys is not None:
            shown = seen.headers.get("authorization")
            return shown in self._upstream.keys or (shown is None and name in self._upstream.public)
        token = seen.headers.get("authorization", "").removeprefix("Bearer ")
        if name is None:
            return any(token == given for given, _ in self._upstream.valid)
        scope = self._upstream.scope or f"repository:{name}:pull"
        return (token, scope) in self._upstream.valid and name not in self._upstream.private

    def _digest(self, request: Any, fault: Fault, digest: Digest) -> None:
        if not fault.no_digest:
            request.setHeader("Docker-Content-Digest", str(digest))

    def _blob(self, request: Any, seen: Seen, fault: Fault, blob: bytes) -> None:
        ranged = _RANGE.match(seen.headers.get("range", ""))
        if ranged is None or fault.no_ranges:
            self._send(request, seen, fault, 200, blob, "application/octet-stream")
            return
        first = int(ranged[1])
        last = min(int(ranged[2] or len(blob)), len(blob) - 1)
        if first > last:
            request.setHeader("Content-Range", f"bytes */{len(blob)}")
            self._error(request, seen, fault, 416, "RANGE_INVALID")
            return
        request.setHeader("Content-Range", fault.content_range or f"bytes {first}-{last}/{len(blob)}")
        self._send(request, seen, fault, 206, blob[first : last + 1], "application/octet-stream")

    def _error(self, request: Any, seen: Seen, fault: Fault, status: int, code: str) -> None:
        body = fault.body
        if body is None:
            body = json.dumps({"errors": [{"code": code, "message": "so it is"}]}).encode()
        body += b" " * fault.padding
        self._send(request, seen, fault, status, body, "application/json")

    def _send(
        self, request: Any, seen: Seen, fault: Fault, status: int, body: bytes, media_type: str
    ) -> None:
        if fault.corrupt:
            body = body[:-1] + bytes([body[-1] ^ 1])
        request.setResponseCode(status)
        request.setHeader("Content-Type", media_type)
        if fault.bare:
            request.clientproto = b"HTTP/1.0"
            request.channel.persistent = False
        elif not fault.chunked:
            request.setHeader("Content-Length", str(len(body)))
        for name, _ in fault.headers:
            request.responseHeaders.removeHeader(name)
        for name, value in fault.headers:
            if value:
                request.responseHeaders.addRawHeader(name, value)
        if seen.method == "HEAD":
            request.finish()
        else:
            FakeBody(self._upstream, request, seen.path, body, fault).start()
