"""A small Internet of a test's own: hosts by their real names over real TLS, at addresses that look public.

    registry = await self.host("registry-1.docker.io", auth=True)
    storage = await self.host("cdn.example", presigned=True)
    client = self.client("https://registry-1.docker.io")
    ...
    self.assert_story("GET registry-1.docker.io/v2/library/thing/manifests/1", ...)

Each host is a `FakeUpstream` on a port of this machine; only the resolver and the dialling are not real. After
each test it is asserted that no token was seen by a host that it is not for, and that neither a token nor a signature
got into a log, an error, or what an observer heard.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

from nora.oci import Digest, Manifest, Tag
from nora.oci.errors import NoraError
from nora.upstream.registry import Registry
from tests.support.authority import Authority
from tests.support.fake_upstream import FakeUpstream, Image, Seen, make_image
from tests.support.names import REACTOR, NamedReactor
from tests.support.upstreams import UpstreamTestCase, delivered

E = TypeVar("E", bound=NoraError)

SIGNATURE = "very-secret-signature"
"""Stands in every signed URL, and nowhere else."""
TOKEN = "-token-"
"""Part of every token, and of nothing else."""
ACCEPT = {
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}
STALE = (
    ("Cache-Control", "private, max-age=0, no-store"),
    ("Expires", "0"),
    ("Pragma", "no-cache"),
    ("Age", "99999"),
)
"""What HTTP says of freshness, beside content that can never change."""
LAYER = b"layer of an image " * 10_000
_PORTS = {"http": 80, "https": 443}


class Internet(NamedReactor):
    """The reactor with hosts of the test's: their names resolve, and dialling their addresses finds their servers."""

    def __init__(self) -> None:
        super().__init__({})
        self.journal: list[Seen] = []
        """What all hosts were asked, in order."""
        self.hosts: dict[str, FakeUpstream] = {}
        """By name, the last one started."""
        self.authority = Authority()
        self._servers: dict[tuple[str, int], FakeUpstream] = {}

    async def host(
        self, name: str, *, address: str | None = None, scheme: str = "https", **options: Any
    ) -> FakeUpstream:
        """Start a host. Its `address` is one that looks public unless it is given."""
        if scheme == "https":
            options.update(authority=self.authority, certified=name)
        server = FakeUpstream(REACTOR, host=name, **options)
        server.audience = name + "-"
        server.journal = self.journal
        address = address or f"8.8.{len(self._servers) + 1}.8"
        self.nameResolver.table[name] = [address]
        self._servers[address, _PORTS[scheme]] = server
        self.hosts[name] = server
        await server.start()
        return server

    def connectTCP(self, host: str, port: int, *arguments: Any) -> Any:
        """Connect to the server that has this address and port; port 1 of this machine where there is none."""
        self.dialled.append(host)
        server = self._servers.get((host, port))
        return REACTOR.connectTCP("127.0.0.1", server.port if server else 1, *arguments)


@implementer(ILogObserver)
class _Log:
    """Keeps all that is logged, whatever its level."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        self.texts.append(f"{formatEvent(event)} {event!r}")
        if event.get("log_failure") is not None:
            self.texts.append(event["log_failure"].getTraceback())


def tell(seen: Seen) -> str:
    """Tell a request in a line: method, host and path, the scope asked for, `*` where it carried a token."""
    words = [seen.method, seen.headers["host"] + seen.path]
    words.extend(f"for {scope}" for scope in seen.query.get("scope", []))
    if "authorization" in seen.headers:
        words.append("*")
    return " ".join(words)


class InternetTestCase(UpstreamTestCase):
    """A test on an Internet of its own."""

    def setUp(self) -> None:
        super().setUp()
        self.internet = Internet()
        self.errors: list[str] = []
        self.trusted = self.ca_file(self.internet.authority)
        self._log = _Log()
        globalLogPublisher.addObserver(self._log)
        self.addCleanup(self._secrets_kept)

    async def host(self, name: str, **options: Any) -> FakeUpstream:
        """Start a host, and stop it at the end."""
        server = await self.internet.host(name, **options)
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        return server

    async def tokens(self, name: str, registry: FakeUpstream, path: str = "/token") -> FakeUpstream:
        """Start a token service on a host of its own whose tokens are for `registry`."""
        service = await self.host(name)
        service.token_path = path
        service.audience = registry.audience
        service.valid = registry.valid
        return service

    async def storage(
        self, name: str, registry: FakeUpstream, path: str, *, status: int = 307, signed: bool = True
    ) -> FakeUpstream:
        """Start a storage that `registry` redirects blob requests to, at `path` as `FakeUpstream.place` has it.

        It refuses a request with any `Authorization`, as one with a signed URL does.
        """
        storage = await self.host(name)
        storage.presigned = True
        for (repository, digest), blob in registry.blobs.items():
            storage.objects[registry.place(path, repository, digest)] = blob
        query = f"?X-Amz-Credential=x&X-Amz-Signature={SIGNATURE}" if signed else ""
        registry.elsewhere["blobs"] = (status, f"https://{name}{path}{query}")
        return storage

    def client(self, url: str, **options: Any) -> Registry:
        """Build a client of the registry at `url`."""
        options = {"proxy_timeout": 10.0, "read_timeout": 10.0, "ca_file": self.trusted, **options}
        return self.registry(url, reactor=self.internet, **options)

    def story(self) -> list[str]:
        """Tell what all hosts were asked since the last call."""
        told = [tell(seen) for seen in self.internet.journal]
        self._authorized()
        self.internet.journal.clear()
        return told

    def assert_story(self, *expected: str) -> None:
        """Assert what all hosts were asked since the last call."""
        self.assertEqual(self.story(), list(expected))

    async def layer(self, client: Registry, repository: str, start: int = 0) -> bytes:
        """Get `LAYER` from `start`."""
        transfer = await client.blob(repository, Digest.of(LAYER), start)
        self.assertEqual((transfer.size, transfer.start), (len(LAYER), start))
        return await delivered(transfer)

    async def refused(self, work: Coroutine[Any, Any, object], kind: type[E]) -> E:
        """Expect `work` to raise exactly `kind`, give it, and keep what it says."""
        error = await self.fails(work, kind)
        self.errors.append(f"{error} {error.message} {error.detail!r} {error!r}")
        return error

    async def pulled(self, client: Registry, repository: str, image: Image, tag: str = "1") -> None:
        """Pull by HEAD and GET of the tag and GET of the layer, and assert that each brings what it should."""
        described = await client.describe(repository, Tag(tag))
        manifest: Manifest = await client.manifest(repository, Tag(tag))
        self.assertEqual((described.digest, manifest.body), (image.digest, image.manifest))
        self.assertEqual(await self.layer(client, repository), LAYER)

    def _authorized(self) -> None:
        """Assert manners: each token at its own host, everything asked for plain and by all types."""
        for seen in self.internet.journal:
            carried = seen.headers.get("authorization")
            if carried is not None:
                self.assertEqual(carried.partition(TOKEN)[0], f"Bearer {seen.headers['host']}", tell(seen))
            self.assertEqual(seen.headers["accept-encoding"], "identity", tell(seen))
            if "/manifests/" in seen.path:
                self.assertEqual(set(seen.headers["accept"].split(", ")), ACCEPT, tell(seen))

    def _secrets_kept(self) -> None:
        globalLogPublisher.removeObserver(self._log)
        self._authorized()
        for text in (*self._log.texts, *self.errors, repr(self.notes.answers)):
            for secret in (SIGNATURE, TOKEN):
                self.assertNotIn(secret, text)


def has_image(registry: FakeUpstream, *repositories: str, tag: str = "1") -> Image:
    """Let `registry` have an image of `LAYER` in each of `repositories`."""
    image = make_image([LAYER])
    for repository in repositories:
        registry.add_image(repository, tag, image)
    return image
