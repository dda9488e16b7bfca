"""Who is asking: the address, scheme and host of a request, as far as they can be believed.

Anybody can send `X-Forwarded-For`. It counts when the peer itself is a proxy that the configuration trusts, and then
as far as trusted proxies wrote it; see `nora.web.forwarded`.
"""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.address import UNIXAddress

from nora.web import forwarded
from nora.web.forwarded import Address, Trusted

if TYPE_CHECKING:
    from nora.web.requests import RegistryRequest

_ABSOLUTE = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)
_TOLD_BY_PROXIES = frozenset({b"forwarded", b"x-real-ip", b"via"})


@attrs.frozen
class Visitor:
    """Who is asking, and how it reaches this server."""

    address: str
    """An IP address in its one spelling, for the audit log and for limits; "" for a UNIX socket."""
    scheme: str
    """`http` or `https`, as the client sees it."""
    host: str
    """`host[:port]` in lower case, as the client names this server; "" when it named it in no usable way."""
    local: bool
    """The client is a program on this machine that means this machine, as far as can be told.

    The peer is loopback or a UNIX socket; the host is a loopback name, so that no web page made a browser ask by a name
    of its own; and nothing tells of a proxy between: no header, nor HTTP/1.0, which nginx speaks to what is behind it
    unless it is told otherwise, with the address behind it as host and without any such header.
    """


def visitor(request: RegistryRequest) -> Visitor:
    """Tell who sent the request; the first answer is kept with the request.

    It can be asked from the moment that the headers are there, before Twisted has told the request what it is.
    """
    if request.known_visitor is None:
        request.known_visitor = _look(request, (request.site or request.channel.site).trusted)
    return request.known_visitor


def _look(request: RegistryRequest, trusted: Trusted) -> Visitor:
    client: Any = request.client
    unix = isinstance(client, UNIXAddress)
    peer = None if unix else forwarded.parse_address(str(getattr(client, "host", "")))
    scheme = "https" if request.isSecure() else "http"
    host = _host(request)
    here = unix or (peer is not None and forwarded.is_loopback(peer))
    local = here and forwarded.hosts_loopback(host) and not _came_through(request)
    if trusted.unix if unix else peer is not None and trusted.has(peer):
        return _behind(request, trusted, Visitor(_text(peer), scheme, host, local))
    return Visitor(_text(peer), scheme, host, local)


def _behind(request: RegistryRequest, trusted: Trusted, direct: Visitor) -> Visitor:
    """Tell who is behind a trusted proxy. Of two headers that disagree one is the client's own: neither counts."""
    hops = forwarded.hops(_lines(request, b"Forwarded"))
    said = [forwarded.parse_node(word) for word in forwarded.listed(_lines(request, b"X-Forwarded-For"))]
    own = [None if hop is None else hop.address for hop in hops]
    found = {_last(each, trusted) for each in (said, own) if each}
    address = _text(found.pop()) if len(found) == 1 else ""
    hop = hops[-max(1, forwarded.farthest(own, trusted))] if hops else None
    schemes = {forwarded.parse_scheme(word) for word in _newest(request, b"X-Forwarded-Proto")}
    names = {forwarded.parse_host(word) for word in _newest(request, b"X-Forwarded-Host")}
    if hop is not None:
        schemes.add(hop.scheme)
        names.add(hop.host)
    return attrs.evolve(
        direct,
        address=address or direct.address,
        scheme=_agreed(schemes, direct.scheme),
        host=_agreed(names, direct.host),
    )


def _last(said: list[Address | None], trusted: Trusted) -> Address | None:
    count = forwarded.farthest(said, trusted)
    return said[-count] if count else None


def _agreed(said: set[str], otherwise: str) -> str:
    said.discard("")
    return said.pop() if len(said) == 1 else otherwise


def _newest(request: RegistryRequest, name: bytes) -> list[str]:
    return forwarded.listed(_lines(request, name))[-1:]


def _host(request: RegistryRequest) -> str:
    # What stands in the request's target wins over the header (RFC 9112 section 3.2.2).
    # Twisted's placeholder is the class's; the request learns its own target after the body.
    uri = request.channel.asked()[1] if request.uri is type(request).uri else request.uri
    absolute = _ABSOLUTE.match(uri)
    if absolute is not None:
        return forwarded.parse_host(absolute[1].decode("latin-1"))
    lines = _lines(request, b"Host")
    return forwarded.parse_host(lines[0].strip(" \t")) if len(lines) == 1 else ""


def _came_through(request: RegistryRequest) -> bool:
    """Tell whether a proxy passed the request on, as far as can be told."""
    asked = request.clientproto is type(request).clientproto
    if (request.channel.asked()[2] if asked else request.clientproto) == b"HTTP/1.0":
        return True
    names = (name.lower() for name, _ in request.requestHeaders.getAllRawHeaders())
    return any(name.startswith(b"x-forwarded") or name in _TOLD_BY_PROXIES for name in names)


def _lines(request: RegistryRequest, name: bytes) -> list[str]:
    return [line.decode("latin-1") for line in request.requestHeaders.getRawHeaders(name) or ()]


def _text(address: Address | None) -> str:
    return "" if address is None else str(address)
