"""Who is asking: the address, scheme and host of a request, as far as they can be believed."""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

import ipaddress
import re

import attrs

from nora.web.requests import RegistryRequest

_HOST = re.compile(r"(?:[a-z0-9.-]{1,255}|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?\Z")
_HEADERS = (b"Forwarded", b"X-Forwarded-For", b"X-Forwarded-Host", b"X-Forwarded-Proto", b"X-Real-IP", b"Via")


@attrs.frozen
class Visitor:
    """Who is asking, and how it reaches this server."""

    address: str
    """An IP address; "" for a UNIX socket."""
    scheme: str
    """`http` or `https`, as the client sees it."""
    host: str
    """`host[:port]` in lower case, as the client names this server; "" when it named it in no usable way."""
    local: bool
    """The client is a program on this machine that means this machine, as far as can be told."""


def visitor(request: RegistryRequest) -> Visitor:
    """Tell who sent the request."""
    told = (request.text(b"Host") or "").lower()
    host = told if _HOST.match(told) else ""
    through = any(request.requestHeaders.hasHeader(name) for name in _HEADERS)
    local = _is_loopback(request.peer) and _is_loopback(host) and not through
    return Visitor(request.peer, "https" if request.isSecure() else "http", host, local)


def _is_loopback(host: str) -> bool:
    name = re.sub(r":[0-9]+\Z", "", host) if "." in host or "[" in host or "localhost" in host else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
