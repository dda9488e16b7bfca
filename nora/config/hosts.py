"""Hosts and origins, as configuration writes them: pure grammar, one spelling for each.

Hosts compare in lower case and without their scheme's default port, so that is the one spelling that leaves
this module. Internationalized names are written in their ASCII form (`xn--...`).
"""

from __future__ import annotations

import ipaddress
import re

import attrs

MAX_HOST_LENGTH = 253
DEFAULT_PORTS = {"http": 80, "https": 443}
DOCKER_HUB = "docker.io"
"""The namespace of Docker Hub, whichever of its hosts is meant."""

_DOCKER_HUB_HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_LABEL = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_NUMERIC = re.compile(r"[0-9.]+\Z")
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?\Z")


class Malformed(ValueError):
    """The text is no such thing; the message continues the words "must ..."."""


@attrs.frozen
class Origin:
    """Where a server is: `scheme` is `http` or `https`, `host` lower-case and in brackets when it is IPv6.

    `port` is None for the scheme's default.
    """

    scheme: str
    host: str
    port: int | None

    @property
    def authority(self) -> str:
        """The host, and the port unless it is the default one."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def namespace(self) -> str:
        """The registry's name in image references: `docker.io` for Docker Hub's hosts, else its own name."""
        return canonical_namespace(parse_name(self.authority))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def canonical_namespace(authority: str) -> str:
    """Give the namespace that `authority`, lower-case and without a default port, stands for."""
    return DOCKER_HUB if authority in _DOCKER_HUB_HOSTS else authority


def parse_host(text: str) -> str:
    """Read an IP address (IPv6 without brackets) or a host name, in lower case; raises `Malformed`."""
    host = text.lower()
    if ":" in host or _NUMERIC.match(host):
        try:
            return str(ipaddress.ip_address(host))
        except ValueError:
            raise Malformed("be an IP address or a host name") from None
    if len(host) > MAX_HOST_LENGTH or not _HOST.match(host):
        raise Malformed("be an IP address or a host name")
    return host


def parse_authority(text: str) -> tuple[str, int | None]:
    """Read `host` or `host:port`, IPv6 addresses in brackets; raises `Malformed`."""
    match = _AUTHORITY.match(text)
    if match is None:
        raise Malformed("be host or host:port")
    host, digits = match[1], match[2]
    bracketed = host.startswith("[")
    try:
        host = parse_host(host[1:-1] if bracketed else host)
    except Malformed:
        raise Malformed("be host or host:port") from None
    if bracketed != (":" in host) or "%" in host:
        raise Malformed("be host or host:port")
    port = None if digits is None else int(digits)
    if port is not None and not 1 <= port <= 65535:
        raise Malformed("have a port from 1 to 65535")
    return (f"[{host}]" if bracketed else host), port


def parse_name(text: str) -> str:
    """Read `host[:port]` without a scheme into its one spelling: either scheme's default port is dropped."""
    host, port = parse_authority(text)
    return host if port is None or port in DEFAULT_PORTS.values() else f"{host}:{port}"


def parse_origin(text: str) -> Origin:
    """Read an http or https URL that names a server and nothing else; raises `Malformed`, saying what is too much."""
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in DEFAULT_PORTS:
        raise Malformed("be a URL that begins with http:// or https://")
    if "@" in rest:
        raise Malformed("not carry a user name or a password")
    if "?" in rest or "#" in rest:
        raise Malformed("not have a query or a fragment")
    authority, _, path = rest.partition("/")
    if path:
        raise Malformed("not have a path")
    try:
        host, port = parse_authority(authority)
    except Malformed as error:
        raise Malformed(f"{error} after {scheme}://") from None
    return Origin(scheme, host, None if port == DEFAULT_PORTS[scheme] else port)
