"""A registry that a test plays: a real HTTP server on a port of its own, in the test's reactor.

    upstream = FakeUpstream(reactor, auth=True)
    image = make_image([b"layer"])
    upstream.add_image("team/app", "1", image)
    await upstream.start()
    ...
    upstream.fault("*/blobs/*", Fault(truncate=100))
    ...
    await upstream.stop()

Everything that was asked is in `requests`, what was sent of each body in `sent`. A `Fault` says how answers to the
paths that its pattern matches go wrong; the last one added that fits counts. A function may choose it by the
request. It knows nothing of NORA but the rules of OCI.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.protocols.tls import TLSMemoryBIOFactory

from nora.oci import Digest
from tests.support.authority import Authority
from tests.support.fake_lists import FakeLists
from tests.support.fake_server import Fault, Seen, serve

__all__ = ["FakeUpstream", "Fault", "Image", "Seen", "make_image"]

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"

Choice = Fault | Callable[[Seen], Fault | None]
"""What goes wrong: always the same, or as a function of the request, None for nothing."""


@attrs.frozen
class Image:
    """An image: its manifest's bytes and digest, and the blobs it lists, the configuration first."""

    manifest: bytes = attrs.field(repr=False)
    digest: Digest
    blobs: tuple[bytes, ...] = attrs.field(repr=False)
    media_type: str = MANIFEST_TYPE


def make_image(layers: Sequence[bytes], *, algorithm: str = "sha256") -> Image:
    """Make an image whose layers are these byte strings, whatever they are."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "layers": len(layers)}).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _descriptor(CONFIG_TYPE, config),
        "layers": [_descriptor(LAYER_TYPE, layer) for layer in layers],
    }
    manifest = json.dumps(document, indent=1).encode()
    return Image(manifest, Digest.of(manifest, algorithm), (config, *layers))


def _descriptor(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)}


class _Ruled:
    """A fault, the paths it is for, and how often it is left."""

    def __init__(self, pattern: str, choose: Choice) -> None:
        self.pattern = pattern
        self._choose = choose
        self._left = choose.times if isinstance(choose, Fault) else None

    def take(self, seen: Seen) -> Fault | None:
        if self._left == 0 or not fnmatchcase(seen.path, self.pattern):
            return None
        fault = self._choose if isinstance(self._choose, Fault) else self._choose(seen)
        if fault is None or fault.method not in (None, seen.method):
            return None
        if self._left is not None:
            self._left -= 1
        return fault


class FakeUpstream:
    """The registry. With `auth` it wants a bearer token for each repository, which its own `/token` gives to all.

    With `authority` it speaks TLS, with a certificate for `certified`. `host` is the name that it goes by in its own
    URL, on the scheme's usual port.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        auth: bool = False,
        authority: Authority | None = None,
        certified: str = "127.0.0.1",
        host: str | None = None,
    ) -> None:
        self.reactor = reactor
        self.auth = auth
        self.scheme = "http" if authority is None else "https"
        self.host = host
        self.port = 0
        self.manifests: dict[tuple[str, str], tuple[bytes, str, Digest]] = {}
        """By repository and tag or digest: body, media type, digest."""
        self.blobs: dict[tuple[str, str], bytes] = {}
        """By repository and digest."""
        self.lists = FakeLists()
        """What it lists; by itself it has no lists at all."""
        self.requests: list[Seen] = []
        self.sent: Counter[str] = Counter()
        """Bytes of bodies sent, by path."""
        self.connections = 0
        """Connections accepted so far."""
        self.closed = 0
        """Those of them that ended."""
        self.challenge = 'Bearer realm="{url}/token",service="fake",scope="repository:some/placeholder:pull"'
        """What a 401 asks for, empty for nothing; `{url}` becomes the server's, `{name}` the repository wanted."""
        self.token_path = "/token"
        """Where its token service is."""
        self.audience = ""
        """How its tokens begin: where they are for."""
        self.scope: str | None = None
        """The one scope that is good for all repositories, None where each has its own."""
        self.private: set[str] = set()
        """Repositories that no token opens."""
        self.elsewhere: dict[str, tuple[int, str]] = {}
        """By `manifests` or `blobs`: the status and `Location` (see `place`) that who is allowed is redirected with."""
        self.objects: dict[str, bytes] = {}
        """What a storage has, by path; no token is needed."""
        self.journal: list[Seen] = []
        """A list to note requests in as well, which several servers may share."""
        self.token_answer: dict[str, object] = {"expires_in": 300}
        """What a token comes with; a member `token` or `access_token` is added."""
        self.token_member = "token"
        self.valid: set[tuple[str, str]] = set()
        """The tokens that are taken, with the scope each is for."""
        self.keys: set[str] | None = None
        """With a set, its registry takes these values of `Authorization` alone, and no tokens."""
        self.logins: set[str] | None = None
        """With a set, its token service gives tokens to these values of `Authorization`, or refresh tokens."""
        self.public: set[str] = set()
        """Repositories whose tokens, and with `keys` whose content, everybody gets nevertheless."""
        self.member_of: set[str] | None = None
        """With a set, a login is given tokens for these repositories alone, and 403 for others."""
        self.refusing = False
        """Close every connection as it is accepted."""
        self.presigned = False
        """Be a storage behind a redirect: answer 400 to whoever sends an `Authorization`."""
        self._options = None if authority is None else authority.context_factory(certified)
        self._rules: list[_Ruled] = []
        self._held: list[Deferred[None]] = []
        self._waiting: list[tuple[str, int, Deferred[None]]] = []
        self._open: set[Any] = set()
        self._emptied: Deferred[None] | None = None
        self._listening: Any = None
        self._tokens = 0

    # What it has.

    def add_image(self, repository: str, tag: str | None, image: Image) -> None:
        """Have an image, manifest and blobs."""
        self.add_manifest(repository, image.manifest, image.media_type, tag, image.digest)
        for blob in image.blobs:
            self.add_blob(repository, blob)

    def add_manifest(
        self,
        repository: str,
        body: bytes,
        media_type: str,
        tag: str | None = None,
        digest: Digest | None = None,
    ) -> Digest:
        """Have a manifest, under its digest and perhaps a tag; `digest` is what it is told to be."""
        digest = digest or Digest.of(body)
        for reference in (str(digest), tag):
            if reference is not None:
                self.manifests[repository, reference] = (body, media_type, digest)
        return digest

    def add_blob(self, repository: str, data: bytes, algorithm: str = "sha256") -> Digest:
        """Have a blob."""
        digest = Digest.of(data, algorithm)
        self.blobs[repository, str(digest)] = data
        return digest

    # How it goes wrong.

    def fault(self, pattern: str, fault: Choice) -> None:
        """Answer requests whose path fits `pattern` (as in `fnmatch`) so from now on."""
        self._rules.append(_Ruled(pattern, fault))

    def heal(self) -> None:
        """Forget all faults; what is held back goes on."""
        self._rules.clear()
        self.refusing = False
        self.release()

    def release(self) -> None:
        """Let everything that stalls or is held go on to its end."""
        held, self._held = self._held, []
        for waiting in held:
            if not waiting.called:
                waiting.callback(None)

    def held(self) -> Deferred[None]:
        """Give a Deferred that `release` fires."""
        waiting: Deferred[None] = Deferred(lambda _: None)
        self._held.append(waiting)
        return waiting

    def revoke(self) -> None:
        """Take none of the tokens given so far."""
        self.valid.clear()

    def cut(self) -> None:
        """Reset every connection that is open."""
        for transport in list(self._open):
            transport.abortConnection()

    # What was asked.

    def count(self, pattern: str = "*", method: str | None = None) -> int:
        """Count the requests whose path fits."""
        return len(self.seen(pattern, method))

    def seen(self, pattern: str = "*", method: str | None = None) -> list[Seen]:
        """Give those requests in the order they came."""
        return [
            one for one in self.requests if method in (None, one.method) and fnmatchcase(one.path, pattern)
        ]

    def asked(self, pattern: str = "*", count: int = 1) -> Deferred[None]:
        """Wait until `count` requests in all came whose path fits."""
        waiting: Deferred[None] = Deferred(lambda _: None)
        self._waiting.append((pattern, count, waiting))
        self._tell()
        return waiting

    @property
    def tokens(self) -> int:
        """How many tokens were asked for."""
        return self.count(self.token_path)

    @property
    def url(self) -> str:
        """Where it is, without a path."""
        return f"{self.scheme}://{self.host or f'127.0.0.1:{self.port}'}"

    def place(self, location: str, name: str, reference: str) -> str:
        """Fill in a `Location`: `{name}`, `{reference}`, and `{hex}` for a digest without its algorithm."""
        hexadecimal = reference.rpartition(":")[2]
        return (
            location.replace("{name}", name).replace("{reference}", reference).replace("{hex}", hexadecimal)
        )

    # Its life.

    async def start(self) -> None:
        """Listen on a port that the kernel chooses; after `stop`, on the same one again."""
        factory = serve(self)
        if self._options is None:
            self._listening = self.reactor.listenTCP(self.port, factory, interface="127.0.0.1")
        else:
            # Not `listenSSL`: it sends small writes by the global reactor, and a stage has one of its own.
            secure: Any = TLSMemoryBIOFactory(self._options, False, factory, self.reactor)
            self._listening = self.reactor.listenTCP(self.port, secure, interface="127.0.0.1")
        self.port = self._listening.getHost().port

    async def stop(self) -> None:
        """Listen no more, and end what is open. A second call does nothing."""
        self.release()
        listening, self._listening = self._listening, None
        if listening is None:
            return
        await listening.stopListening()
        self.cut()
        if self._open:
            self._emptied = Deferred()
            await self._emptied

    # For the server within.

    def rule(self, seen: Seen) -> Fault:
        """Take the fault for an answer."""
        for ruled in reversed(self._rules):
            fault = ruled.take(seen)
            if fault is not None:
                return fault
        return Fault()

    def note(self, seen: Seen) -> None:
        """Take note of a request."""
        self.requests.append(seen)
        self.journal.append(seen)
        self._tell()

    def issue(self, scope: str) -> dict[str, object]:
        """Make a token's answer."""
        self._tokens += 1
        token = f"{self.audience}token-{self._tokens}"
        self.valid.add((token, scope))
        return {self.token_member: token, **self.token_answer}

    def came(self, transport: Any) -> None:
        """Hear of a connection."""
        self.connections += 1
        self._open.add(transport)

    def went(self, transport: Any) -> None:
        """Hear of a connection's end."""
        self.closed += 1
        self._open.discard(transport)
        if self._emptied is not None and not self._open:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    def _tell(self) -> None:
        for entry in list(self._waiting):
            pattern, count, waiting = entry
            if self.count(pattern) >= count:
                self._waiting.remove(entry)
                waiting.callback(None)
