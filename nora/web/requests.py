"""One request: its id, its bounds, its body, and what is counted and audited when it ends.

Twisted would spool a body whole before any code of ours runs. So a request that may bring content (PATCH, POST, PUT
under `/v2/`) is answered from its headers on and its body streams; any other body is bounded before it is read.

An answer may be whole before the body is. The parser is inside of the body then, so the request is not finished
until the body is: a little is read and dropped, and after a long one the connection ends, a moment later, because
closing at once would reset it before the client has read the answer.

The end of a request is told by `notifyFinish`, which alone sees the aborted ones too.
"""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString, parse_qs
from twisted.web.server import Request

from nora.access import ANONYMOUS, Rights
from nora.oci import Repository
from nora.oci.errors import RequestTooLarge
from nora.telemetry import AuditEvent
from nora.telemetry.recent import Given
from nora.web import errors
from nora.web.incoming import IncomingBody
from nora.web.visitors import Visitor, visitor

if TYPE_CHECKING:
    from nora.web.channel import RegistryChannel
    from nora.web.connections import RegistrySite

MAX_BODY = 64 * 1024
LINGER = 2.0
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_ORIGIN = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://[^/?]*")
_GIVEN = frozenset({200, 206, 304})
_STREAMED = frozenset({b"PATCH", b"POST", b"PUT"})


@attrs.define
class Visit:
    """What a request for content was for; the registry fills it in while it learns."""

    repository: str
    """As the client named it, whether or not that is a name."""
    reference: str
    namespace: str | None = None
    digest: str | None = None
    cache: str = "none"
    upstream: str | None = None
    user: str | None = None
    action: str = "pull"
    """What was done to the repository: `pull`, `list`, `push`, `mount` or `delete`."""
    found: Repository | None = None
    """The repository that what was served is from."""


class RegistryRequest(Request):
    """A request to NORA."""

    channel: RegistryChannel
    site: RegistrySite
    transport: Any
    defaultContentType = None
    endpoint = "other"
    """One of the few words that metrics know."""
    allow = b"GET, HEAD"
    """The methods of the endpoint, as `Allow` tells them; empty where there is no endpoint."""
    visit: Visit | None = None
    """Set on requests for content, which the audit log tells of."""
    known_visitor: Visitor | None = None
    """Ask `visitor` instead, which sets it."""
    id = ""
    began = 0.0
    rights: Rights = ANONYMOUS
    """What the client may do, once the doorkeeper has told."""
    body: IncomingBody | None = None
    """The body, on requests that are answered while it comes."""
    received = 0
    """Bytes of a body that came and did not stream."""
    ending: Callable[[], None] | None = None
    """Called when this server stops, where the answer would not end by itself."""
    given: Given | None = None
    """What was given, at the end of an answer that counts for a pull."""
    _refused = False
    _answered = False

    def gotLength(self, length: int | None) -> None:
        """Begin to answer a request that may bring content; else make room for the body, or refuse a long one."""
        channel = self.channel
        method, uri, _ = channel.asked()
        if method in _STREAMED and _segments(uri.partition(b"?")[0])[0] == b"v2":
            self._stream(length)
            return
        self.content = io.BytesIO()
        if length is not None and length > MAX_BODY:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """Take a piece of the body; a chunked one that does not stream is refused when it grows too long."""
        if self.body is not None:
            self.body.take(data)
            return
        if self._refused:
            return
        self.received += len(data)
        if self.received > MAX_BODY:
            self._refuse()
        else:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Begin to answer, unless that began, or the request was refused, already."""
        if self.body is not None:
            self.body.ended()
            if self._answered:
                super().finish()
        elif not self._refused:
            super().requestReceived(command, path, version)

    def write(self, data: bytes) -> None:
        """Send a piece of the answer; with a long body still to come it is the last one on its connection."""
        if not self.startedWriting and self.body is not None and self.body.is_open and not self.body.is_short:
            self.last()
        super().write(data)

    def finish(self) -> None:
        """End the answer; the request ends with its body."""
        if self.body is None or not self.body.is_open or self.gone:
            super().finish()
        elif not self._answered:
            if not self.startedWriting:
                self.write(b"")
            self._answered = True
            self.channel.wind_up(LINGER, close=not self.body.is_short)
            self.body.drop()

    def connectionLost(self, reason: Failure) -> None:
        """End; what is made of the body learns of it after those who wait for the answer."""
        super().connectionLost(reason)
        if self.body is not None:
            self.body.broke()

    def process(self) -> None:
        """Answer the request, which has come in whole or whose body streams."""
        self.site = self.channel.site
        if self.body is None and self.site.hot is not None and self.site.hot.answer(self):
            return
        self._begin()
        self.prepath = []
        self.postpath = _segments(self.path)
        try:
            self.render(self.site.getResourceFor(self))
        except Exception:
            self.processingFailed(Failure())

    def processingFailed(self, reason: Failure) -> Failure:
        """Answer a defect: JSON when nothing went out yet, else a broken connection."""
        error = reason.value or RuntimeError()
        errors.report(error, self.id)
        if self.startedWriting or self.gone:
            self.abort()
        else:
            self.write(errors.answer(self, error, self.endpoint))
            self.finish()
        return reason

    def getRequestHostname(self) -> bytes:
        """Give the router a host that it can always take: routes do not depend on it, and clients lie."""
        return b"localhost"

    def brought(self) -> IncomingBody:
        """Give the body of a PATCH, POST or PUT under `/v2`: all of them stream."""
        if self.body is None:
            raise RuntimeError("the body of this request does not stream")
        return self.body

    def text(self, name: bytes) -> str | None:
        """Give a header of the request as text."""
        value = self.getHeader(name)
        return None if value is None else value.decode("latin-1")

    def abort(self) -> None:
        """Break the connection off: what went out is not the whole answer, and must not look like it."""
        if self.transport is not None and not self.gone:
            self.transport.abortConnection()

    @property
    def gone(self) -> bool:
        """Whether the client's connection is lost."""
        return bool(self._disconnected)

    def lost(self) -> Deferred[None]:
        """Tell when the broken connection is lost; at once when it is."""
        if self.gone:
            return succeed(None)
        return self.notifyFinish().addErrback(lambda _: None)

    def drain(self) -> None:
        """Make this the last answer on its connection, and an endless one end."""
        self.last()
        if self.ending is not None:
            self.ending()

    def last(self) -> None:
        """Make this the last answer on its connection."""
        if not self.startedWriting:
            self.setHeader(b"Connection", b"close")
        self.channel.persistent = 0

    def _read_line(self) -> None:
        """Learn what is asked for: what Twisted does where a body is there already."""
        self.method, self.uri, self.clientproto = self.channel.asked()
        self.path, question, query = self.uri.partition(b"?")
        self.args = parse_qs(query, keep_blank_values=1) if question else {}

    def _stream(self, length: int | None) -> None:
        channel = self.channel
        expects = (self.text(b"Expect") or "").lower() == "100-continue"
        # Twisted would tell the client to send before anybody wants the body.
        self.requestHeaders.removeHeader(b"Expect")
        self._read_line()
        self.body = IncomingBody(
            channel,
            channel.site.clock,
            channel.site.stall_timeout,
            length,
            expected=expects and self.clientproto == b"HTTP/1.1",
        )
        channel.answering()
        self.process()
        self.body.wait()

    def begin(self) -> None:
        """Note when the request came in, and how it is called."""
        site = self.site = self.channel.site
        self.began = site.clock.seconds()
        told = self.text(b"X-Request-ID")
        self.id = told if told is not None and _ID.match(told) else site.new_id()

    def _begin(self) -> None:
        self.begin()
        site = self.site
        self.setHeader(b"Server", site.server)
        self.setHeader(b"Date", datetimeToString(self.began))
        self.setHeader(b"X-Request-ID", self.id.encode("ascii"))
        if site.draining:
            self.last()
        self.under_way()

    def under_way(self) -> None:
        """Count as one that is being answered until the end, of which metrics and audit log are told then."""
        self.site.request_began(self)
        self.notifyFinish().addBoth(self._ended)

    def _ended(self, result: object) -> None:
        self.site.request_ended(self)
        # A client that left in the rest of its body has had its answer.
        self.tell(aborted=isinstance(result, Failure) and not self._answered)

    def tell(self, *, aborted: bool) -> AuditEvent | None:
        """Tell metrics and audit log of this request, which has ended; gives what the log was told, or would be."""
        received = self.received if self.body is None else self.body.received
        site = self.site
        seconds = max(0.0, site.clock.seconds() - self.began)
        status = self.code if self.startedWriting else None
        method = self.method.decode("latin-1")
        site.metrics.requested(method, self.endpoint, status, seconds, self.sentLength, received)
        visit = self.visit
        if visit is None:
            return None
        if visit.found is not None and visit.action == "pull" and status in _GIVEN:
            self._note_given(visit, visit.found, method, seconds, aborted)
        event = AuditEvent(
            time=self.began,
            id=self.id,
            client=visitor(self).address,
            user=visit.user,
            agent=self.text(b"User-Agent") or "",
            method=method,
            action=visit.action,
            repository=visit.repository,
            namespace=visit.namespace,
            reference=visit.reference,
            digest=visit.digest,
            status=status,
            cache=visit.cache,
            upstream=visit.upstream,
            sent=self.sentLength,
            received=received,
            seconds=seconds,
            aborted=aborted,
        )
        if site.audit is not None:
            site.audit.record(event)
        return event

    def _note_given(
        self, visit: Visit, found: Repository, method: str, seconds: float, aborted: bool
    ) -> None:
        """Take note of what the client was given, for the pages that show it."""
        address = visitor(self).address
        if self.endpoint == "manifest":
            self.site.last_pulls.pulled(address, self.began)
        elif method == "HEAD":
            return
        self.given = Given(
            *(address, visit.user, found.namespace, found.name, self.endpoint),
            *(method, visit.reference, visit.cache, self.sentLength, aborted),
        )
        self.site.metrics.recent.append((self.began, seconds, self.given))

    def _refuse(self) -> None:
        """Answer 413 before the body is there, and end the connection.

        The request is not finished: the parser is still inside of it. What still arrives is dropped.
        """
        self._refused = True
        self._read_line()
        self.requestHeaders.removeHeader(b"Expect")
        self._begin()
        self.last()
        self.write(
            errors.answer(
                self, RequestTooLarge(f"a request body is at most {MAX_BODY} bytes", {"limit": MAX_BODY})
            )
        )
        self._answered = True
        self.channel.wind_up(LINGER, close=True)


def _segments(path: bytes) -> list[bytes]:
    """Split a path, decoded; at least one."""
    # A proxy's client sends the absolute form (RFC 9112 section 3.2.2).
    path = _ORIGIN.sub(b"", path, count=1)
    # The `*` of OPTIONS is no path, and begins with no slash.
    return [unquote_to_bytes(part) for part in path.removeprefix(b"/").split(b"/")]
