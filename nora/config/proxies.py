"""The address of a proxy, as configuration and the environment write it."""

from __future__ import annotations

from urllib.parse import unquote

import attrs

from nora.config import hosts

NONE = "none"
"""What forbids every proxy."""
ALLOWS = f'http://host:port, http://user:password@host:port, or "{NONE}"'


@attrs.frozen
class ProxyAddress:
    """Where a proxy is: `host` without brackets, and `user`, the `user:password` it asks for."""

    host: str
    port: int
    user: str | None = attrs.field(default=None, repr=False)


def parse_proxy(text: str) -> ProxyAddress:
    """Read a proxy's URL; without a scheme it is http. Raises `hosts.Malformed`, which shows nothing of the text."""
    before, separator, rest = text.partition("://")
    if separator and before.lower() != "http":
        raise hosts.Malformed("be http://host:port: other kinds of proxies are not spoken")
    userinfo, at, authority = (rest if separator else text).rpartition("@")
    try:
        host, port = hosts.parse_authority(authority.removesuffix("/"))
    except hosts.Malformed:
        raise hosts.Malformed("be http://host:port") from None
    user, _, password = userinfo.partition(":")
    decoded = f"{unquote(user)}:{unquote(password)}" if at else None
    if at and (not user or ":" in unquote(user) or not str(decoded).isprintable()):
        raise hosts.Malformed("be http://user:password@host:port")
    return ProxyAddress(host.strip("[]"), 80 if port is None else port, decoded)
