"""Where a URL leads: scheme, host and port, read once and strictly.

An upstream's answers hold URLs (a redirect's `Location`, a challenge's `realm`). They are read here by one narrow
grammar, so that no other parser down the line can see another host in them.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urljoin

import attrs

_PORTS = {"http": 80, "https": 443}
_MAX_URL = 16 * 1024
_MAX_HOST = 254
"""RFC 1035 section 2.3.4, and a final dot. Hosts are told to people, in logs and errors."""
_PRINTABLE = re.compile(r"[\x21-\x7e]+\Z")
_URL = re.compile(
    r"(?P<scheme>[a-z]+)://"
    r"(?P<host>[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?\.?|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?=[/?#]|\Z)",
    re.IGNORECASE,
)
_HAS_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


class BadURL(ValueError):
    """A URL that is not followed. The message says why, and does not quote it: it may be signed."""


@attrs.frozen
class Origin:
    """Whom a request goes to (RFC 9110 section 4.3.1): lower-case `scheme` and `host`, and `port`."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """Read it from an absolute http or https URL without user information; raises `BadURL`."""
        if len(url) > _MAX_URL:
            raise BadURL("a URL of more than 16 KiB")
        if not _PRINTABLE.match(url):
            raise BadURL("a URL with characters outside ASCII")
        found = _URL.match(url)
        if found is None:
            raise BadURL("a URL that is not scheme://host:port/path")
        scheme, host = found["scheme"].lower(), found["host"].lower()
        if len(host) > _MAX_HOST:
            raise BadURL("a URL whose host is longer than a name can be")
        if scheme not in _PORTS:
            raise BadURL("a URL that is neither http nor https")
        if host.startswith("["):
            try:
                host = str(ipaddress.IPv6Address(host[1:-1]))
            except ValueError:
                raise BadURL("a URL whose host is not an address") from None
        port = int(found["port"]) if found["port"] else _PORTS[scheme]
        if not 0 < port < 65536:
            raise BadURL("a URL whose port is not 1 to 65535")
        return cls(scheme, host, port)

    @property
    def netloc(self) -> str:
        """Host and port as people write them: without the scheme's default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"


def path_of(url: str) -> str:
    """Give the path of an absolute URL, with its leading slash and without its query."""
    return "/" + re.split(r"[?#]", url.partition("://")[2], maxsplit=1)[0].partition("/")[2]


def follow(base: str, location: str) -> str:
    """Resolve a redirect's `location` against the URL that gave it; an absolute one stays as it is, byte for byte.

    A fragment is dropped. Raises `BadURL` for what must not be followed: not http or https, user information, or
    from https to http.
    """
    target = location.partition("#")[0]
    if len(target) > _MAX_URL or not _PRINTABLE.match(target):
        raise BadURL("a URL that is empty, too long or not ASCII")
    if not _HAS_SCHEME.match(target):
        try:
            target = urljoin(base, target)
        except ValueError:
            raise BadURL("a URL that is not scheme://host:port/path") from None
    origin = Origin.of(target)
    if origin.scheme == "http" and Origin.of(base).scheme == "https":
        raise BadURL("a URL that leads from https to http")
    return target
