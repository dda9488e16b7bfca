"""A token service of the tests: it signs real JSON Web Tokens that Debian's docker-registry verifies.

The protocol is the distribution project's "Docker Registry v2 authentication via central service". The key is
named as libtrust does: the first 240 bits of the sha256 of the DER public key, in base32, four to a group.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.support.images import basic

ISSUER = "tests-tokens"
SERVICE = "tests-registry"
LIFETIME = 300
USER, PASSWORD = "pusher", "tests-secret"


@attrs.frozen
class Asked:
    """One request for a token."""

    scope: str
    """All scopes, joined by spaces."""
    user: bool
    """The right credential came with it."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: a client that leaves is no error here."""


class TokenService:
    """The service, in a thread. Anonymous: pull of everything. With `USER` and `PASSWORD`: push too."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._server = _Server(("127.0.0.1", 0), self._answers())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.port: int = self._server.server_address[1]
        self.realm = f"http://127.0.0.1:{self.port}/token"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """End; the port is free afterwards."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def write_certificate(self, path: Path) -> None:
        """Write the certificate of the signing key, for the registry's `rootcertbundle`."""
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, ISSUER)])
        now = datetime.datetime.now(datetime.timezone.utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def token(self, scopes: list[str], *, push: bool) -> str:
        """Sign a token for `scopes` of the form `repository:NAME:ACTIONS`; without `push` only pull is granted."""
        allowed = {"pull", "push"} if push else {"pull"}
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            granted = [action for action in actions.split(",") if action in allowed]
            if kind == "repository" and granted:
                access.append({"type": kind, "name": name, "actions": granted})
        now = int(time.time())
        header = {"typ": "JWT", "alg": "ES256", "kid": self._key_id()}
        claims = {
            "iss": ISSUER,
            "sub": USER if push else "",
            "aud": SERVICE,
            "exp": now + LIFETIME,
            "nbf": now - 10,
            "iat": now,
            "jti": uuid.uuid4().hex,
            "access": access,
        }
        signed = f"{_base64(json.dumps(header).encode())}.{_base64(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def _key_id(self) -> str:
        der = self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        text = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode()
        return ":".join(text[start : start + 4] for start in range(0, len(text), 4))

    def _answers(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Answer(BaseHTTPRequestHandler):
            """One request."""

            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                scopes = [one for value in query.get("scope", []) for one in value.split(" ")]
                user = self.headers.get("Authorization") == basic(USER, PASSWORD)
                service.asked.append(Asked(" ".join(scopes), user))
                right = query.get("service") == [SERVICE]
                token = service.token(scopes, push=user)
                body = json.dumps({"token": token, "expires_in": LIFETIME}).encode() if right else b"{}"
                self.send_response(200 if right else 400)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Stay silent."""

        return Answer


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
