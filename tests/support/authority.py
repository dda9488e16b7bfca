"""A certificate authority of the tests: it lives in memory and signs certificates for 127.0.0.1 or any other name."""

from __future__ import annotations

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from twisted.internet.ssl import ContextFactory

_DAY = datetime.timedelta(days=1)


class _Ready(ContextFactory):
    """A context that is ready."""

    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def getContext(self) -> SSL.Context:
        return self._context


class Authority:
    """One authority. `pem` is its certificate, which a client is told to trust."""

    def __init__(self, name: str = "tests-authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    key_cert_sign=True,
                    crl_sign=True,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
            .sign(self._key, hashes.SHA256())
        )
        self.pem: bytes = certificate.public_bytes(serialization.Encoding.PEM)

    def context_factory(self, host: str = "127.0.0.1") -> ContextFactory:
        """Sign a certificate for `host`, an address or a name, and give a server's context factory with it."""
        key = ec.generate_private_key(ec.SECP256R1())
        context = SSL.Context(SSL.TLS_METHOD)
        context.use_certificate(self._sign(host, key, _DAY))
        context.use_privatekey(key)
        return _Ready(context)

    def pair(self, host: str = "127.0.0.1", days: float = 1) -> tuple[bytes, bytes]:
        """Sign a certificate for `host` that ends in `days`; gives it and its key, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._sign(host, key, _DAY * days).public_bytes(serialization.Encoding.PEM), pem(key)

    def _sign(
        self, host: str, key: ec.EllipticCurvePrivateKey, lasts: datetime.timedelta
    ) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests-server")])
        return (
            self._builder(name, key.public_key(), lasts)
            .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, lasts: datetime.timedelta = _DAY
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, now + lasts) - _DAY)
            .not_valid_after(now + lasts)
        )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def pem(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    """Write a private key, encrypted if there is a password."""
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
