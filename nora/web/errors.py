"""Errors as clients see them: the one table from the tree of `nora.oci.errors` to HTTP and to the OCI codes.

The body is always the distribution-spec's ("Error Codes"): `{"errors": [{"code", "message", "detail"}]}`. A
class that the table does not name is answered as its nearest ancestor that it does; a test walks the tree and
fails when that is only the root. Anything that is no `NoraError` is a defect: 500, and nothing of it shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

import attrs
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import RESPONSES, Request

from nora.access.limits import TooManyLogins
from nora.oci import errors

_MAX_MESSAGE = 1000
_MAX_DETAIL = 16_384

log = Logger()


class NotOffered(errors.Unsupported):
    """An endpoint that is not here at all.

    404 and not 405: that is how a registry says that it lacks an endpoint, and clients look for another way.
    """


class TooManyTags(errors.RequestTooLarge):
    """More tags for one manifest than are taken at once; the status is the specification's."""


class HeadTooLarge(errors.RequestTooLarge):
    """The line and the headers of a request are too long, or too many (RFC 6585 section 5)."""


TABLE: Mapping[type[errors.NoraError], tuple[int, str]] = MappingProxyType(
    {
        errors.InvalidRequest: (400, "UNSUPPORTED"),
        errors.InvalidName: (400, "NAME_INVALID"),
        errors.InvalidTag: (400, "TAG_INVALID"),
        errors.InvalidDigest: (400, "DIGEST_INVALID"),
        errors.TooSlow: (408, "SIZE_INVALID"),
        errors.InvalidRange: (416, "RANGE_INVALID"),
        errors.RequestTooLarge: (413, "SIZE_INVALID"),
        TooManyTags: (414, "TAG_INVALID"),
        HeadTooLarge: (431, "SIZE_INVALID"),
        errors.InvalidSize: (400, "SIZE_INVALID"),
        errors.InvalidManifest: (400, "MANIFEST_INVALID"),
        errors.MissingContent: (400, "MANIFEST_BLOB_UNKNOWN"),
        errors.InvalidUpload: (400, "BLOB_UPLOAD_INVALID"),
        errors.UploadOutOfOrder: (416, "BLOB_UPLOAD_INVALID"),
        errors.Unsupported: (405, "UNSUPPORTED"),
        NotOffered: (404, "UNSUPPORTED"),
        errors.Unknown: (404, "NAME_UNKNOWN"),
        errors.NameUnknown: (404, "NAME_UNKNOWN"),
        errors.ManifestUnknown: (404, "MANIFEST_UNKNOWN"),
        errors.BlobUnknown: (404, "BLOB_UNKNOWN"),
        errors.UploadUnknown: (404, "BLOB_UPLOAD_UNKNOWN"),
        errors.Denied: (403, "DENIED"),
        errors.Unauthorized: (401, "UNAUTHORIZED"),
        errors.Overloaded: (503, "TOOMANYREQUESTS"),
        TooManyLogins: (429, "TOOMANYREQUESTS"),
        errors.Limited: (429, "TOOMANYREQUESTS"),
        errors.Unavailable: (502, "UNAVAILABLE"),
        errors.TimedOut: (504, "UNAVAILABLE"),
        errors.TooLarge: (403, "DENIED"),
        errors.NoSpace: (503, "UNAVAILABLE"),
    }
)
DEFECT = (500, "UNKNOWN")
"""What anything that is no `NoraError` is answered with."""

_OF_CONTENT = (
    b"Accept-Ranges",
    b"Cache-Control",
    b"Cache-Status",
    b"Content-Range",
    b"Docker-Content-Digest",
    b"ETag",
)
_UNKNOWN = {"manifest": "MANIFEST_UNKNOWN", "blob": "BLOB_UNKNOWN"}


@attrs.frozen
class Told:
    """An error as it goes out."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def classify(error: BaseException) -> tuple[int, str] | None:
    """Find the status and the code of `error`; None for a defect."""
    for kind in type(error).__mro__:
        found = TABLE.get(kind)
        if found is not None:
            return found
    return None


def tell(error: BaseException, endpoint: str = "other", allow: bytes = b"GET, HEAD") -> Told:
    """Put `error` into the words of the specification.

    `endpoint` gives an `Unknown` that says no more its code; `allow` is what a 405 tells of the methods.
    """
    status, code = classify(error) or DEFECT
    if code == "NAME_UNKNOWN" and not isinstance(error, errors.NameUnknown):
        code = _UNKNOWN.get(endpoint, code)
    if isinstance(error, errors.NoraError):
        entry = {"code": code, "message": error.message[:_MAX_MESSAGE], "detail": error.detail}
    else:
        entry = {"code": code, "message": "this server failed; its log tells more", "detail": None}
    body = _body(entry)
    headers = [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))]
    headers += _headers(error, status, allow)
    return Told(status, tuple(headers), body)


def answer(
    request: Request, error: BaseException, endpoint: str = "other", allow: bytes = b"GET, HEAD"
) -> bytes:
    """Make `request`, whose answer has not begun, the answer to `error`; gives the body to write."""
    told = tell(error, endpoint, allow)
    for name in _OF_CONTENT:
        request.responseHeaders.removeHeader(name)
    request.setResponseCode(told.status)
    for name, value in told.headers:
        request.setHeader(name, value)
    return b"" if request.method == b"HEAD" else told.body


def bare(told: Told, server: bytes, id: str) -> bytes:
    """Make the whole answer to what was no request: the last one on its connection."""
    phrase = RESPONSES.get(told.status, b"Refused")
    headers = (
        (b"Server", server),
        (b"X-Request-ID", id.encode("ascii")),
        (b"Connection", b"close"),
        *told.headers,
    )
    lines = [b"HTTP/1.1 %d %s" % (told.status, phrase), *(b"%s: %s" % header for header in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + told.body


def report(error: BaseException, request_id: str) -> None:
    """Log a defect with its traceback, under the id that the client was told."""
    if classify(error) is None:
        log.failure(
            "a defect while answering request {request_id}",
            Failure(error, type(error), error.__traceback__),
            request_id=request_id,
        )


def _headers(error: BaseException, status: int, allow: bytes) -> list[tuple[bytes, bytes]]:
    if isinstance(error, errors.InvalidRange):
        return [(b"Content-Range", b"bytes */%d" % error.size)]
    if isinstance(error, (errors.Overloaded, errors.Limited)) and error.retry_after is not None:
        return [(b"Retry-After", b"%d" % max(0, error.retry_after))]
    if isinstance(error, errors.Unauthorized):
        return [(b"WWW-Authenticate", error.challenge.encode("latin-1", "replace"))]
    if status == 405:
        return [(b"Allow", allow)]
    return []


def _body(entry: dict[str, object]) -> bytes:
    if entry["detail"] is None:
        del entry["detail"]
    try:
        body = json.dumps({"errors": [entry]}, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError, RecursionError):
        body = b""
    if body and len(body) <= _MAX_DETAIL:
        return body
    entry.pop("detail", None)
    return json.dumps({"errors": [entry]}, separators=(",", ":")).encode("ascii")
