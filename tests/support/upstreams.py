"""What tests of the real client share: fake registries on real sockets, and registries that ask them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from nora.oci import Digest
from nora.upstream.building import build_registry
from nora.upstream.incoming import Transfer
from nora.upstream.registry import Registry
from tests.support.authority import Authority
from tests.support.fake_upstream import FakeUpstream, make_image

T = TypeVar("T")

REACTOR: Any = _reactor
REPOSITORY = "team/app"
IMAGE = make_image([bytes(range(256)) * 40_000])
LAYER = IMAGE.blobs[1]


class Notes:
    """An observer that keeps what it hears."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, str, str]] = []
        self.bytes = 0
        self.tokens = 0
        self.remaining: list[int] = []
        self.refused = 0
        self.circuits: list[bool] = []

    def answered(self, upstream: str, kind: str, outcome: str, seconds: float) -> None:
        """Keep it."""
        assert seconds >= 0
        self.answers.append((upstream, kind, outcome))

    def received(self, upstream: str, count: int) -> None:
        """Add it."""
        self.bytes += count

    def token(self, upstream: str) -> None:
        """Count it."""
        self.tokens += 1

    def quota(self, upstream: str, remaining: int) -> None:
        """Keep it."""
        self.remaining.append(remaining)

    def credential_refused(self, upstream: str) -> None:
        """Count it."""
        self.refused += 1

    def circuit(self, upstream: str, opened: bool) -> None:
        """Keep it."""
        self.circuits.append(opened)


class _Silent(Protocol):
    """Accepts, and says nothing; or what its factory says."""

    def connectionMade(self) -> None:
        factory: Any = self.factory
        factory.made.append(self)

    def dataReceived(self, data: bytes) -> None:
        factory: Any = self.factory
        if factory.words:
            self.transport.write(factory.words)  # type: ignore[union-attr]

    def connectionLost(self, reason: Any = None) -> None:
        factory: Any = self.factory
        factory.lost += 1


class UpstreamTestCase(TestCase):
    """Starts fake registries and builds clients of them; both end with the test, and no connection may be left."""

    timeout = 20

    def setUp(self) -> None:
        self.notes = Notes()

    async def fake(self, **options: Any) -> FakeUpstream:
        """Start a fake registry."""
        upstream = FakeUpstream(REACTOR, **options)
        await upstream.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(upstream.stop()))
        return upstream

    async def filled(self, **options: Any) -> FakeUpstream:
        """Start a fake registry that has `IMAGE` as `team/app:1`."""
        upstream = await self.fake(**options)
        upstream.add_image(REPOSITORY, "1", IMAGE)
        return upstream

    def silent(self, words: bytes = b"") -> tuple[Any, str]:
        """Start a server that says only `words`, and give its factory and URL."""
        factory: Any = Factory.forProtocol(_Silent)
        factory.words, factory.made, factory.lost = words, [], 0
        port = REACTOR.listenTCP(0, factory, interface="127.0.0.1")

        async def stop() -> None:
            await port.stopListening()
            for protocol in factory.made:
                protocol.transport.abortConnection()
            await self.until(lambda: factory.lost == len(factory.made))

        self.addCleanup(lambda: Deferred.fromCoroutine(stop()))
        return factory, f"http://127.0.0.1:{port.getHost().port}"

    def registry(self, url: str, **options: Any) -> Registry:
        """Build a client of the registry at `url`."""
        registry = build_registry(
            options.pop("reactor", REACTOR),
            **{"name": "fake", "namespace": "fake.example", "url": url, "observer": self.notes, **options},
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(registry.close()))
        return registry

    def ca_file(self, authority: Authority) -> str:
        """Write the authority's certificate to a file."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name, "ca.pem")
        path.write_bytes(authority.pem)
        return str(path)

    async def fails(self, work: Coroutine[Any, Any, object], kind: type[T]) -> T:
        """Expect `work` to raise an error of exactly `kind`, and give it."""
        error = await self.failure(work)
        assert type(error) is kind, f"raised {error!r}"
        return error

    async def failure(self, work: Coroutine[Any, Any, object]) -> BaseException:
        """Expect `work` to raise, and give what it raised."""
        try:
            result = await work
        except Exception as error:
            return error
        return self.fail(f"gave {result!r}")

    async def download(self, registry: Registry, digest: Digest, start: int = 0) -> bytes:
        """Get a blob of `REPOSITORY` whole."""
        chunks: list[bytes] = []
        transfer = await registry.blob(REPOSITORY, digest, start)
        await transfer.deliver(chunks.append)
        return b"".join(chunks)

    async def until(self, condition: Callable[[], bool], seconds: float = 10) -> None:
        """Wait until `condition` holds."""
        deadline = REACTOR.seconds() + seconds
        while not condition():
            assert REACTOR.seconds() < deadline, "it never came true"
            await deferLater(REACTOR, 0.005)


async def delivered(transfer: Transfer) -> bytes:
    """Take a transfer whole."""
    chunks: list[bytes] = []
    await transfer.deliver(chunks.append)
    return b"".join(chunks)
