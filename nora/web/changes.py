"""Changes to what a repository lists: manifests that are pushed, and what is deleted (distribution-spec)."""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

from nora.access import Action
from nora.content.interfaces import Removal
from nora.oci import MAX_MANIFEST_SIZE, Digest, Tag, parse_reference
from nora.oci.errors import Overloaded, RequestTooLarge
from nora.push.interfaces import Push
from nora.web import asked
from nora.web.errors import TooManyTags
from nora.web.incoming import IncomingBody
from nora.web.requests import RegistryRequest
from nora.web.uploads import Unbroken, stored

MAX_TAGS = 100
"""Tags in one push of a manifest; the specification demands ten."""
_ALL_BODIES = 64 * 1024 * 1024
_RETRY = 5


class ManifestBodies:
    """Manifests are read whole; all that are in the making have a bound together, in bytes."""

    def __init__(self, limit: int = _ALL_BODIES) -> None:
        self._limit = limit
        self._held = 0

    async def read(self, body: IncomingBody, most: int = MAX_MANIFEST_SIZE) -> bytes:
        """Read up to `most` bytes; `forget` them in the end. Raises `RequestTooLarge`, `Overloaded`, `Broken`."""
        if body.length is not None and body.length > most:
            raise RequestTooLarge(f"a manifest has at most {most} bytes", {"limit": most})
        chunks: list[bytes] = []
        taken = 0

        def take(chunk: bytes) -> None:
            nonlocal taken
            if taken + len(chunk) > most:
                raise RequestTooLarge(f"a manifest has at most {most} bytes", {"limit": most})
            if self._held + len(chunk) > self._limit:
                raise Overloaded("too many manifests are being pushed", _RETRY)
            chunks.append(chunk)
            taken += len(chunk)
            self._held += len(chunk)

        try:
            await body.deliver(take)
        except BaseException:
            self._held -= taken
            raise
        return b"".join(chunks)

    def forget(self, body: bytes) -> None:
        """Tell that a body that was read is needed no more."""
        self._held -= len(body)


class Changes:
    """PUT of manifests, DELETE of tags, manifests and blobs."""

    def __init__(self, unbroken: Unbroken) -> None:
        self._unbroken = unbroken
        self._bodies = ManifestBodies()

    async def put(self, request: RegistryRequest, push: Push, name: str, reference: str) -> bytes:
        """Take a manifest."""
        target = asked.target(request, name)
        parsed = parse_reference(reference)
        told = asked.tags(request)
        if len(told) > MAX_TAGS:
            raise TooManyTags(f"a manifest gets at most {MAX_TAGS} tags at once", {"limit": MAX_TAGS})
        # Push asks the operator's rules too; this much is known before the body is read.
        request.rights.require(Action.PUSH, target.name)
        body = await self._bodies.read(request.brought())
        try:
            pushed = await self._unbroken.run(
                push.manifest(target, parsed, _media_type(request), body, told, request.rights)
            )
        finally:
            self._bodies.forget(body)
        if request.visit is not None:
            request.visit.digest = str(pushed.digest)
        if pushed.subject is not None:
            request.setHeader(b"OCI-Subject", str(pushed.subject).encode("ascii"))
        if told:
            headers = [tag.encode("ascii") for tag in pushed.tags]
            request.responseHeaders.setRawHeaders(b"OCI-Tag", headers)
        return stored(request, target, "manifests", pushed.digest)

    async def remove_manifest(
        self, request: RegistryRequest, removal: Removal, name: str, reference: str
    ) -> bytes:
        """Remove a manifest, or only a tag."""
        target = asked.target(request, name)
        parsed = parse_reference(reference)
        if isinstance(parsed, Tag):
            await self._unbroken.run(removal.tag(target, parsed.name, request.rights))
        else:
            _note(request, parsed)
            await self._unbroken.run(removal.manifest(target, parsed, request.rights))
        return _accepted(request)

    async def remove_blob(self, request: RegistryRequest, removal: Removal, name: str, digest: str) -> bytes:
        """Remove a blob from a repository."""
        target = asked.target(request, name)
        parsed = Digest.parse(digest)
        _note(request, parsed)
        await self._unbroken.run(removal.blob(target, parsed, request.rights))
        return _accepted(request)


def _media_type(request: RegistryRequest) -> str | None:
    told = request.text(b"Content-Type")
    return None if told is None else told.partition(";")[0].strip()


def _accepted(request: RegistryRequest) -> bytes:
    request.setResponseCode(202)
    request.setHeader(b"Content-Length", b"0")
    return b""


def _note(request: RegistryRequest, digest: Digest) -> None:
    if request.visit is not None:
        request.visit.digest = str(digest)
