"""Manifests in the store: read with their right, fetched once however many ask, stored before they are linked."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.logger import Logger

from nora.concurrency import Background, SingleFlight
from nora.oci import MAX_MANIFEST_SIZE, Descriptor, Digest, Manifest, Reference, Repository
from nora.oci.errors import ManifestUnknown, NoSpace
from nora.pull.absences import Absences
from nora.pull.interfaces import Answer
from nora.storage.interfaces import Blobs, Index, Locks, Repositories
from nora.upstream.chain import Found, first
from nora.upstream.interfaces import Candidate

ELSEWHERE = 5.0
"""How many seconds a fetch waits for another process that fetches the same; then it goes its own way."""

Key = tuple[Reference, tuple[Candidate, ...]]


class Manifests:
    """The manifests of proxied repositories."""

    _log = Logger()

    def __init__(
        self,
        blobs: Blobs,
        repositories: Repositories,
        index: Index,
        locks: Locks,
        background: Background,
        absences: Absences,
    ) -> None:
        self._blobs = blobs
        self._repositories = repositories
        self._index = index
        self._locks = locks
        self._absences = absences
        self._fetching: SingleFlight[Key, Found[Manifest]] = SingleFlight(background)
        self._describing: SingleFlight[tuple[Reference, tuple[Candidate, ...], bool], Found[Descriptor]] = (
            SingleFlight(background)
        )

    async def read(self, repository: Repository, digest: Digest) -> Answer | None:
        """Read a stored manifest that `repository` may read; None when there is none."""
        descriptor = await self._repositories.manifest(repository, digest)
        if descriptor is None or descriptor.size > MAX_MANIFEST_SIZE:
            return None
        file = await self._blobs.open(digest, descriptor.size)
        if file is None:
            return None
        file.close()
        body = await self._blobs.read(digest, MAX_MANIFEST_SIZE)
        if body is None or len(body) != descriptor.size:
            return None
        self._index.used(digest)
        return Answer(descriptor, body)

    async def has(self, repository: Repository, digest: Digest) -> Descriptor | None:
        """Tell the descriptor of a stored manifest that `repository` may read."""
        descriptor = await self._repositories.manifest(repository, digest)
        if descriptor is None or self._blobs.size(digest) != descriptor.size:
            return None
        return descriptor

    async def fetch(
        self, candidates: Sequence[Candidate], reference: Reference
    ) -> tuple[Found[Manifest], bool]:
        """Get a manifest from the first candidate that has it and store it, once for all who ask at the time.

        Tells as well whether it is stored: with a full disk it is not, and is served all the same. Raises what the
        candidates' outcomes come to.
        """
        key = (reference, tuple(candidates))
        asked = [candidate.repository for candidate in candidates]
        found = await self._absences.ask(
            asked, reference, ManifestUnknown, lambda: self._fetching.run(key, lambda: self._fetch(*key))
        )
        return found, await self.has(found.candidate.repository, found.value.digest) is not None

    async def _fetch(self, reference: Reference, candidates: tuple[Candidate, ...]) -> Found[Manifest]:
        """Fetch it; what has a digest, in one process at a time, for another may just have stored it."""
        if not isinstance(reference, Digest) or not candidates:
            return await self._ask_for(reference, candidates)
        lock = await self._locks.hold(f"manifest:{candidates[0].repository}:{reference}", ELSEWHERE)
        try:
            for candidate in candidates:
                stored = await self.read(candidate.repository, reference)
                if stored is not None and stored.body is not None:
                    manifest = Manifest.verify(stored.body, stored.descriptor.media_type, reference)
                    return Found(manifest, candidate, ())
            return await self._ask_for(reference, candidates)
        finally:
            if lock is not None:
                lock.release()

    async def _ask_for(self, reference: Reference, candidates: tuple[Candidate, ...]) -> Found[Manifest]:
        async def ask(candidate: Candidate) -> Manifest:
            return await candidate.upstream.manifest(candidate.repository.name, reference)

        found = await first(candidates, ask, ManifestUnknown)
        self._absences.forget(found.candidate.repository)
        await self._store(found.candidate.repository, found.value)
        return found

    async def describe(
        self, candidates: Sequence[Candidate], reference: Reference, *, cached: bool = False
    ) -> Found[Descriptor]:
        """Ask for a manifest's descriptor, once for all who ask at the time; raises as `fetch` does.

        With a `cached` copy at hand nobody waits for an upstream whose circuit is open, and what was absent a moment
        ago is asked for again.
        """
        key = (reference, tuple(candidates), cached)
        if cached:
            return await self._describing.run(key, lambda: self._describe(*key))
        asked = [candidate.repository for candidate in candidates]
        found = await self._absences.ask(
            asked, reference, ManifestUnknown, lambda: self._describing.run(key, lambda: self._describe(*key))
        )
        self._absences.forget(found.candidate.repository)
        return found

    async def _describe(
        self, reference: Reference, candidates: tuple[Candidate, ...], cached: bool
    ) -> Found[Descriptor]:
        async def ask(candidate: Candidate) -> Descriptor:
            return await candidate.upstream.describe(candidate.repository.name, reference)

        return await first(candidates, ask, ManifestUnknown, last_resort=not cached)

    async def _store(self, repository: Repository, manifest: Manifest) -> None:
        """Bytes before the link. A disk that takes neither costs the cache, not the answer."""
        try:
            await self._blobs.add(manifest.body, manifest.digest)
            await self._repositories.link_manifest(repository, manifest.descriptor)
        except (OSError, NoSpace) as error:
            self._log.error("{digest} is not stored: {error}", digest=str(manifest.digest), error=error)
            return
        self._index.listed(repository, (*manifest.blobs, *manifest.manifests))
