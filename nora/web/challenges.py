"""Challenges: how a client learns that it should log in, where, and what for.

The Docker token specification: `WWW-Authenticate: Bearer realm="<url of the token service>",service="...",scope="..."`.
What an endpoint needs follows from method and path alone, so that it can be told before anything is looked up.
"""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import attrs

from nora.access import Action
from nora.oci import check_name
from nora.oci.errors import InvalidName, Unauthorized
from nora.web.requests import RegistryRequest
from nora.web.visitors import visitor

TOKEN_PATH = "/v2/token"  # noqa: S105
_V2 = re.compile(r"(?:[Hh][Tt][Tt][Pp][Ss]?://[^/?]*)?/v2/(.{1,2048})\Z", re.DOTALL)
_BASE = re.compile(rb"(?:[Hh][Tt][Tt][Pp][Ss]?://[^/?]*)?/v2/?\Z")
_ORIGIN = re.compile(r"(https?)://(.+)\Z")


@attrs.frozen
class Service:
    """This server as one client knows it: the URL of its token service, and the name that tokens are for."""

    realm: str
    name: str


def service(request: RegistryRequest, public_url: str | None) -> Service:
    """Tell what the client of `request` knows this server as: by `public_url` where there is one."""
    scheme, host = known_as(request, public_url)
    return Service(f"{scheme}://{host}{TOKEN_PATH}", host)


def known_as(request: RegistryRequest, public_url: str | None) -> tuple[str, str]:
    """Tell scheme and `host[:port]` by which the client of `request` reaches this server."""
    found = None if public_url is None else _ORIGIN.match(public_url)
    if found is not None:
        return found[1], found[2]
    seen = visitor(request)
    return seen.scheme, seen.host or _own_host(request)


def bearer(at: Service, message: str, *, scope: str = "", error: str = "") -> Unauthorized:
    """Make the error that sends a client to the token service."""
    parts = [f'realm="{at.realm}"', f'service="{at.name}"']
    parts += [f'{key}="{value}"' for key, value in (("scope", scope), ("error", error)) if value]
    return Unauthorized(message, f"Bearer {','.join(parts)}")


def basic(message: str) -> Unauthorized:
    """Make the error of the token service itself, for who gave no password there, or a wrong one."""
    return Unauthorized(message, 'Basic realm="nora",charset="UTF-8"')


def is_base(request: RegistryRequest) -> bool:
    """Tell whether `/v2/` itself is asked for."""
    return _BASE.match(request.path) is not None


def needed(request: RegistryRequest) -> tuple[str, Action] | None:
    """Tell the repository, as the client names it, and the most that the endpoint asks for; None where it is none."""
    found = _V2.match(request.path.decode("latin-1"))
    if found is None:
        return None
    parts = [unquote(part, "latin-1") for part in found[1].removesuffix("/").split("/")]
    length, action = _endpoint(request.method, parts)
    name = "/".join(parts[:length])
    try:
        return (check_name(name), action) if length else None
    except InvalidName:
        return None


def scope(request: RegistryRequest) -> str:
    """Write the scope that a client of this endpoint should have; empty where it needs none.

    That is what the endpoint needs. Only a HEAD of a blob needs less: it is how a push begins, and some clients, as
    oras for Python, keep to their first token and show it to the rest of the push too.
    """
    if request.path.removesuffix(b"/").endswith(b"/v2/_catalog"):
        return "registry:catalog:*"
    need = needed(request)
    if need is None:
        return ""
    name, action = need
    begins = request.method == b"HEAD" and request.path.rsplit(b"/", 2)[-2] == b"blobs"
    words = "pull,push" if action is Action.PUSH or begins else action.value
    asked = f"repository:{name}:{words}"
    source = (request.args or {}).get(b"from") if action is Action.PUSH else None
    if source and len(source[0]) <= 255 and source[0].isascii():
        with contextlib.suppress(InvalidName):  # a mount reads elsewhere
            asked += f" repository:{check_name(source[0].decode('ascii'))}:pull"
    return asked


def _endpoint(method: bytes, parts: Sequence[str]) -> tuple[int, Action]:
    """Tell of how many parts the name is, 0 for no endpoint of a repository, and what the endpoint does to it."""
    if parts[-2:] == ["blobs", "uploads"]:
        return len(parts) - 2, Action.PUSH
    if parts[-3:-1] == ["blobs", "uploads"]:
        return len(parts) - 3, Action.PUSH
    if parts[-2:] == ["tags", "list"] or parts[-2:-1] == ["referrers"]:
        return len(parts) - 2, Action.PULL
    if parts[-2:-1] not in (["manifests"], ["blobs"]):
        return 0, Action.PULL
    if method in (b"GET", b"HEAD"):
        return len(parts) - 2, Action.PULL
    return len(parts) - 2, Action.DELETE if method == b"DELETE" else Action.PUSH


def _own_host(request: RegistryRequest) -> str:
    """Give the address that the client connected to, for one that named no host."""
    here: Any = request.getHost()
    host = str(getattr(here, "host", "localhost"))
    port = getattr(here, "port", None)
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"
