"""Connections: time, sizes, cancellation, and the way to the inside."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectBindError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from nora.oci import Digest, Tag
from nora.oci.errors import Broken, TimedOut, Unavailable, Unverified
from nora.upstream.transport import AbortingTransport
from tests.support.fake_response import FakeTransport
from tests.support.fake_upstream import Fault
from tests.support.names import DeafReactor, NamedReactor
from tests.support.upstreams import IMAGE, LAYER, REACTOR, REPOSITORY, UpstreamTestCase, delivered

ONE = Tag("1")
LAYER_DIGEST = Digest.of(LAYER)


class FailureTests(UpstreamTestCase):
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
        client = self.registry("http://registry.invalid", reactor=NamedReactor({}))
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
        client = self.registry(
            "http://registry.example", reactor=DeafReactor({"registry.example": ["8.8.8.8"]})
        )
        error = await self.fails(client.manifest(REPOSITORY, ONE), TimedOut)
        self.assertEqual(error.message, "no connection in time")

    async def test_cannot_connect(self) -> None:
        """Any other failure to connect is unavailable."""
        deaf = DeafReactor({"registry.example": ["8.8.8.8"]})
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
            self.assertEqual(self.notes.answers[-1][2], "cancelled")
            self.assertIsNone(client.state().last_error)
            count = len(upstream.requests)
            upstream.release()  # the token is not the one caller's: it is fetched to its end
            await client.close()
            await self.until(lambda: upstream.closed == upstream.connections)
            self.assertEqual(len(upstream.requests), count)

    async def test_cancel_while_connecting(self) -> None:
        """Cancelling before there is a connection is seen as cancellation too."""
        deaf = DeafReactor({"registry.example": ["8.8.8.8"]})
        deaf.error = None
        asking = Deferred.fromCoroutine(
            self.registry("http://registry.example", reactor=deaf).manifest(REPOSITORY, ONE)
        )
        asking.cancel()
        await self.assertFailure(asking, CancelledError)


class HeaderTests(UpstreamTestCase):
    """Heads of responses."""

    async def test_long_lines(self) -> None:
        """A redirect of 40 KiB is more than Twisted takes of a line, and is followed no further than URLs may be."""
        upstream = await self.filled()
        upstream.fault("*", Fault(headers=(("X-Long", "x" * 40_000),)))
        client = self.registry(upstream.url)
        self.assertEqual((await client.manifest(REPOSITORY, ONE)).digest, IMAGE.digest)
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


class TransferTests(UpstreamTestCase):
    """Transfers over real sockets."""

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
        transfer = await client.blob(REPOSITORY, LAYER_DIGEST)
        transfer.abort()
        await self.until(lambda: upstream.closed == upstream.connections == 1)
        transfer = await client.blob(REPOSITORY, LAYER_DIGEST)
        done = transfer.deliver(lambda _: transfer.abort())
        await self.assertFailure(done, Broken)
        await self.until(lambda: upstream.closed == upstream.connections == 2)

    async def test_ends_after_close(self) -> None:
        """A transfer under way when the client is closed comes whole, and its connection is not kept."""
        upstream = await self.filled()
        client = self.registry(upstream.url)
        transfer = await client.blob(REPOSITORY, LAYER_DIGEST)
        await client.close()
        self.assertEqual(await delivered(transfer), LAYER)
        await self.until(lambda: upstream.closed == upstream.connections)


class InsideTests(UpstreamTestCase):
    """Private addresses, from a public upstream and from a private one."""

    async def test_redirect_to_the_inside(self) -> None:
        """A public upstream's redirect and realm to an address inside are not followed; nothing is dialled."""
        inside, upstream = await self.filled(), await self.filled()
        names = NamedReactor({"registry.example": ["8.8.8.8"], "evil.example": ["127.0.0.1"]})
        names.nameResolver.table["127.0.0.1"] = ["127.0.0.1"]
        client = self.registry(f"http://registry.example:{upstream.port}", reactor=names)
        self.assertEqual((await client.manifest(REPOSITORY, ONE)).digest, IMAGE.digest)
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
        names = NamedReactor({"registry.internal": ["10.0.0.1"], "storage.internal": ["10.0.0.2"]})
        upstream.fault("*", Fault(redirect=f"http://storage.internal:{inside.port}{{path}}"))
        client = self.registry(f"http://registry.internal:{upstream.port}", reactor=names)
        self.assertEqual((await client.manifest(REPOSITORY, ONE)).digest, IMAGE.digest)
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
