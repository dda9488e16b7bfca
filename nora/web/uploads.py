"""Pushing blobs over HTTP (distribution-spec, "Pushing Blobs"): upload sessions, blobs in one request, mounts.

What a push does goes on when its client leaves: it learns that the body broke off, and ends by itself, so that
nothing is ever cancelled between two writes.
"""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

import re
from collections.abc import Coroutine
from typing import Any, TypeVar
from urllib.parse import urlencode

from nora.concurrency import Background, SingleFlight
from nora.oci import Digest, check_name
from nora.oci.errors import InvalidDigest, InvalidName, Unsupported, UploadOutOfOrder, UploadUnknown
from nora.push.interfaces import Push, Session, Target
from nora.web import asked
from nora.web.requests import RegistryRequest

T = TypeVar("T")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}\Z")


class Unbroken:
    """Work that its client's leaving does not cancel."""

    def __init__(self, background: Background) -> None:
        self._flights: SingleFlight[object, Any] = SingleFlight(background)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for `work`, which runs to its end whoever waits."""
        result: T = await self._flights.run(object(), lambda: work)
        return result


class Uploads:
    """The endpoints under `/v2/<name>/blobs/uploads/`."""

    def __init__(self, unbroken: Unbroken) -> None:
        self._unbroken = unbroken

    async def start(self, request: RegistryRequest, push: Push, name: str) -> bytes:
        """POST: begin an upload, or take a blob at once, or mount one."""
        if request.method != b"POST":
            raise Unsupported("an upload begins with POST")
        target = asked.target(request, name)
        mounted = asked.digest(request, b"mount")
        whole = asked.digest(request, b"digest")
        if mounted is not None:
            return await self._mount(request, push, target, mounted)
        if whole is not None:
            _note(request, whole)
            await self._unbroken.run(push.upload(target, whole, request.brought(), request.rights))
            return stored(request, target, "blobs", whole)
        return _session(request, target, await self._begin(request, push, target), 202)

    async def go_on(self, request: RegistryRequest, push: Push, name: str, id: str) -> bytes:
        """PATCH, PUT, GET or DELETE of a session."""
        target = asked.target(request, name)
        if request.method not in (b"GET", b"PATCH", b"PUT", b"DELETE"):
            raise Unsupported("an upload goes on with PATCH and PUT, and is asked about with GET")
        if not _ID.match(id):
            raise UploadUnknown("no such upload")
        if request.method == b"GET":
            session = await self._unbroken.run(push.status(target, id, request.rights))
            return _session(request, target, session, 204)
        if request.method == b"DELETE":
            await self._unbroken.run(push.cancel(target, id, request.rights))
            request.setResponseCode(204)
            return b""
        try:
            return await self._write(request, push, target, id)
        except UploadOutOfOrder as error:
            _tell(request, target, Session(id, error.size))
            raise

    async def _write(self, request: RegistryRequest, push: Push, target: Target, id: str) -> bytes:
        digest = asked.digest(request, b"digest")
        if digest is None and request.method == b"PUT":
            raise InvalidDigest("an upload ends with the digest of its blob, in the argument digest")
        try:
            span = asked.span(request)
        except ValueError:
            session = await self._unbroken.run(push.status(target, id, request.rights))
            raise UploadOutOfOrder(session.size) from None
        body = request.brought()
        if request.method == b"PATCH" or digest is None:
            session = await self._unbroken.run(push.append(target, id, span, body, request.rights))
            return _session(request, target, session, 202)
        _note(request, digest)
        await self._unbroken.run(push.finish(target, id, digest, span, body, request.rights))
        return stored(request, target, "blobs", digest)

    async def _begin(self, request: RegistryRequest, push: Push, target: Target) -> Session:
        return await self._unbroken.run(push.begin(target, request.rights))

    async def _mount(self, request: RegistryRequest, push: Push, target: Target, digest: Digest) -> bytes:
        if request.visit is not None:
            request.visit.action = "mount"
        _note(request, digest)
        told = asked.argument(request, b"from")
        source: str | None = None
        if told:
            try:
                source = check_name(told[:1024].decode("ascii", "replace"))
            except InvalidName:
                # There is no such source; the specification has the client upload it then.
                return _session(request, target, await self._begin(request, push, target), 202)
        mounted = await self._unbroken.run(push.mount(target, digest, source, request.rights))
        if isinstance(mounted, Session):
            return _session(request, target, mounted, 202)
        return stored(request, target, "blobs", digest)


def place(target: Target, *parts: str) -> bytes:
    """Give the path of something in a repository, by the name and the `ns` that the client itself used.

    It has no host: that is the one form that is right behind every proxy, and clients resolve it.
    """
    path = "/".join(("/v2", target.name, *parts))
    return (path if target.ns is None else f"{path}?{urlencode({'ns': target.ns})}").encode("ascii")


def stored(request: RegistryRequest, target: Target, kind: str, digest: Digest) -> bytes:
    """Answer that a blob or a manifest is stored now."""
    request.setResponseCode(201)
    request.setHeader(b"Location", place(target, kind, str(digest)))
    request.setHeader(b"Docker-Content-Digest", str(digest).encode("ascii"))
    request.setHeader(b"Content-Length", b"0")
    return b""


def _session(request: RegistryRequest, target: Target, session: Session, status: int) -> bytes:
    request.setResponseCode(status)
    _tell(request, target, session)
    if status != 204:
        request.setHeader(b"Content-Length", b"0")
    return b""


def _tell(request: RegistryRequest, target: Target, session: Session) -> None:
    request.setHeader(b"Location", place(target, "blobs", "uploads", session.id))
    request.setHeader(b"Docker-Upload-UUID", session.id.encode("ascii"))
    # Both ends count, so nothing at all cannot be told: clients read `0-0` of a session that has begun as that.
    request.setHeader(b"Range", b"0-%d" % max(0, session.size - 1))
    if request.visit is not None and not request.visit.reference:
        request.visit.reference = session.id


def _note(request: RegistryRequest, digest: Digest) -> None:
    if request.visit is not None:
        request.visit.digest = str(digest)
