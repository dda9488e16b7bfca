"""Pushing a manifest: the one moment when an image comes to be.

The order on disk is the argument: the bytes, which nobody can read without a link; the record that it refers to its
subject, which counts for nothing without the link; the link, which makes it readable by digest; and the tags, which
count for nothing without the link either. Whenever the process dies, what is there is whole. What the manifest lists
is looked for under the repository's lock, where no removal can take it away before the link is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nora.access import Rights
from nora.oci import MAX_MANIFEST_SIZE, Digest, Reference, Repository, Tag, parse_reference
from nora.oci.errors import InvalidManifest, InvalidTag, MissingContent, Overloaded, RequestTooLarge
from nora.oci.pushed import PushedDocument, read_pushed
from nora.oci.reference import LOCAL
from nora.push.immutable import ImmutableTags
from nora.push.interfaces import PushedManifest, Target, Targets
from nora.push.turns import Turns
from nora.storage.holdings import Holdings
from nora.storage.interfaces import Blobs, Disk, Index, Locks, Repositories, TagRecord
from nora.storage.locks import of_blob

MAX_TAGS = 100
"""Tags that one push of a manifest may set beside its digest; the specification asks for 10 at least."""
_MAX_NAMED = 20
"""Missing things that an error names."""
_WAIT = 10.0
_INLINE = 16 * 1024
"""Bytes of a manifest that are understood on the reactor: less time than a hop to a thread takes."""


class ManifestPush:
    """Stores manifests; the part of `nora.push.interfaces.Push` that does."""

    def __init__(
        self,
        targets: Targets,
        repositories: Repositories,
        holdings: Holdings,
        blobs: Blobs,
        index: Index,
        disk: Disk,
        locks: Locks,
        turns: Turns,
        immutable: ImmutableTags,
        now: Callable[[], float],
        *,
        sparse: bool = False,
    ) -> None:
        """`now` gives seconds since the epoch; `sparse` lets a manifest list what is not here."""
        self._targets = targets
        self._repositories = repositories
        self._holdings = holdings
        self._blobs = blobs
        self._index = index
        self._disk = disk
        self._locks = locks
        self._turns = turns
        self._immutable = immutable
        self._now = now
        self._sparse = sparse

    async def manifest(
        self,
        target: Target,
        reference: Reference,
        media_type: str | None,
        body: bytes,
        tags: Sequence[str],
        rights: Rights,
    ) -> PushedManifest:
        """Store a manifest, under a tag, or by its digest and `tags` beside it.

        Raises `NotAllowed`, `Denied`, `InvalidManifest`, `MissingContent`, `InvalidDigest`, `InvalidTag`,
        `RequestTooLarge`, `Overloaded`, `NoSpace`.
        """
        repository = await self._targets.resolve(target, rights)
        named = _tags(reference, tags)
        digest = None if isinstance(reference, Tag) else reference
        document = await self._read(body, media_type, digest)
        pushed = document.descriptor
        # Before the lock: most of what is wrong is found without it.
        await self._check(repository, document)
        await self._turns.take(repository, lambda: self._store(repository, document, body, named))
        return PushedManifest(pushed.digest, document.subject, named)

    async def _read(self, body: bytes, media_type: str | None, digest: Digest | None) -> PushedDocument:
        if len(body) > MAX_MANIFEST_SIZE:
            raise RequestTooLarge("the manifest is larger than 4 MiB", {"limit": MAX_MANIFEST_SIZE})
        if len(body) <= _INLINE:
            return read_pushed(body, media_type, digest)
        return await self._disk.run(read_pushed, body, media_type, digest)

    async def _store(
        self, repository: Repository, document: PushedDocument, body: bytes, tags: Sequence[str]
    ) -> None:
        pushed = document.descriptor
        for tag in tags:
            present = await self._repositories.tag(repository, tag)
            known = None if present is None else present.descriptor.digest
            self._immutable.check_push(repository, tag, known, pushed.digest)
        await self._check(repository, document)
        new = await self._holdings.is_empty(repository)
        await self._link(repository, document, body)
        for tag in tags:
            await self._repositories.put_tag(repository, tag, TagRecord(pushed, LOCAL, self._now()))
        self._index.listed(repository, document.children)
        if new:
            await self._index.flush()  # so that every worker lists it

    async def _link(self, repository: Repository, document: PushedDocument, body: bytes) -> None:
        """Publish and link the bytes, which nobody may sweep away in between."""
        pushed = document.descriptor
        lock = await self._locks.hold(of_blob(pushed.digest), _WAIT)
        if lock is None:
            raise Overloaded("others push this very manifest", 1)
        try:
            await self._blobs.add(body, pushed.digest)
            await self._targets.host(repository)
            if document.subject is not None:
                await self._holdings.refer(repository, document.subject, pushed)
            if await self._repositories.manifest(repository, pushed.digest) != pushed:
                await self._repositories.link_manifest(repository, pushed)
        finally:
            lock.release()

    async def _check(self, repository: Repository, document: PushedDocument) -> None:
        """See that all is there that the manifest lists; raises `MissingContent`, `InvalidManifest` for other sizes."""
        lacking = await self._holdings.lacking(repository, document.children)
        missing = [str(each.descriptor.digest) for each in lacking if each.size is None]
        if missing and not self._sparse:
            detail = {"missing": missing[:_MAX_NAMED], "count": len(missing)}
            raise MissingContent(f"{repository.name} lacks what the manifest lists", detail)
        wrong = {str(each.descriptor.digest): each.size for each in lacking if each.size is not None}
        if wrong:
            wrong = dict(list(wrong.items())[:_MAX_NAMED])
            raise InvalidManifest("the manifest lists other sizes than what it lists has", {"sizes": wrong})


def _tags(reference: Reference, beside: Sequence[str]) -> tuple[str, ...]:
    """Check the tags of a push, each once."""
    if isinstance(reference, Tag):
        if beside:
            raise InvalidTag("tags beside the reference go with a digest")
        return (reference.name,)
    if len(beside) > MAX_TAGS:
        raise InvalidTag(f"more than {MAX_TAGS} tags at once")
    for tag in beside:
        if not isinstance(parse_reference(tag), Tag):
            raise InvalidTag("a digest is no tag")
    return tuple(dict.fromkeys(beside))
