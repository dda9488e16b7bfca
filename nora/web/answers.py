"""Answers: the headers of what a pull gives, in the words of the distribution-spec and of RFC 9110 and 9211."""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from twisted.logger import Logger

from nora.oci import Digest
from nora.oci.errors import NoraError
from nora.oci.manifest import is_index
from nora.pull.interfaces import Answer, Cached, Served
from nora.web.bodies import ClientLost
from nora.web.requests import RegistryRequest

__all__ = ["Cached", "base", "blob", "broken", "etag", "is_index", "manifest", "partial", "unchanged"]

CACHE_STATUS: Mapping[Cached, bytes] = MappingProxyType(
    {
        Cached.HIT: b"nora; hit",
        Cached.STALE: b"nora; hit; detail=stale",
        Cached.QUOTA: b"nora; hit; detail=quota",
        Cached.MISS: b"nora; fwd=miss; stored",
        Cached.FOLLOWED: b"nora; fwd=miss; collapsed; stored",
        Cached.BYPASS: b"nora; fwd=miss; detail=bypass",
    }
)
_HEAD_MISS = b"nora; fwd=miss"

_log = Logger()


def etag(digest: Digest) -> str:
    """Give the strong entity tag of content: its digest, quoted."""
    return f'"{digest}"'


def base(request: RegistryRequest) -> bytes:
    """Answer `/v2/`: this is a registry."""
    request.setHeader(b"Content-Type", b"application/json")
    request.setHeader(b"Content-Length", b"2")
    return b"" if request.method == b"HEAD" else b"{}"


def manifest(request: RegistryRequest, served: Served[Answer], namespace: str | None) -> None:
    """Set the headers of a manifest. Its type is its own, whatever `Accept` says."""
    descriptor = served.content.descriptor
    request.setHeader(b"Content-Type", descriptor.media_type.encode("ascii"))
    request.setHeader(b"Content-Length", b"%d" % descriptor.size)
    _common(request, served, descriptor.digest, namespace)


def blob(
    request: RegistryRequest, served: Served[Any], digest: Digest, namespace: str | None, size: int
) -> None:
    """Set the headers of a whole blob of `size` bytes."""
    request.setHeader(b"Content-Type", b"application/octet-stream")
    request.setHeader(b"Content-Length", b"%d" % size)
    request.setHeader(b"Accept-Ranges", b"bytes")
    request.setHeader(b"Cache-Control", b"max-age=31536000, immutable")
    _common(request, served, digest, namespace)


def partial(request: RegistryRequest, span: tuple[int, int], size: int) -> None:
    """Make the answer that of the bytes from `span[0]` up to `span[1]` of `size`."""
    start, stop = span
    request.setResponseCode(206)
    request.setHeader(b"Content-Length", b"%d" % (stop - start))
    request.setHeader(b"Content-Range", b"bytes %d-%d/%d" % (start, stop - 1, size))


def unchanged(request: RegistryRequest) -> bytes:
    """Make the answer 304: the client has it."""
    request.setResponseCode(304)
    request.responseHeaders.removeHeader(b"Content-Length")
    request.responseHeaders.removeHeader(b"Content-Type")
    return b""


def broken(request: RegistryRequest, error: BaseException) -> None:
    """Log why an answer is broken off after its first byte."""
    if isinstance(error, ClientLost):
        _log.debug("request {id}: {reason}", id=request.id, reason=str(error))
    elif isinstance(error, NoraError):
        _log.warn("request {id} broken off: {reason}", id=request.id, reason=error.message)
    else:
        _log.error("request {id} broken off by a defect: {error!r}", id=request.id, error=error)


def _common(request: RegistryRequest, served: Served[Any], digest: Digest, namespace: str | None) -> None:
    request.setHeader(b"Docker-Content-Digest", str(digest).encode("ascii"))
    request.setHeader(b"ETag", etag(digest).encode("ascii"))
    status = CACHE_STATUS[served.cached]
    if request.method == b"HEAD" and not served.cached.stored:
        status = _HEAD_MISS
    request.setHeader(b"Cache-Status", status)
    if namespace is not None:
        request.setHeader(b"OCI-Namespace", namespace.encode("ascii", "replace"))
