"""The ways into a daemon that takes pushes: by HTTP or HTTPS, logged in or not, and with every upstream dead."""

from __future__ import annotations

import hashlib
import socket
import ssl
from pathlib import Path
from typing import Any

import attrs

from tests.support.authority import Authority
from tests.support.daemon import Nora, Reply
from tests.support.doors import PASSWORD, basic, write_users
from tests.support.images import Blob, Image, Index
from tests.support.programs import free_port
from tests.support.room import Room

_RULES = [
    {"user": "alice", "repository": "*", "actions": ["push", "delete"]},
    {"user": "bob", "repository": "*", "actions": ["pull"]},
]


class Silent:
    """An upstream that takes connections, as far as their client can see, and never says a word."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listening.setblocking(False)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def was_asked(self) -> bool:
        """Tell whether somebody connected since the last time."""
        try:
            self._listening.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def stop(self) -> None:
        """Be gone."""
        self._listening.close()


@attrs.frozen
class Way:
    """One daemon, and how a client comes to it. Its upstreams are dead: one refuses, one is silent."""

    nora: Nora
    silent: Silent
    user: str | None
    """Who pushes: alice, or nobody where nobody can log in. Where alice pushes, bob pulls, and nobody else may."""
    certificates: Path | None
    """The directory with the authority's certificate, by HTTPS."""

    @property
    def host(self) -> str:
        """Host and port, as image names begin."""
        return f"127.0.0.1:{self.nora.port}"

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http{'s' if self.certificates else ''}://{self.host}"

    @property
    def authority(self) -> Path | None:
        """The authority's certificate."""
        return self.certificates and self.certificates / "ca.crt"

    def login(self, client: Any) -> None:
        """Have a client log in, where that is needed."""
        if self.user is not None:
            assert "Login Succeeded" in client.login(self.host, self.user, PASSWORD)

    def ask(self, path: str, method: str = "GET") -> Reply:
        """Make a request as the user; HTTPS is verified."""
        headers = {} if self.user is None else {"Authorization": basic(self.user, PASSWORD)}
        return self.nora.get(path, headers, method)

    def manifest(self, repository: str, reference: str) -> Blob:
        """Give a manifest as it is here now."""
        reply = self.ask(f"/v2/{repository}/manifests/{reference}")
        assert reply.status == 200, reply.body
        found = Blob(str(reply.headers["Content-Type"]), reply.body)
        assert found.digest == reply.headers["Docker-Content-Digest"]
        return found

    def has(self, repository: str, tag: str, pushed: Image | Index) -> None:
        """Assert that all of an image is here, byte for byte, and that no upstream was asked for anything."""
        assert self.manifest(repository, tag) == pushed.top
        for one in pushed.images:
            assert self.manifest(repository, one.manifest.digest) == one.manifest
            self.has_blobs(repository, [blob.digest for blob in one.blobs])
        assert not self.silent.was_asked()

    def has_blobs(self, repository: str, digests: list[str]) -> None:
        """Assert that the repository has these blobs, and that they are what their digests say."""
        for digest in digests:
            reply = self.ask(f"/v2/{repository}/blobs/{digest}")
            assert (reply.status, reply.short) == (200, False), digest
            assert "sha256:" + hashlib.sha256(reply.body).hexdigest() == digest

    def pushed(self, repository: str, digest: str, agent: str) -> None:
        """Assert that the audit log tells who pushed that manifest, with what, and that others failed before."""
        lines = self.nora.wait_for_audit(1, action="push", method="PUT", repository=repository, digest=digest)
        assert {(line["user"], line["status"], line["client"]) for line in lines} == {
            (self.user, 201, "127.0.0.1")
        }
        assert {line["agent"].lower().partition("/")[0] for line in lines} == {agent}


@attrs.frozen
class Protection:
    """What protects a daemon: the `sections` of its configuration, and what a client needs besides."""

    sections: dict[str, dict[str, object]]
    user: str | None
    """Who may push, with `PASSWORD`; nobody where nobody can log in. Where alice may, bob pulls, and nobody else."""
    certificates: Path | None
    """The directory with the authority's certificate, by HTTPS."""
    trust: ssl.SSLContext | None
    """What the daemon's certificate is verified by, by HTTPS."""


def protect(
    room: Room,
    *,
    login: bool,
    tls: bool = False,
    authority: Authority | None = None,
    name: str = "127.0.0.1",
) -> Protection:
    """Make users for a daemon, and with an `authority`, or `tls`, a certificate for `name`."""
    sections: dict[str, dict[str, object]] = {}
    certificates: Path | None = None
    trust: ssl.SSLContext | None = None
    if tls and authority is None:
        authority = Authority()
    if authority is not None:
        certificates = room.place("certs")
        certificates.mkdir()
        (certificates / "ca.crt").write_bytes(authority.pem)
        pair = [room.place("tls"), room.place("tls")]
        for path, data in zip(pair, authority.pair(name), strict=True):
            path.write_bytes(data)
        sections["server"] = {"tls_certificate": str(pair[0]), "tls_key": str(pair[1])}
        trust = ssl.create_default_context(cadata=authority.pem.decode())
        trust.check_hostname = name == "127.0.0.1"  # the test itself asks by address
    if login:
        users = room.place("users")
        write_users(users, "alice", "bob")
        sections["auth"] = {"htpasswd": str(users), "anonymous_pull": False}
        sections["access"] = {"rules": _RULES}
    return Protection(sections, "alice" if login else None, certificates, trust)


def make_way(
    room: Room,
    *,
    login: bool,
    tls: bool = False,
    authority: Authority | None = None,
    name: str = "127.0.0.1",
    **docker: object,
) -> Way:
    """Start a daemon; `docker` are further keys of that section.

    With an `authority`, or `tls`, it has a certificate for `name`.
    """
    door = protect(room, login=login, tls=tls, authority=authority, name=name)
    silent = Silent()
    room.at_end(silent.stop)
    upstreams = [
        {"url": f"http://127.0.0.1:{free_port()}", "namespace": "docker.io"},
        {"url": silent.url, "namespace": "ghcr.io"},
    ]
    nora = Nora(room.place("nora"), upstreams, {"docker": {"metadata_ttl": 0, **docker}, **door.sections})
    nora.trust = door.trust
    room.start(nora)
    return Way(nora, silent, door.user, door.certificates)
