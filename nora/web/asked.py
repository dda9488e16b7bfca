"""What a request asks for: its endpoint, its audit event, and the arguments of its query."""

from __future__ import annotations

import re

from nora.oci import Digest, Tag, check_name, parse_reference
from nora.oci.errors import InvalidDigest, InvalidName, InvalidTag
from nora.push.interfaces import Target
from nora.web.requests import RegistryRequest, Visit

_CONTENT = {
    b"manifests": ("manifest", b"GET, HEAD, PUT, DELETE"),
    b"blobs": ("blob", b"GET, HEAD, DELETE"),
    b"referrers": ("referrers", b"GET"),
}
_LISTS = frozenset({"tags", "referrers"})
_SPAN = re.compile(rb"(?:bytes )?([0-9]{1,18})-([0-9]{1,18})(?:/(?:[0-9]{1,18}|\*))?\Z")
_MAX_WORD = 1024


def classify(request: RegistryRequest) -> None:
    """Tell metrics the endpoint, an answer of 405 its methods, and the audit log what it is about.

    Nothing is believed yet: a name may be none.
    """
    segments = request.postpath or []
    count = len(segments)
    if count == 1 and segments[0] == b"_catalog":
        request.endpoint, request.allow = "catalog", b"GET"
        request.visit = Visit("", "", action="list")
    elif count >= 4 and segments[-3:-1] == [b"blobs", b"uploads"]:
        started = bool(segments[-1])
        request.endpoint = "upload"
        request.allow = b"GET, PATCH, PUT, DELETE" if started else b"POST"
        _visit(request, segments[:-3], segments[-1], "push")
    elif count >= 3 and segments[-2:] == [b"blobs", b"uploads"]:
        request.endpoint, request.allow = "upload", b"POST"
        _visit(request, segments[:-2], b"", "push")
    elif count >= 3 and segments[-2:] == [b"tags", b"list"]:
        request.endpoint, request.allow = "tags", b"GET"
        _visit(request, segments[:-2], b"", "list")
    elif count >= 3 and segments[-2] in _CONTENT:
        request.endpoint, request.allow = _CONTENT[segments[-2]]
        _visit(request, segments[:-2], segments[-1], _action(request))
    elif count > 1 or segments[:1] not in ([], [b""]):
        request.allow = b""


def argument(request: RegistryRequest, name: bytes) -> bytes | None:
    """Give the first value of an argument of the query; None when there is none."""
    told = (request.args or {}).get(name)
    return told[0] if told else None


def namespace(request: RegistryRequest) -> str | None:
    """Read `ns`: the registry whose content is asked for; raises `InvalidName`."""
    told = argument(request, b"ns")
    if told is None:
        return None
    if len(told) > 255 or not _is_plain(told):
        raise InvalidName("ns is not the name of a registry")
    return told.decode("ascii")


def target(request: RegistryRequest, name: str) -> Target:
    """Tell which repository a change is for; raises `InvalidName`."""
    ns = namespace(request)
    if request.visit is not None:
        request.visit.namespace = ns
    return Target(check_name(name), ns)


def digest(request: RegistryRequest, name: bytes) -> Digest | None:
    """Read a digest from an argument; None when there is no such argument; raises `InvalidDigest`."""
    told = argument(request, name)
    if told is None:
        return None
    if len(told) > _MAX_WORD:
        raise InvalidDigest("a digest is not as long as that")
    return Digest.parse(told.decode("ascii", "replace"))


def tags(request: RegistryRequest) -> tuple[str, ...]:
    """Read the tags that a manifest gets beside its digest, each once; raises `InvalidTag`."""
    told = (request.args or {}).get(b"tag", [])
    found: dict[str, None] = {}
    for one in told:
        text = one[:_MAX_WORD].decode("ascii", "replace")
        if ":" in text or not isinstance(parse_reference(text), Tag):
            raise InvalidTag("tag is not the name of a tag")
        found[text] = None
    return tuple(found)


def span(request: RegistryRequest) -> tuple[int, int] | None:
    """Read a chunk's `Content-Range`, `<first>-<last>`: its first byte and the one past its last.

    Some clients send the form of RFC 9110, `bytes <first>-<last>/<size>`. None when there is none; raises
    `ValueError` for what is no range.
    """
    values = request.requestHeaders.getRawHeaders(b"Content-Range")
    if not values:
        return None
    found = _SPAN.match(values[0])
    if found is None or len(values) > 1 or int(found[2]) < int(found[1]):
        raise ValueError("Content-Range is not <first>-<last>")
    return int(found[1]), int(found[2]) + 1


def _visit(request: RegistryRequest, name: list[bytes], reference: bytes, action: str) -> None:
    request.visit = Visit(
        repository=b"/".join(name)[:_MAX_WORD].decode("utf-8", "replace"),
        reference=reference[:_MAX_WORD].decode("utf-8", "replace"),
        action=action,
    )


def _action(request: RegistryRequest) -> str:
    if request.method == b"DELETE":
        return "delete"
    if request.endpoint in _LISTS:
        return "list"
    return "push" if request.method == b"PUT" and request.endpoint == "manifest" else "pull"


def _is_plain(part: bytes) -> bool:
    return part.isascii() and part.decode("ascii").isprintable()
