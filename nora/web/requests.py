"""One request: its id, its bounds, and what is counted and audited when it ends.

A request body is bounded before it is read, because Twisted would spool it whole before any code of ours runs.
The end of a request is told by `notifyFinish`, which alone sees the aborted ones too.
"""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote_to_bytes

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString
from twisted.web.server import Request

from nora.oci.errors import RequestTooLarge
from nora.telemetry import AuditEvent
from nora.web import errors

if TYPE_CHECKING:
    from nora.web.connections import RegistryChannel, RegistrySite

MAX_BODY = 64 * 1024
LINGER = 2.0
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_ORIGIN = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://[^/?]*")


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
    """What was done to the repository: `pull`, or `list`."""


class RegistryRequest(Request):
    """A request to NORA."""

    channel: RegistryChannel
    site: RegistrySite
    transport: Any
    defaultContentType = None
    endpoint = "other"
    """One of the few words that metrics know."""
    visit: Visit | None = None
    """Set on requests for content, which the audit log tells of."""
    id = ""
    began = 0.0
    _refused = False

    def gotLength(self, length: int | None) -> None:
        """Make room for the body, or refuse it at once when it is said to be too long."""
        self.content = io.BytesIO()
        self._taken = 0
        if length is not None and length > MAX_BODY:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """Take a piece of the body; a chunked one is refused when it grows too long."""
        if self._refused:
            return
        self._taken += len(data)
        if self._taken > MAX_BODY:
            self._refuse()
        else:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Begin to answer, unless the request was refused already."""
        if not self._refused:
            super().requestReceived(command, path, version)

    def process(self) -> None:
        """Answer the request, which has come in whole."""
        self.site = self.channel.site
        if self.site.hot is not None and self.site.hot.answer(self):
            return
        self._begin()
        self.prepath = []
        # A proxy's client sends the absolute form (RFC 9112 section 3.2.2).
        path = _ORIGIN.sub(b"", self.path, count=1) or b"/"
        # The `*` of OPTIONS is no path, and begins with no slash.
        parts = path.removeprefix(b"/").split(b"/")
        self.postpath = [unquote_to_bytes(part) for part in parts]
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

    @property
    def peer(self) -> str:
        """The client's address; empty for a UNIX socket."""
        return str(getattr(cast(IAddress, self.client), "host", ""))

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

    def last(self) -> None:
        """Make this the last answer on its connection."""
        if not self.startedWriting:
            self.setHeader(b"Connection", b"close")
        self.channel.persistent = 0

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
        site.request_began(self)
        self.notifyFinish().addBoth(self._ended)

    def _ended(self, result: object) -> None:
        self.site.request_ended(self)
        self.tell(aborted=isinstance(result, Failure))

    def tell(self, *, aborted: bool) -> None:
        """Tell metrics and audit log of this request, which has ended."""
        site = self.site
        seconds = max(0.0, site.clock.seconds() - self.began)
        status = self.code if self.startedWriting else None
        method = self.method.decode("latin-1")
        site.metrics.requested(method, self.endpoint, status, seconds, self.sentLength)
        visit = self.visit
        if visit is None or site.audit is None:
            return
        site.audit.record(
            AuditEvent(
                time=self.began,
                id=self.id,
                client=self.peer,
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
                seconds=seconds,
                aborted=aborted,
            )
        )

    def _refuse(self) -> None:
        """Answer 413 before the body is there, and end the connection.

        The request is not finished: the parser is still inside of it. What still arrives is dropped for a
        moment, because closing at once would reset the connection before the client has read the answer.
        """
        self._refused = True
        channel = self.channel
        self.method, self.uri, self.clientproto = channel.refused()
        self.path = self.uri.partition(b"?")[0]
        self.requestHeaders.removeHeader(b"Expect")
        self._begin()
        self.last()
        self.write(
            errors.answer(
                self, RequestTooLarge(f"a request body is at most {MAX_BODY} bytes", {"limit": MAX_BODY})
            )
        )
        if ITCPTransport.providedBy(channel.transport) and not self.isSecure():
            channel.transport.loseWriteConnection()
        channel.linger(LINGER)
