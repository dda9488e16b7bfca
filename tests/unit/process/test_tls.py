"""TLS on a port: what a pair must be, what is spoken, and its exchange under open connections."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from nora.process import CannotStart, Pair, Sockets, TLSFactory, load_pair
from tests.support.authority import Authority, pem
from tests.support.storage_fakes import temporary_folder

T = TypeVar("T")
reactor: Any = installed


class Files:
    """A certificate's file and a key's."""

    def __init__(self, directory: str) -> None:
        self.certificate = Path(directory) / "tls.pem"
        self.key = Path(directory) / "tls.key"

    def write(self, pair: tuple[bytes, bytes]) -> Pair:
        """Write them, and read them as the process does."""
        self.certificate.write_bytes(pair[0])
        self.key.write_bytes(pair[1])
        return self.load()

    def load(self) -> Pair:
        """Read them."""
        return load_pair(str(self.certificate), str(self.key))


class LoadTests(SynchronousTestCase):
    """What is no pair is told in one line, with the key of the configuration and the file."""

    def setUp(self) -> None:
        """Have a pair that is good."""
        self.authority = Authority()
        self.files = Files(temporary_folder(self))
        self.good = self.authority.pair()

    def refused(self) -> str:
        """Give what is told of the files as they are."""
        said = str(self.assertRaises(CannotStart, self.files.load))
        self.assertNotIn("\n", said)
        return said

    def test_ends(self) -> None:
        """A pair knows when its certificate ends."""
        pair = self.files.write(self.good)
        told = x509.load_pem_x509_certificate(self.good[0]).not_valid_after_utc
        self.assertEqual(pair.ends, told.timestamp())
        self.assertNotIn("Context", repr(pair))

    def test_one_file(self) -> None:
        """Certificate and key may stand in one file."""
        self.files.write(self.good)
        self.files.certificate.write_bytes(self.good[1] + self.good[0])
        load_pair(str(self.files.certificate), str(self.files.certificate))

    def test_unreadable(self) -> None:
        """A file that is missing, or a directory, is named."""
        self.files.write(self.good)
        self.files.key.unlink()
        self.assertEqual(self.refused(), f"server.tls_key: {self.files.key}: No such file or directory")
        self.files.certificate.unlink()
        self.files.certificate.mkdir()
        self.assertEqual(self.refused(), f"server.tls_certificate: {self.files.certificate}: Is a directory")

    def test_no_pair(self) -> None:
        """The key of another certificate is refused, of its kind or another."""
        self.files.write(self.good)
        for key in (self.authority.pair()[1], pem(ec.generate_private_key(ec.SECP384R1()))):
            self.files.key.write_bytes(key)
            self.assertIn("server.tls_key", self.refused())
            self.assertIn("is not the key of the first certificate in", self.refused())

    def test_no_pem(self) -> None:
        """What holds no certificate, or no key, or too much, is refused."""
        self.files.write(self.good)
        for data in (b"", b"hello", self.good[1], self.good[0][:200], self.good[0].replace(b"M", b"!")):
            self.files.certificate.write_bytes(data)
            self.assertIn("holds no certificate in PEM", self.refused())
        self.files.certificate.write_bytes(self.good[0] + b"\n" * 1024 * 1024)
        self.assertIn("is larger than", self.refused())
        self.files.certificate.write_bytes(self.good[0])
        for data in (b"", b"hello", self.good[0], self.good[1][:100]):
            self.files.key.write_bytes(data)
            self.assertIn("holds no private key in PEM", self.refused())

    def test_password(self) -> None:
        """A key with a password is refused for that reason."""
        self.files.write(self.good)
        self.files.key.write_bytes(pem(ec.generate_private_key(ec.SECP256R1()), b"secret"))
        self.assertIn("is encrypted with a password", self.refused())


class EchoFactory(Factory):
    """Knows the connections that are open."""

    def __init__(self) -> None:
        self.open: list[Protocol] = []
        self.protocol = Echo  # type: ignore[assignment]


class Echo(Protocol):
    """Sends back what comes, and leaves on `bye`."""

    transport: Any
    factory: EchoFactory

    def connectionMade(self) -> None:
        """Be counted."""
        self.factory.open.append(self)

    def dataReceived(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)
        if data.endswith(b"bye"):
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Be counted no more."""
        self.factory.open.remove(self)


class ListenTests(TestCase):
    """With the real reactor and Python's own TLS, on loopback."""

    timeout = 30

    def setUp(self) -> None:
        """Listen with a first pair."""
        self.authority = Authority()
        self.files = Files(temporary_folder(self))
        self.factory = EchoFactory()
        self.tls = TLSFactory(self.files.write(self.authority.pair()), self.factory, reactor)
        (port,) = Sockets(reactor).listen(self.factory, "127.0.0.1", 0, self.tls)
        self.addCleanup(port.stopListening)
        self.port: int = port.getHost().port  # type: ignore[attr-defined]

    def plain(self) -> socket.socket:
        """Connect without TLS. Blocks."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self.addCleanup(client.close)
        return client

    def client(self, authority: Authority | None = None, **settings: Any) -> ssl.SSLSocket:
        """Connect with TLS, and trust the authority alone. Blocks."""
        context = ssl.create_default_context(cadata=(authority or self.authority).pem.decode())
        context.set_alpn_protocols(settings.pop("protocols", ["h2", "http/1.1"]))
        for name, value in settings.items():
            setattr(context, name, value)
        client = context.wrap_socket(self.plain(), server_hostname="127.0.0.1")
        self.addCleanup(client.close)
        return client

    def work(self, work: Callable[[], T]) -> Deferred[T]:
        """Do what blocks in a thread."""
        return deferToThread(work)

    async def test_speaks(self) -> None:
        """TLS 1.3 with HTTP/1.1, verified; to a client that can no more, 1.2 with forward secrecy."""
        client = await self.work(self.client)
        self.assertEqual((client.version(), client.selected_alpn_protocol()), ("TLSv1.3", "http/1.1"))
        old = await self.work(lambda: self.client(maximum_version=ssl.TLSVersion.TLSv1_2))
        self.assertEqual(old.version(), "TLSv1.2")
        cipher: Any = old.cipher()
        self.assertTrue(cipher[0].startswith("ECDHE-") and ("GCM" in cipher[0] or "CHACHA" in cipher[0]))

    async def test_no_protocol_in_common(self) -> None:
        """A client that offers HTTP/2 alone, or nothing, is spoken to as if it had said nothing."""
        client = await self.work(lambda: self.client(protocols=["h2"]))
        self.assertIsNone(client.selected_alpn_protocol())

    async def test_weak(self) -> None:
        """A cipher without forward secrecy is refused."""

        def weak() -> str | None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers("AES128-GCM-SHA256")
            return context.wrap_socket(self.plain()).version()

        error = await self.assertFailure(self.work(weak), ssl.SSLError)
        self.assertIn("HANDSHAKE_FAILURE", str(error).upper().replace(" ", "_"))

    async def test_clear_text(self) -> None:
        """A client that speaks HTTP is told in HTTP; one that speaks neither is left."""

        def ask() -> bytes:
            client = self.plain()
            client.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
            return client.makefile("rb").read()

        def garbage() -> bytes:
            client = self.plain()
            client.sendall(b"\0\0\0\0")
            try:
                return client.recv(100)
            except ConnectionResetError:
                return b""

        said = await self.work(ask)
        self.assertTrue(said.startswith(b"HTTP/1.0 400 "), said)
        self.assertTrue(said.endswith(b"\r\n\r\nThis port speaks HTTPS, not HTTP.\n"), said)
        self.assertEqual(await self.work(garbage), b"")

    async def test_exchange(self) -> None:
        """After an exchange new connections see the new certificate, and an open one goes on."""

        def echo(client: ssl.SSLSocket, text: bytes) -> bytes:
            client.sendall(text)
            return client.recv(100)

        first = await self.work(self.client)
        other = Authority("another")
        self.tls.use(self.files.write(other.pair()))
        self.assertEqual(await self.work(lambda: echo(first, b"still here")), b"still here")
        second = await self.work(lambda: self.client(other))
        self.assertEqual(await self.work(lambda: echo(second, b"hello")), b"hello")
        self.assertNotEqual(first.getpeercert(True), second.getpeercert(True))
        await self.assertFailure(self.work(self.client), ssl.SSLCertVerificationError)

    async def test_leaves(self) -> None:
        """The server closes when it is done, after its last byte, though the client says no goodbye."""
        client = await self.work(self.client)

        def talk() -> bytes:
            client.sendall(b"x" * 100_000 + b"bye")
            return b"".join(iter(lambda: client.recv(65536), b""))

        said = await self.work(talk)
        self.assertEqual(len(said), 100_003)
        # The client's socket is still open, and has answered nothing.
        while self.factory.open:  # the test's timeout bounds it
            await deferLater(reactor, 0.001)
        self.assertGreaterEqual(client.fileno(), 0)


class InheritedTests(TestCase):
    """TLS on sockets that systemd holds."""

    timeout = 30

    async def test_tcp_and_unix(self) -> None:
        """A TCP socket speaks TLS, a UNIX socket beside it does not."""
        folder = temporary_folder(self)
        authority, files = Authority(), Files(folder)
        inner = EchoFactory()
        tls = TLSFactory(files.write(authority.pair()), inner, reactor)
        held = [socket.socket(), socket.socket(socket.AF_UNIX)]
        held[0].bind(("127.0.0.1", 0))
        held[1].bind(f"{folder}/socket")
        for each in held:
            each.listen()
        address = held[0].getsockname()
        for port in Sockets(reactor, [each.detach() for each in held]).listen(inner, "", 0, tls):
            self.addCleanup(port.stopListening)

        def over_tls() -> bytes:
            context = ssl.create_default_context(cadata=authority.pem.decode())
            with context.wrap_socket(
                socket.create_connection(address, timeout=10), server_hostname="127.0.0.1"
            ) as client:
                client.sendall(b"tcp bye")
                return client.recv(100)

        def over_unix() -> bytes:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(10)
                client.connect(f"{folder}/socket")
                client.sendall(b"unix bye")
                return client.recv(100)

        self.assertEqual(await deferToThread(over_tls), b"tcp bye")
        self.assertEqual(await deferToThread(over_unix), b"unix bye")
