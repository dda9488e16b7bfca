"""One upstream's HTTP client: redirects by our own rules, and failures in the domain's words.

It sends GET and HEAD, and POST to token services. An `Authorization` goes to the origin that it was made for, and to no
other: when a redirect changes scheme, host or port it is dropped, and not taken up again if a later one leads back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from treq.client import HTTPClient
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse

from nora.oci.errors import TimedOut, Unavailable, Unverified
from nora.upstream.bodies import abort_body, drain_body, read_body
from nora.upstream.guard import Guard
from nora.upstream.origin import BadURL, Origin, follow, path_of
from nora.upstream.proxy import NotPublic, ProxyFailed
from nora.upstream.transport import Encoded, Oversized
from nora.upstream.verbatim import VerbatimURL

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REASONS = 50


_WORDS: tuple[tuple[tuple[type[BaseException], ...], type[Exception], str], ...] = (
    ((CancelledError, error.ConnectingCancelledError), CancelledError, "cancelled"),
    ((error.TimeoutError, error.TCPTimedOutError), TimedOut, "no connection in time"),
    ((error.ConnectionRefusedError,), Unavailable, "connection refused"),
    ((error.ConnectError,), Unavailable, "no connection"),
    ((VerificationError, CertificateError), Unavailable, "its certificate is not for this host"),
)


AuthorizationFor = Callable[[Origin, str], str | None]
"""Gives the value of `Authorization` for a request to a path of an origin, None for none."""

Leads = Callable[[int, str], bool]
"""Tells whether a redirect with a status to a URL is followed."""


def _anonymous(_: Origin, __: str) -> None:
    """Stay anonymous."""


def anywhere(_: int, __: str) -> bool:
    """Follow every redirect."""
    return True


class Answer:
    """A final response: `status`, the `origin` it came from and the `path` there, and its body, to be ended once.

    `authorization` is the one that the last request carried, None when it had none.
    """

    def __init__(self, response: IResponse, url: str, authorization: str | None, clock: IReactorTime) -> None:
        self.status = int(response.code)
        self.origin = Origin.of(url)
        self.path = path_of(url)
        self.authorization = authorization
        self._response = response
        self._clock = clock
        self._taken = False

    @property
    def length(self) -> int | None:
        """The length of the body that follows, in bytes; None when it is not told. 0 after HEAD."""
        length = self._response.length
        return None if length is UNKNOWN_LENGTH else int(length)

    def headers(self, name: str) -> list[str]:
        """Give every line of a header."""
        return [
            line.decode("latin-1")
            for line in self._response.headers.getRawHeaders(name.encode("ascii")) or []
        ]

    def header(self, name: str) -> str | None:
        """Give a header that is sent once; None when it is missing, or there more than once and not the same."""
        lines = set(self.headers(name))
        return lines.pop() if len(lines) == 1 else None

    def take(self) -> IResponse:
        """Hand over the response, and with it the duty to end its body."""
        self._taken = True
        return self._response

    def read(self, limit: int) -> Deferred[bytes]:
        """Give the whole body, as `nora.upstream.bodies.read_body`."""
        return read_body(self.take(), limit)

    async def drain(self) -> None:
        """Be done with the body, keeping the connection if it is short and comes within a second."""
        if not self._taken:
            await drain_body(self.take(), self._clock)

    def abort(self) -> None:
        """Be done with the body by closing the connection."""
        if not self._taken:
            abort_body(self.take())


class Client:
    """Asks one upstream, and whomever it redirects to."""

    def __init__(self, http: HTTPClient, clock: IReactorTime, guard: Guard | None = None) -> None:
        self._http = http
        self._clock = clock
        self._guard = guard

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        authorization_for: AuthorizationFor = _anonymous,
        leads: Leads = anywhere,
        data: bytes | None = None,
    ) -> Answer:
        """Ask, and follow at most 5 redirects; `authorization_for(origin, path)` is asked for each on the way.

        With `data`, the body of a POST, which may be a secret, none is followed.

        A redirect that `leads` does not follow is the answer.

        Raises `Unavailable` (or `TimedOut`) when no answer comes, `Unverified` for an answer that cannot be used. How
        long all of it takes is the caller's to bound; the caller ends the answer's body.
        """
        left: set[Origin] = set()
        for _ in range(MAX_REDIRECTS + 1):
            origin = Origin.of(url)
            authorization = None if origin in left else authorization_for(origin, path_of(url))
            response = await self._send(method, url, headers, authorization, data)
            answer = Answer(response, url, authorization, self._clock)
            if not 100 <= answer.status <= 599:
                answer.abort()
                raise Unverified("it answered with a status that HTTP does not have")
            if answer.status not in _REDIRECTS:
                return answer
            if data is not None:
                await answer.drain()
                raise Unverified("redirected, where no redirect is followed")
            try:
                url = follow(url, answer.header("Location") or "")
            except BadURL as bad:
                await answer.drain()
                raise Unverified(f"redirected to {bad}") from None
            if not leads(answer.status, url):
                return answer
            await answer.drain()
            if Origin.of(url) != origin:
                left.add(origin)
        raise Unverified(f"redirected more than {MAX_REDIRECTS} times")

    async def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        authorization: str | None,
        data: bytes | None,
    ) -> IResponse:
        sent = Headers({name: [value] for name, value in headers.items()})
        if authorization is not None:
            sent.setRawHeaders("Authorization", [authorization])
        try:
            response: IResponse = await self._http.request(
                method,
                VerbatimURL(url),
                headers=sent,
                data=data,
                allow_redirects=False,
                unbuffered=True,
                reactor=cast(Any, self._clock),
            )
        except Exception as failed:
            explained = self._explain(failed, Origin.of(url))
            if isinstance(explained, Unavailable) and not isinstance(explained, Unverified):
                explained.answered = False
            raise explained from None
        return response

    def _explain(self, failed: Exception, origin: Origin) -> Exception:
        """Say in the domain's words why no response came."""
        if isinstance(
            failed, ValueError
        ):  # Twisted takes names of IDNA only; the rest of the URL was checked
            return Unverified(f"{origin.host[:100]} is not a host name")
        if isinstance(failed, error.DNSLookupError):
            if self._guard is not None and self._guard.refuses(origin.host):
                return Unverified(f"sent to {origin.host}, whose address is not public")
            return Unavailable(f"the name {origin.host} does not resolve")
        if isinstance(failed, NotPublic):
            return Unverified(f"sent to {origin.host}, whose address is not public")
        for reason in _reasons(failed):
            explained = _explain_one(reason)
            if explained is not None:
                return explained
        return Unavailable("the connection broke before the answer")


def _reasons(failed: BaseException) -> Iterator[BaseException]:
    """Unpack what Twisted's client wraps, outermost first."""
    pending: list[BaseException] = [failed]
    for _ in range(_MAX_REASONS):
        if not pending:
            return
        reason = pending.pop(0)
        yield reason
        inner = getattr(reason, "reasons", None) or ()
        pending.extend(each.value for each in inner if isinstance(each, Failure) and each.value is not None)


def _explain_one(reason: BaseException) -> Exception | None:
    """Explain one reason alone; None when it says too little."""
    if isinstance(reason, Oversized | Encoded):
        return Unverified(str(reason))
    if isinstance(reason, ProxyFailed):
        return Unavailable(str(reason))
    if isinstance(reason, SSL.Error):
        return Unavailable(f"TLS failed: {_openssl_words(reason)}")
    for kinds, explained, words in _WORDS:
        if isinstance(reason, kinds):
            return explained(words)
    return None


def _openssl_words(failed: SSL.Error) -> str:
    """Give OpenSSL's own reason, such as `certificate verify failed`."""
    try:
        return str(failed.args[0][0][2])[:100]
    except (IndexError, TypeError):
        return "no handshake"
