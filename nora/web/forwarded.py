"""What proxies say of the client before them: pure parsing of headers that anybody can send.

A proxy adds itself at the right end, so that is where reading begins; what stands left of the first party that is not
trusted is that party's own invention. What cannot be read ends the reading: nothing left of it is believed.

Sources: RFC 7239 for `Forwarded`; `X-Forwarded-For` has custom alone.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import attrs

MAX_HOPS = 32
"""Proxies in a row; what stands left of so many is not read."""
UNIX = "unix"
"""The word for whoever comes through a UNIX socket."""

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

_MAX_LINE = 8192
_PAIR = re.compile(r'[ \t]*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^\s",;="\\]+)[ \t]*([;,]|\Z)')
_BLANK = re.compile(r"[ \t]*([;,]|\Z)")
_ESCAPE = re.compile(r"\\(.)")
_NODE = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9.]{7,15}))(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?\Z")

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\Z")
_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::([0-9]{1,5}))?\Z")
_NUMERIC = re.compile(r"[0-9.]+\Z")


@attrs.frozen
class Trusted:
    """The proxies that are believed: networks, and whether whoever comes through a UNIX socket is one."""

    networks: tuple[Network, ...] = ()
    unix: bool = False

    @classmethod
    def parse(cls, words: Iterable[str]) -> Trusted:
        """Read addresses, networks and the word `unix`; raises `ValueError` for anything else."""
        words = tuple(words)
        networks = tuple(ipaddress.ip_network(word) for word in words if word != UNIX)
        return cls(networks, UNIX in words)

    def has(self, address: Address) -> bool:
        """Tell whether the address is that of a trusted proxy."""
        return any(address in network for network in self.networks)  # those of the other version are not


@attrs.frozen
class Hop:
    """What one proxy said of who asked it: each "" when it did not say, or said nothing that can be used."""

    address: Address | None
    scheme: str = ""
    host: str = ""


def parse_address(text: str) -> Address | None:
    """Read an IP address; an IPv4 one in IPv6's clothes is read as what it is, and None is what is no address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def parse_node(text: str) -> Address | None:
    """Read an address with or without a port, IPv6 with or without brackets; None for all else, as `unknown`."""
    match = _NODE.match(text)
    if match is None:
        return None if "%" in text else parse_address(text)
    return parse_address(match[1] or match[2])


def parse_host(text: str) -> str:
    """Read `host[:port]`, in lower case; "" when it is none."""
    text = text.lower()
    match = _HOST.match(text)
    if match is None or (match[2] is not None and not 1 <= int(match[2]) <= 65535):
        return ""
    host = match[1]
    if host.startswith("[") or _NUMERIC.match(host):
        address = parse_address(host.strip("[]"))
        return "" if address is None else text
    return text if _NAME.match(host) else ""


def hosts_loopback(authority: str) -> bool:
    """Tell whether a checked `host[:port]` names this machine to itself: `localhost`, a name under it, 127/8, `::1`."""
    host = authority.rpartition("]")[0].removeprefix("[") or authority.partition(":")[0]
    address = parse_address(host)
    return is_loopback(address) if address is not None else f".{host}".endswith(".localhost")


def is_loopback(address: Address) -> bool:
    """Tell whether an address is this machine's own: 127.0.0.0/8, ::1."""
    return address.is_loopback


def hops(lines: Sequence[str]) -> list[Hop | None]:
    """Read the lines of a `Forwarded` header, the nearest proxy last; None is what cannot be read."""
    found: list[Hop | None] = []
    for line in lines:
        found.extend(_elements(line) or (None,))
    return found[-MAX_HOPS:]


def _elements(line: str) -> list[Hop | None] | None:
    """Read one line; None when it is malformed, for a quote may hide any part of it."""
    if len(line) > _MAX_LINE:
        return None
    elements: list[Hop | None] = []
    pairs: dict[str, str] = {}
    position = 0
    while True:
        match = _BLANK.match(line, position)
        if match is None:
            match = _PAIR.match(line, position)
            if match is None or match[1].lower() in pairs:
                return None
            pairs[match[1].lower()] = _unquoted(match[2])
        position = match.end()
        delimiter = match[match.lastindex or 0]
        if delimiter != ";" and pairs:
            elements.append(_hop(pairs))
            pairs = {}
        if not delimiter:
            return elements


def _unquoted(text: str) -> str:
    return _ESCAPE.sub(r"\1", text[1:-1]) if text.startswith('"') else text


def _hop(pairs: Mapping[str, str]) -> Hop:
    return Hop(
        parse_node(pairs.get("for", "")),
        parse_scheme(pairs.get("proto", "")),
        parse_host(pairs.get("host", "")),
    )


def parse_scheme(text: str) -> str:
    """Read `http` or `https`; "" for anything else."""
    scheme = text.strip(" \t").lower()
    return scheme if scheme in {"http", "https"} else ""


def listed(lines: Sequence[str]) -> list[str]:
    """Split the lines of a header at their commas, and give the last `MAX_HOPS` of what is there."""
    words = ",".join(lines).rsplit(",", MAX_HOPS)
    return [word.strip(" \t") for word in words[-MAX_HOPS:] if word.strip(" \t")]


def farthest(said: Sequence[Address | None], trusted: Trusted) -> int:
    """Tell how many of `said`, from its end, are believed, where the peer who said the last one is trusted.

    The last one believed is the first party that is not trusted, or the one next to what cannot be read.
    """
    count = 0
    for address in reversed(said):
        if address is None:
            break
        count += 1
        if not trusted.has(address):
            break
    return count
