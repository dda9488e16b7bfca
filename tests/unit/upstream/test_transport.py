"""Connections: TLS, time, sizes, cancellation, and the way to the inside."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectBindError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides, providedBy

from nora.oci import Digest, Tag
from nora.oci.errors import Broken, TimedOut, Unavailable, Unverified
from nora.upstream.registry import Registry
from nora.upstream.transport import AbortingTransport, trust_root
from tests.support.authority import Authority
from tests.support.fake_response import FakeTransport
from tests.support.fake_upstream import FakeUpstream, Fault, make_image
from tests.support.names import Names
from tests.support.upstreams import REACTOR, REPOSITORY, UpstreamTestCase, delivered

ONE = Tag("1")
LAYER = bytes(range(256)) * 40_000


class _Named:
    """The reactor with names of the test's, and every connection led to this machine."""

    def __init__(self, table: dict[str, list[Any]]) -> None:
        self.nameResolver = Names(table)
        self.dialled: list[str] = []
        directlyProvides(self, providedBy(REACTOR))

    def __getattr__(self, name: str) -> Any:
        return getattr(REACTOR, name)

    def connectTCP(self, host: str, *arguments: Any) -> Any:
        self.dialled.append(host)
        return REACTOR.connectTCP("127.0.0.1", *arguments)


class _Deaf(_Named):
    """Connections fail with `error`; with None they never come about."""

    error: type[Exception] | None = ConnectTimeout

    def connectTCP(self, host: str, port: int, factory: Any, *arguments: Any) -> Any:
        if self.error is not None:
            REACTOR.callLater(0, factory.clientConnectionFailed, self, Failure(self.error()))
        return self

    def stopConnecting(self) -> None:
        """There is nothing to stop."""


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


class TransportTestCase(UpstreamTestCase):
    """Servers that are no registries, too."""

    def setUp(self) -> None:
        super().setUp()
        self.image = make_image([LAYER])
        self.layer = Digest.of(LAYER)

    async def filled(self, **options: Any) -> FakeUpstream:
        upstream = await self.fake(**options)
        upstream.add_image(REPOSITORY, "1", self.image)
        return upstream

    def silent(self, words: bytes = b"") -> tuple[Any, str]:
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


class TLSTests(TransportTestCase):
    """TLS is verified, always."""

    async def test_private_authority(self) -> None:
        """With the authority's certificate a private registry is trusted, its token service and blobs too."""
        authority = Authority()
        upstream = await self.filled(authority=authority, auth=True)
        client = self.registry(upstream.url, ca_file=self.ca_file(authority))
        self.assertEqual((await client.manifest(REPOSITORY, ONE)).digest, self.image.digest)
        self.assertEqual(await self.download(client, self.layer), LAYER)

    async def test_unknown_authority(self) -> None:
        """A certificate that nobody vouches for is refused, with OpenSSL's reason."""
        authority = Authority()
        upstream = await self.filled(authority=authority)
        for ca_file in (None, self.ca_file(Authority("another"))):
            client = self.registry(upstream.url, ca_file=ca_file)
            error = await self.fails(client.manifest(REPOSITORY, ONE), Unavailable)
            self.assertIn("certificate verify failed", error.message)
        self.assertEqual(upstream.requests, [])

    async def test_wrong_host(self) -> None:
        """A certificate for another host is refused."""
        authority = Authority()
        upstream = await self.filled(authority=authority, certified="registry.example")
        client = self.registry(upstream.url, ca_file=self.ca_file(authority))
        error = await self.fails(client.manifest(REPOSITORY, ONE), Unavailable)
        self.assertIn("TLS", error.message)
        self.assertEqual(upstream.requests, [])

    async def test_never_down_to_http(self) -> None:
        """Neither a redirect nor a challenge leads from https to http."""
        authority = Authority()
        upstream, plain = await self.filled(authority=authority), await self.filled()
        client = self.registry(upstream.url, ca_file=self.ca_file(authority))
        upstream.fault("/v2/*/blobs/*", Fault(redirect=plain.url + "{path}"))
        await self.fails(client.blob(REPOSITORY, self.layer), Unverified)
        upstream.auth = True
        upstream.challenge = f'Bearer realm="{plain.url}/token"'
        await self.fails(client.manifest(REPOSITORY, ONE), Unavailable)
        self.assertEqual(plain.requests, [])

    async def test_plain_server(self) -> None:
        """A server that speaks no TLS is unavailable."""
        upstream = await self.filled()
        client = self.registry(upstream.url.replace("http:", "https:"), proxy_timeout=5.0)
        await self.fails(client.manifest(REPOSITORY, ONE), Unavailable)

    async def test_stalled_transfer_is_closed_for_real(self) -> None:
        """Giving up a transfer over TLS closes the connection, though the other side reads nothing."""
        authority = Authority()
        upstream = await self.filled(authority=authority)
        upstream.fault("*", Fault(stall=5000))
        client = self.registry(upstream.url, ca_file=self.ca_file(authority))
        transfer = await client.blob(REPOSITORY, self.layer)
        done = transfer.deliver(lambda _: None)
        transfer.abort()
        await self.assertFailure(done, Broken)
        await self.until(lambda: upstream.closed == upstream.connections)

    async def test_authority_file(self) -> None:
        """A file without a certificate, or none at all, is told when the client is built."""
        authority = Authority()
        path = self.ca_file(authority)
        self.assertIsNotNone(trust_root(path))
        with open(path, "wb") as file:
            file.write(b"nothing")
        with self.assertRaises(ValueError):
            self.registry("https://127.0.0.1", ca_file=path)
        with self.assertRaises(OSError):
            self.registry("https://127.0.0.1", ca_file=path + ".missing")


class FailureTests(TransportTestCase):
    """What keeps an answer from coming."""

    async def test_refused(self) -> None:
        """Nobody listens."""
        upstream = await self.filled()
        await upstream.stop()
        error = await self.fails(self.registry(upstream.url).manifest(REPOSITORY, ONE), Unavailable)
        self.assertEqual(error.message, "connection refused")

    async def test_closed_at_the_door(self) -> None:
        """Whoever accepts and closes is unavailable."""
        upstream = await self.filled()
        upstream.refusing = True
        await self.fails(self.registry(upstream.url).manifest(REPOSITORY, ONE), Unavailable)

    async def test_unresolved(self) -> None:
        """A name without an address is unavailable, and named."""
        client = self.registry("http://registry.invalid", reactor=_Named({}))
        error = await self.fails(client.manifest(REPOSITORY, ONE), Unavailable)
        self.assertIn("registry.invalid", error.message)

    async def test_silence_before_the_headers(self) -> None:
        """No headers within the budget: timed out, and the connection is closed."""
        factory, url = self.silent()
        await self.fails(self.registry(url, proxy_timeout=0.2).manifest(REPOSITORY, ONE), TimedOut)
        await self.until(lambda: factory.lost == len(factory.made) > 0)

    async def test_budget_covers_redirects(self) -> None:
        """Slow redirects add up."""
        upstream = await self.filled()
        upstream.fault("*", Fault(redirect="/next", times=1))
        upstream.fault("/next", Fault(hold=True))
        await self.fails(self.registry(upstream.url, proxy_timeout=0.2).manifest(REPOSITORY, ONE), TimedOut)

    async def test_connect_timeout(self) -> None:
        """A connection that does not come about is given up after the time for connecting."""
        client = self.registry("http://registry.example", reactor=_Deaf({"registry.example": ["8.8.8.8"]}))
        error = await self.fails(client.manifest(REPOSITORY, ONE), TimedOut)
        self.assertEqual(error.message, "no connection in time")

    async def test_cannot_connect(self) -> None:
        """Any other failure to connect is unavailable."""
        deaf = _Deaf({"registry.example": ["8.8.8.8"]})
        deaf.error = ConnectBindError
        client = self.registry("http://registry.example", reactor=deaf)
        self.assertEqual(
            (await self.fails(client.manifest(REPOSITORY, ONE), Unavailable)).message, "no connection"
        )

    async def test_no_http(self) -> None:
        """Whoever speaks something else is unavailable."""
        for words in (
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        ):
            _, url = self.silent(words)
            await self.fails(self.registry(url, proxy_timeout=5.0).manifest(REPOSITORY, ONE), Unavailable)

    async def test_cancel(self) -> None:
        """Cancelling ends the exchange, at each of its steps, and is seen as cancellation."""
        upstream = await self.filled(auth=True)
        for pattern, fault in (
            ("/v2/*", Fault(hold=True)),
            ("/token", Fault(hold=True)),
            ("/v2/*", Fault(status=401, padding=100, stall=10)),
            ("/v2/*", Fault(redirect="/elsewhere", padding=100, stall=10)),
        ):
            upstream.heal()
            upstream.requests.clear()
            upstream.fault(pattern, fault)
            client = self.registry(upstream.url)
            asking = Deferred.fromCoroutine(client.manifest(REPOSITORY, ONE))
            await upstream.asked(pattern)
            await deferLater(REACTOR, 0.02)
            asking.cancel()
            await self.assertFailure(asking, CancelledError)
            count = len(upstream.requests)
            if pattern != "/token":  # the token is not the one caller's: it is fetched to its end
                await self.until(lambda: upstream.closed == upstream.connections)
            self.assertEqual(len(upstream.requests), count)
            self.assertEqual(self.notes.answers[-1][2], "cancelled")
            self.assertIsNone(client.state().last_error)
            upstream.release()

    async def test_cancel_while_connecting(self) -> None:
        """Cancelling before there is a connection is seen as cancellation too."""
        deaf = _Deaf({"registry.example": ["8.8.8.8"]})
        deaf.error = None
        asking = Deferred.fromCoroutine(
            self.registry("http://registry.example", reactor=deaf).manifest(REPOSITORY, ONE)
        )
        asking.cancel()
        await self.assertFailure(asking, CancelledError)


class HeaderTests(TransportTestCase):
    """Heads of responses."""

    async def test_long_lines(self) -> None:
        """A redirect of 40 KiB is more than Twisted takes of a line, and is followed no further than URLs may be."""
        upstream = await self.filled()
        upstream.fault("*", Fault(headers=(("X-Long", "x" * 40_000),)))
        client = self.registry(upstream.url)
        self.assertEqual((await client.manifest(REPOSITORY, ONE)).digest, self.image.digest)
        upstream.fault("*", Fault(redirect="/" + "x" * 40_000))
        await self.fails(client.manifest(REPOSITORY, ONE), Unverified)

    async def test_too_long_a_line(self) -> None:
        """A line of more than 64 KiB is not waited for."""
        upstream = await self.filled()
        upstream.fault("*", Fault(headers=(("X-Long", "x" * 100_000),)))
        await self.fails(
            self.registry(upstream.url, proxy_timeout=5.0).manifest(REPOSITORY, ONE), Unavailable
        )
        await self.until(lambda: upstream.closed == upstream.connections)

    async def test_endless_headers(self) -> None:
        """Headers without end are cut off, after 256 KiB."""
        line = b"X-Header: " + b"x" * 1000 + b"\r\n"
        factory, url = self.silent(b"HTTP/1.1 200 OK\r\n" + line * 2000)
        client = self.registry(url, proxy_timeout=5.0)
        error = await self.fails(client.manifest(REPOSITORY, ONE), Unverified)
        self.assertIn("headers are too large", error.message)
        await self.until(lambda: factory.lost == len(factory.made))

    async def test_endless_interim_responses(self) -> None:
        """Interim responses count with the final one's headers."""
        _, url = self.silent(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 20_000)
        await self.fails(self.registry(url, proxy_timeout=5.0).manifest(REPOSITORY, ONE), Unverified)

    async def test_cookies_are_left(self) -> None:
        """No cookie is kept or sent."""
        upstream = await self.filled()
        upstream.fault("*", Fault(headers=(("Set-Cookie", "a=b"),)))
        client = self.registry(upstream.url)
        for _ in range(2):
            await client.manifest(REPOSITORY, ONE)
        self.assertNotIn("cookie", upstream.requests[1].headers)


class TransferTests(TransportTestCase):
    """Transfers over real sockets."""

    client: Registry

    async def test_back_pressure(self) -> None:
        """While the reader has paused, no more leaves the upstream than sockets hold; then all of it comes."""
        data = LAYER * 6
        upstream = await self.filled()
        digest = upstream.add_blob(REPOSITORY, data)
        transfer = await self.registry(upstream.url).blob(REPOSITORY, digest)
        got: list[bytes] = []

        def sink(chunk: bytes) -> None:
            got.append(chunk)
            if len(got) == 1:
                transfer.pause()

        done = transfer.deliver(sink)
        path = f"/v2/{REPOSITORY}/blobs/{digest}"
        await self.until(lambda: bool(got))
        sent = -1
        while sent != upstream.sent[path]:  # until the sockets are full
            sent = upstream.sent[path]
            await deferLater(REACTOR, 0.05)
        self.assertLess(sent, len(data) // 2)
        self.assertLessEqual(sum(map(len, got)), 200_000)
        transfer.resume()
        await done
        self.assertEqual(b"".join(got), data)

    async def test_abort(self) -> None:
        """Giving up a transfer closes its connection, whether it had begun or not."""
        upstream = await self.filled()
        client = self.registry(upstream.url)
        transfer = await client.blob(REPOSITORY, self.layer)
        transfer.abort()
        await self.until(lambda: upstream.closed == upstream.connections == 1)
        transfer = await client.blob(REPOSITORY, self.layer)
        done = transfer.deliver(lambda _: transfer.abort())
        await self.assertFailure(done, Broken)
        await self.until(lambda: upstream.closed == upstream.connections == 2)

    async def test_ends_after_close(self) -> None:
        """A transfer under way when the client is closed comes whole, and its connection is not kept."""
        upstream = await self.filled()
        client = self.registry(upstream.url)
        transfer = await client.blob(REPOSITORY, self.layer)
        await client.close()
        self.assertEqual(await delivered(transfer), LAYER)
        await self.until(lambda: upstream.closed == upstream.connections)


class InsideTests(TransportTestCase):
    """Private addresses, from a public upstream and from a private one."""

    async def test_redirect_to_the_inside(self) -> None:
        """A public upstream's redirect and realm to an address inside are not followed; nothing is dialled."""
        inside, upstream = await self.filled(), await self.filled()
        names = _Named({"registry.example": ["8.8.8.8"], "evil.example": ["127.0.0.1"]})
        names.nameResolver.table["127.0.0.1"] = ["127.0.0.1"]
        client = self.registry(f"http://registry.example:{upstream.port}", reactor=names)
        self.assertEqual((await client.manifest(REPOSITORY, ONE)).digest, self.image.digest)
        for host in ("evil.example", "127.0.0.1"):
            upstream.fault("*", Fault(redirect=f"http://{host}:{inside.port}{{path}}"))
            error = await self.fails(client.manifest(REPOSITORY, ONE), Unverified)
            self.assertIn("not public", error.message)
        upstream.heal()
        upstream.auth = True
        upstream.challenge = f'Bearer realm="http://evil.example:{inside.port}/token"'
        await self.fails(client.manifest(REPOSITORY, ONE), Unverified)
        self.assertEqual((inside.requests, set(names.dialled)), ([], {"8.8.8.8"}))

    async def test_private_upstream(self) -> None:
        """An upstream that is inside itself may lead to the inside."""
        inside, upstream = await self.filled(), await self.filled()
        names = _Named({"registry.internal": ["10.0.0.1"], "storage.internal": ["10.0.0.2"]})
        upstream.fault("*", Fault(redirect=f"http://storage.internal:{inside.port}{{path}}"))
        client = self.registry(f"http://registry.internal:{upstream.port}", reactor=names)
        self.assertEqual((await client.manifest(REPOSITORY, ONE)).digest, self.image.digest)
        self.assertEqual(names.dialled, ["10.0.0.1", "10.0.0.2"])


class AbortingTests(SynchronousTestCase):
    """The transport that only knows one end."""

    def test_delegates(self) -> None:
        """It is what it wraps, interfaces too, but that every end is an abortion."""

        class Inner(FakeTransport):
            aborted = 0

            def abortConnection(self) -> None:
                self.aborted += 1

        inner = Inner()
        directlyProvides(inner, IReactorTime)
        transport = AbortingTransport(inner)
        self.assertTrue(IReactorTime.providedBy(transport))
        transport.pauseProducing()
        self.assertTrue(inner.paused)
        transport.stopProducing()
        transport.loseConnection()
        self.assertEqual((inner.aborted, inner.stopped), (2, False))
