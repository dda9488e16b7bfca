"""What every `Upstream` promises, told to the real client before a registry on a socket and to the fake in memory."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from nora.oci import Descriptor, Digest, Manifest, Tag
from nora.oci.errors import Broken, Unavailable
from nora.upstream.interfaces import Incoming, Upstream
from nora.upstream.outcomes import Absent
from tests.support.fake_upstream import FakeUpstream, Fault, make_image
from tests.support.scripted import ScriptedUpstream
from tests.support.upstreams import REPOSITORY, UpstreamTestCase

if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object

E = TypeVar("E", bound=Exception)

TAG = Tag("1")
IMAGE = make_image([bytes(range(256)) * 1000, b"second"])
LAYER = IMAGE.blobs[1]


class UpstreamContract(_Base):
    """The suite. `upstream` has `IMAGE` as `team/app:1`; what goes wrong with it is each case's own way."""

    upstream: Upstream

    def break_down(self) -> None:
        """Let every answer from now on be unavailable."""
        raise NotImplementedError

    def hang(self) -> None:
        """Let every answer from now on wait."""
        raise NotImplementedError

    def hide_ranges(self) -> None:
        """Let the upstream know no ranges."""
        raise NotImplementedError

    def hide_sizes(self) -> None:
        """Let the upstream tell no sizes of blobs."""
        raise NotImplementedError

    def hold_bodies(self) -> None:
        """Let bodies of blobs stop before their end, without an end."""
        raise NotImplementedError

    def limit(self, left: int) -> None:
        """Let the upstream tell from now on that so many pulls are left."""
        raise NotImplementedError

    def digest(self, data: bytes = LAYER) -> Digest:
        return Digest.of(data)

    async def expect(self, work: Coroutine[Any, Any, object], kind: type[E]) -> E:
        try:
            await work
        except kind as error:
            return error
        raise AssertionError("nothing was raised")

    async def deliver(self, incoming: Incoming) -> bytes:
        chunks: list[bytes] = []
        await incoming.deliver(chunks.append)
        return b"".join(chunks)

    async def test_names(self) -> None:
        """It has a name and a namespace."""
        self.assertTrue(self.upstream.name)
        self.assertTrue(self.upstream.namespace)

    async def test_circuit(self) -> None:
        """Nothing speaks against asking one of which nothing bad is known."""
        self.assertIsNone(self.upstream.circuit.objection())

    async def test_manifest(self) -> None:
        """A manifest comes byte for byte, by tag and by digest."""
        for reference in (TAG, IMAGE.digest):
            manifest = await self.upstream.manifest(REPOSITORY, reference)
            self.assertEqual(manifest, Manifest.verify(IMAGE.manifest, IMAGE.media_type, IMAGE.digest))

    async def test_describe(self) -> None:
        """A descriptor tells the same without the bytes."""
        for reference in (TAG, IMAGE.digest):
            self.assertEqual(
                await self.upstream.describe(REPOSITORY, reference),
                Descriptor(IMAGE.media_type, IMAGE.digest, len(IMAGE.manifest)),
            )

    async def test_pulls_left(self) -> None:
        """What is left of a rate limit is what the upstream said last, with a HEAD too; before that it is not known."""
        self.assertIsNone(self.upstream.pulls_left())
        for left in (7, 0):
            self.limit(left)
            await self.upstream.describe(REPOSITORY, TAG)
            self.assertEqual(self.upstream.pulls_left(), left)

    async def test_blob(self) -> None:
        """A blob comes whole, with its size told before."""
        incoming = await self.upstream.blob(REPOSITORY, self.digest())
        self.assertEqual((incoming.size, incoming.start), (len(LAYER), 0))
        self.assertEqual(await self.deliver(incoming), LAYER)

    async def test_blob_from_an_offset(self) -> None:
        """From an offset comes the rest; size is still the whole's."""
        incoming = await self.upstream.blob(REPOSITORY, self.digest(), 1000)
        self.assertEqual((incoming.size, incoming.start), (len(LAYER), 1000))
        self.assertEqual(await self.deliver(incoming), LAYER[1000:])

    async def test_no_ranges(self) -> None:
        """Where ranges are not known, all of it comes, and `start` says so."""
        self.hide_ranges()
        incoming = await self.upstream.blob(REPOSITORY, self.digest(), 1000)
        self.assertEqual((incoming.size, incoming.start), (len(LAYER), 0))
        self.assertEqual(await self.deliver(incoming), LAYER)

    async def test_describe_blob(self) -> None:
        """A blob is confirmed with its size."""
        self.assertEqual(await self.upstream.describe_blob(REPOSITORY, self.digest()), len(LAYER))

    async def test_no_sizes(self) -> None:
        """Where no size is told it is None, and the blob comes whole all the same."""
        self.hide_sizes()
        self.assertIsNone(await self.upstream.describe_blob(REPOSITORY, self.digest()))
        incoming = await self.upstream.blob(REPOSITORY, self.digest())
        self.assertIsNone(incoming.size)
        self.assertEqual(await self.deliver(incoming), LAYER)

    async def test_absent(self) -> None:
        """What is not there is absent, whatever is asked."""
        nothing = self.digest(b"nothing")
        for work in (
            self.upstream.manifest(REPOSITORY, Tag("none")),
            self.upstream.manifest("team/none", TAG),
            self.upstream.describe(REPOSITORY, nothing),
            self.upstream.describe_blob(REPOSITORY, nothing),
            self.upstream.blob(REPOSITORY, nothing),
            self.upstream.blob("team/none", self.digest()),
        ):
            self.assertFalse((await self.expect(work, Absent)).denied)

    async def test_unavailable(self) -> None:
        """When it cannot answer, that is what is raised, whatever is asked."""
        self.break_down()
        for work in (
            self.upstream.manifest(REPOSITORY, TAG),
            self.upstream.describe(REPOSITORY, TAG),
            self.upstream.describe_blob(REPOSITORY, self.digest()),
            self.upstream.blob(REPOSITORY, self.digest()),
        ):
            await self.expect(work, Unavailable)

    async def test_cancel(self) -> None:
        """Cancelling a question is seen as cancellation, and nothing else."""
        self.hang()
        asking: list[Deferred[Any]] = [
            Deferred.fromCoroutine(self.upstream.manifest(REPOSITORY, TAG)),
            Deferred.fromCoroutine(self.upstream.describe(REPOSITORY, TAG)),
            Deferred.fromCoroutine(self.upstream.describe_blob(REPOSITORY, self.digest())),
            Deferred.fromCoroutine(self.upstream.blob(REPOSITORY, self.digest())),
        ]
        for each in asking:
            each.cancel()
            await self.assertFailure(each, CancelledError)

    async def test_abort(self) -> None:
        """A transfer that is given up is broken, and hears nothing more; giving it up twice does nothing."""
        self.hold_bodies()
        incoming = await self.upstream.blob(REPOSITORY, self.digest())
        done = incoming.deliver(lambda _: None)
        incoming.abort()
        incoming.abort()
        await self.assertFailure(done, Broken)

    async def test_abort_before_it_began(self) -> None:
        """A transfer may be given up before it began; begun nevertheless, it is broken."""
        incoming = await self.upstream.blob(REPOSITORY, self.digest())
        incoming.abort()
        await self.assertFailure(incoming.deliver(lambda _: None), Broken)

    async def test_pause_and_resume(self) -> None:
        """A transfer that is paused at every chunk, and resumed later, comes whole."""
        incoming = await self.upstream.blob(REPOSITORY, self.digest())
        chunks: list[bytes] = []
        resumed: list[Deferred[None]] = []

        def sink(chunk: bytes) -> None:
            chunks.append(chunk)
            incoming.pause()
            resumed.append(self.soon(incoming.resume))

        await incoming.deliver(sink)
        for each in resumed:
            await each
        self.assertEqual(b"".join(chunks), LAYER)

    def soon(self, call: Any) -> Deferred[None]:
        """Call it from the reactor."""
        from twisted.internet import reactor, task  # noqa: PLC0415

        clock: Any = reactor
        later: Deferred[None] = task.deferLater(clock, 0, call)
        return later


class RegistryTests(UpstreamContract, UpstreamTestCase):
    """The real client."""

    fake_upstream: FakeUpstream

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.fake_upstream = await self.fake(auth=True)
        self.fake_upstream.add_image(REPOSITORY, "1", IMAGE)
        self.upstream = self.registry(self.fake_upstream.url)

    def break_down(self) -> None:
        """Answer 503."""
        self.fake_upstream.fault("*", Fault(status=503))

    def hang(self) -> None:
        """Answer nothing."""
        self.fake_upstream.fault("*", Fault(hold=True))

    def hide_ranges(self) -> None:
        """Answer 200 to ranges."""
        self.fake_upstream.fault("/v2/*/blobs/*", Fault(no_ranges=True))

    def hide_sizes(self) -> None:
        """Answer in chunks."""
        self.fake_upstream.fault("/v2/*/blobs/*", Fault(chunked=True))

    def hold_bodies(self) -> None:
        """Stall."""
        self.fake_upstream.fault("/v2/*/blobs/*", Fault(stall=1000))

    def limit(self, left: int) -> None:
        """Tell it as Docker Hub does."""
        self.fake_upstream.fault("*", Fault(headers=(("RateLimit-Remaining", f"{left};w=21600"),)))


class ScriptedTests(UpstreamContract, TestCase):
    """The fake in memory."""

    upstream: ScriptedUpstream

    def setUp(self) -> None:
        self.upstream = ScriptedUpstream()
        self.upstream.add_manifest(REPOSITORY, IMAGE.manifest, IMAGE.media_type, TAG)
        for blob in IMAGE.blobs:
            self.upstream.add_blob(REPOSITORY, blob)

    def break_down(self) -> None:
        """Raise."""
        self.upstream.error = Unavailable("down")

    def hang(self) -> None:
        """Wait for ever."""
        self.upstream.hung = Deferred()

    def hide_ranges(self) -> None:
        """Know none."""
        self.upstream.knows_ranges = False

    def hide_sizes(self) -> None:
        """Tell none."""
        self.upstream.tells_size = False

    def hold_bodies(self) -> None:
        """Wait for the test."""
        self.upstream.held = True

    def limit(self, left: int) -> None:
        """Tell it."""
        self.upstream.left = left
