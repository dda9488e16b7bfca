"""TLS on a listening port: the pair of certificate and key that connections begin with, and its exchange.

A connection keeps the pair that it began with. A new one is checked as a whole before it takes the old one's place,
so what is wrong with it is told once, to whoever brought it, and never to a client.

TLS 1.2 and later, with forward secrecy and authenticated encryption alone (RFC 9325 section 4.2). ALPN offers HTTP/1.1,
which is all that this server speaks.
"""

# Twisted's TLS classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

import warnings
from contextlib import suppress
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IProtocolFactory, IReactorTime
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from nora.process.interfaces import CannotStart

_MAX_FILE = 1024 * 1024
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; those of TLS 1.3 are all as good."""
_HTTP = b"http/1.1"
_PARTIAL_WRITES = 0x1
"""OpenSSL's SSL_MODE_ENABLE_PARTIAL_WRITE, for which pyOpenSSL has no name: a write ends after its first 16 KiB."""
_OVERHEAD = 16 * 1024
"""More than what encryption adds to one write."""
_SEND_LIMIT = 512 * 1024
"""The most bytes of one call to send; Twisted's own is 128 KiB."""
_HANDSHAKE = 0x16
"""The first byte of a client that speaks TLS (RFC 8446 section 5.1)."""
_NOT_HTTP = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"This port speaks HTTPS, not HTTP.\n"
)


@attrs.frozen
class Pair:
    """A certificate and its key, ready for connections."""

    context: SSL.Context = attrs.field(repr=False)
    ends: float
    """When the certificate does, in seconds of Unix time."""


def load_pair(certificate_file: str, key_file: str) -> Pair:
    """Read the PEM files of a certificate, with its chain after it, and of its key.

    Raises `CannotStart`, naming the configuration's key and the file, when one cannot be used or they are no pair. One
    that has ended, or begins later, is a pair.
    """
    certificates = _certificates(certificate_file)
    key = _key(key_file)
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    # Idle connections are many; each would keep its buffers, and each session that nobody comes back to its state.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.clear_mode(_PARTIAL_WRITES)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(_CIPHERS)
    context.set_alpn_select_callback(_choose)
    try:
        context.use_certificate(certificates[0])
        for issuer in certificates[1:]:
            context.add_extra_chain_cert(issuer)
    except SSL.Error as error:
        raise _refused("tls_certificate", certificate_file, f"OpenSSL refuses it: {_words(error)}") from None
    try:
        context.use_privatekey(key)
        context.check_privatekey()
    except (SSL.Error, TypeError, ValueError):
        raise _refused(
            "tls_key", key_file, f"is not the key of the first certificate in {certificate_file}"
        ) from None
    return Pair(context, certificates[0].not_valid_after_utc.timestamp())


def _certificates(path: str) -> list[x509.Certificate]:
    data = _read("tls_certificate", path)
    try:
        with warnings.catch_warnings():
            # Of certificates with odd but working contents; their owner hears it from `cryptography` elsewhere.
            warnings.simplefilter("ignore")
            return x509.load_pem_x509_certificates(data)
    except ValueError:
        raise _refused("tls_certificate", path, "holds no certificate in PEM, or a broken one") from None


def _key(path: str) -> Any:
    data = _read("tls_key", path)
    try:
        return load_pem_private_key(data, password=None)
    except TypeError:
        raise _refused(
            "tls_key", path, "is encrypted with a password, and nobody is here to type it"
        ) from None
    except Exception:  # cryptography has exceptions of its own for keys that it does not know
        raise _refused("tls_key", path, "holds no private key in PEM, or one of an unknown kind") from None


def _read(key: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise _refused(key, path, error.strerror or str(error)) from None
    if len(data) > _MAX_FILE:
        raise _refused(key, path, f"is larger than {_MAX_FILE} bytes")
    return data


def _refused(key: str, path: str, reason: str) -> CannotStart:
    return CannotStart(f"server.{key}: {path}: {reason}")


def _words(error: SSL.Error) -> str:
    return (
        "; ".join(str(each[-1]) for each in error.args[0])
        if error.args and error.args[0]
        else "no reason given"
    )


def _choose(connection: SSL.Connection, offered: list[bytes]) -> Any:
    # Without a protocol in common the connection goes on as if none had been named, in HTTP/1.1.
    return _HTTP if _HTTP in offered else SSL.NO_OVERLAPPING_PROTOCOLS


class _Transport(BufferingTLSTransport):
    """One connection with TLS."""

    transport: Any
    _began = False
    _clear = False

    def makeConnection(self, transport: Any) -> None:
        """Begin. What was encrypted at one go also goes to the socket at one go, where it has the room."""
        transport.SEND_LIMIT = _SEND_LIMIT
        super().makeConnection(transport)

    def dataReceived(self, bytes: bytes) -> None:
        """Take bytes; tell a client that begins in clear text what this port speaks."""
        if not self._began and bytes:
            self._began = True
            if bytes[0] != _HANDSHAKE:
                self._clear = True
                self._answer_in_clear(bytes)
        if not self._clear:
            super().dataReceived(bytes)

    def _answer_in_clear(self, data: bytes) -> None:
        if data[:1].isalpha() and data[:1].isupper():  # so begins a method
            self.transport.write(_NOT_HTTP)
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()

    def _write(self, bytes: bytes) -> None:
        """Encrypt what is written at one go: doing it 16 KiB at a time, as Twisted does, takes half as much again."""
        if self._lostTLSConnection or not bytes:
            return
        try:
            self._tlsConnection.send(bytes)
        except SSL.WantReadError:
            self._bufferedWrite(bytes)
        except SSL.Error:
            self._tlsShutdownFinished(Failure())
        else:
            self._flush(len(bytes) + _OVERHEAD)

    def _flush(self, size: int) -> None:
        """Hand on what is encrypted. A piece of less than `size` was the last one: asking again would cost as much."""
        with suppress(SSL.WantReadError):
            while len(piece := self._tlsConnection.bio_read(size)) == size:
                self.transport.write(piece)
            self.transport.write(piece)

    def _shutdownTLS(self) -> None:
        """Say goodbye and close. Twisted would wait for the peer's goodbye, for ever if there comes none.

        Nobody has to wait for it (RFC 8446 section 6.1), and every way of ending a connection comes through here, after
        all that was written has been encrypted.
        """
        super()._shutdownTLS()
        self.transport.loseConnection()


@implementer(IOpenSSLServerConnectionCreator)
class _Connections:
    """Begins each connection with the pair of that moment."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return SSL.Connection(self.pair.context, None)


class TLSFactory(TLSMemoryBIOFactory):
    """Puts TLS before the protocols of `inner`, with a pair that can be exchanged at any time."""

    protocol = _Transport

    def __init__(self, pair: Pair, inner: IProtocolFactory, clock: IReactorTime) -> None:
        self._connections = _Connections(pair)
        super().__init__(self._connections, False, inner, clock)

    @property
    def pair(self) -> Pair:
        """What the next connection begins with."""
        return self._connections.pair

    def use(self, pair: Pair) -> None:
        """Begin the next connections with `pair`; those that are open keep theirs."""
        self._connections.pair = pair
