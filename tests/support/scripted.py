"""An upstream that a test plays by hand, in memory: what it has, how each transfer goes, what it was asked.

It keeps the contract of `nora.upstream.interfaces.Upstream`: outcomes are raised, a transfer delivers nothing
while paused, an aborted one fails with `Broken`.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from nora.oci import Descriptor, Digest, Manifest, Reference, Tag
from nora.oci.errors import Broken, NoraError, Unavailable
from nora.oci.listing import TagList, compose_referrers
from nora.upstream.outcomes import Absent

CHUNK = 64 * 1024


class ScriptedIncoming:
    """One transfer of `data`, from `start`. A held one delivers only what the test sends."""

    def __init__(self, data: bytes, start: int, size: int | None, *, held: bool) -> None:
        self.size = size
        self.start = start
        self.paused = False
        self.aborted = False
        self.ended = False
        self._data = data
        self._at = start
        self._held = held
        self._sink: Callable[[bytes], None] | None = None
        self._done: Deferred[None] = Deferred()

    def deliver(self, sink: Callable[[bytes], None]) -> Deferred[None]:
        """Begin."""
        self._sink = sink
        if self.aborted:
            self._fail(Broken("aborted"))
        elif not self._held:
            self.release()
        return self._done

    def tap(self) -> None:
        """Have no socket for a thread."""

    def send(self, count: int) -> None:
        """Deliver `count` more bytes."""
        assert self._sink is not None, "nobody reads"
        data = self._data[self._at : self._at + count]
        self._at += len(data)
        self._sink(data)

    def finish(self) -> None:
        """End cleanly, whatever was delivered."""
        if not self.ended:
            self.ended = True
            self._done.callback(None)

    def cut(self) -> None:
        """Break off."""
        self._fail(Broken("the connection was cut"))

    def release(self) -> None:
        """Deliver all that is left, as fast as it is taken, and end."""
        self._held = False
        while not self.paused and not self.ended and self._at < len(self._data):
            self.send(CHUNK)
        if self._at >= len(self._data) and not self.ended:
            self.finish()

    def pause(self) -> None:
        """Deliver nothing for now."""
        self.paused = True

    def resume(self) -> None:
        """Go on."""
        self.paused = False
        if not self._held:
            self.release()

    def abort(self) -> None:
        """End with `Broken`."""
        self.aborted = True
        if self._sink is not None:
            self._fail(Broken("aborted"))

    def _fail(self, error: NoraError) -> None:
        if not self.ended:
            self.ended = True
            self._done.errback(Failure(error))


class ScriptedBreaker:
    """A circuit that a test opens and closes by hand."""

    def __init__(self) -> None:
        self.opened = False

    def objection(self) -> Unavailable | None:
        """Object while it is open."""
        return Unavailable("circuit open: by hand") if self.opened else None


class ScriptedUpstream:
    """One upstream. `blobs` and `manifests` are what it has; `error` is what it raises in place of any answer."""

    def __init__(self, name: str = "hub", namespace: str = "docker.io") -> None:
        self.name = name
        self.namespace = namespace
        self.circuit = ScriptedBreaker()
        self.blobs: dict[tuple[str, Digest], bytes] = {}
        self.manifests: dict[tuple[str, Reference], Manifest] = {}
        self.tag_lists: dict[str, list[str]] = {}
        self.indexes: dict[tuple[str, Digest], list[dict[str, object]]] = {}
        self.error: NoraError | None = None
        self.left: int | None = None
        """The pulls left of its rate limit."""
        self.held = False
        """Transfers wait for the test to `send` and `release`."""
        self.hung: Deferred[None] | None = None
        """While set, every answer waits for it."""
        self.tells_size = True
        self.knows_ranges = True
        self.corrupt: Callable[[bytes], bytes] = lambda data: data
        self.asked: list[tuple[str, str, Reference, int]] = []
        """What was asked: the kind (`head`, `manifest`, `head blob`, `blob`, `tags`, `referrers`), repository,
        reference and start."""
        self.transfers: list[ScriptedIncoming] = []

    def asked_for(self, kind: str) -> int:
        """Count the requests of one kind."""
        return sum(1 for asked in self.asked if asked[0] == kind)

    async def _answer(self, kind: str, repository: str, reference: Reference, start: int = 0) -> None:
        self.asked.append((kind, repository, reference, start))
        if self.hung is not None:
            waiting: Deferred[None] = Deferred()
            self.hung.addCallback(lambda _: waiting.callback(None) if not waiting.called else None)
            await waiting
        if self.error is not None:
            raise self.error

    def pulls_left(self) -> int | None:
        """Tell the pulls left."""
        return self.left

    async def describe(self, repository: str, reference: Reference) -> Descriptor:
        """HEAD of a manifest."""
        await self._answer("head", repository, reference)
        return self._manifest(repository, reference).descriptor

    async def manifest(self, repository: str, reference: Reference) -> Manifest:
        """GET of a manifest."""
        await self._answer("manifest", repository, reference)
        return self._manifest(repository, reference)

    def _manifest(self, repository: str, reference: Reference) -> Manifest:
        try:
            return self.manifests[repository, reference]
        except KeyError:
            raise Absent("not found") from None

    async def describe_blob(self, repository: str, digest: Digest) -> int | None:
        """HEAD of a blob."""
        await self._answer("head blob", repository, digest)
        data = self._blob(repository, digest)
        return len(data) if self.tells_size else None

    async def blob(self, repository: str, digest: Digest, start: int = 0) -> ScriptedIncoming:
        """GET of a blob."""
        await self._answer("blob", repository, digest, start)
        data = self.corrupt(self._blob(repository, digest))
        size = len(data) if self.tells_size else None
        incoming = ScriptedIncoming(data, start if self.knows_ranges else 0, size, held=self.held)
        self.transfers.append(incoming)
        return incoming

    async def tags(self, repository: str) -> TagList:
        """The list of tags."""
        await self._answer("tags", repository, Tag("list"))
        try:
            return TagList.of(self.tag_lists[repository])
        except KeyError:
            raise Absent("not found") from None

    async def referrers(self, repository: str, digest: Digest) -> bytes:
        """The index of referrers."""
        await self._answer("referrers", repository, digest)
        try:
            return compose_referrers(self.indexes[repository, digest])
        except KeyError:
            raise Absent("not found") from None

    def _blob(self, repository: str, digest: Digest) -> bytes:
        try:
            return self.blobs[repository, digest]
        except KeyError:
            raise Absent("not found") from None

    def add_blob(self, repository: str, data: bytes) -> Digest:
        """Have a blob."""
        digest = Digest.of(data)
        self.blobs[repository, digest] = data
        return digest

    def add_manifest(self, repository: str, body: bytes, media_type: str, *tags: Reference) -> Manifest:
        """Have a manifest, under its digest and `tags`."""
        manifest = Manifest.verify(body, media_type)
        for reference in (manifest.digest, *tags):
            self.manifests[repository, reference] = manifest
        return manifest
