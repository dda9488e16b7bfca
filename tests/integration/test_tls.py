"""HTTPS with real clients: skopeo and Python's own, an authority of one's own, a renewal under an open connection."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import socket
import ssl
import sys

import pytest

from tests.support.authority import Authority
from tests.support.daemon import ROOT, Nora
from tests.support.engines import Skopeo, digests_in
from tests.support.images import MEBIBYTE, Image, image_of_blobs, noise
from tests.support.programs import environment, run, wait_for
from tests.support.registry import Registry
from tests.support.room import Room, tables

_SIZE = 64 * MEBIBYTE


@pytest.fixture(scope="module")
def big() -> Image:
    """Make an image with one layer of 64 MiB."""
    return image_of_blobs([noise(_SIZE, 7)])


@pytest.fixture(scope="module")
def registry(house: Room, big: Image) -> Registry:
    """Start the upstream."""
    registry = house.registry()
    registry.push("library/big", "1", big)
    return registry


@pytest.fixture
def authority() -> Authority:
    """Give an authority that nobody knows yet."""
    return Authority()


@pytest.fixture
def nora(room: Room, registry: Registry, authority: Authority) -> Nora:
    """Start NORA with a certificate of that authority, trusted by those who ask it."""
    relay = room.relay(registry)
    nora = room.unstarted_nora(relay)
    names = {"tls_certificate": str(room.directory / "tls.pem"), "tls_key": str(room.directory / "tls.key")}
    nora.configure(tables(relay), {"server": names})
    renew(room, authority.pair(days=60))
    nora.trust = ssl.create_default_context(cadata=authority.pem.decode())
    nora.start()
    return nora


def renew(room: Room, pair: tuple[bytes, bytes]) -> None:
    """Put a certificate and its key in place."""
    for name, data in zip(("tls.pem", "tls.key"), pair, strict=True):
        (room.directory / name).write_bytes(data)


@pytest.mark.needs("skopeo", "docker-registry")
def test_skopeo(room: Room, nora: Nora, authority: Authority, big: Image) -> None:
    """skopeo verifies the certificate by its own directory, and copies byte for byte, cold and from the store."""
    trusted = room.place("certs")
    trusted.mkdir()
    (trusted / "ca.crt").write_bytes(authority.pem)
    client = Skopeo(room.place("skopeo"), trusted)
    source = f"docker://127.0.0.1:{nora.port}/library/big:1"
    for _ in range(2):
        target = room.place("copied")
        client.copy(source, target)
        assert digests_in(target) == {blob.digest for blob in (big.manifest, *big.blobs)}
    strangers = room.place("certs")
    strangers.mkdir()
    (strangers / "ca.crt").write_bytes(Authority("another").pem)
    with pytest.raises(AssertionError, match="certificate signed by unknown authority"):
        Skopeo(room.place("skopeo"), strangers).copy(source, room.place("copied"))


@pytest.mark.needs("docker-registry")
def test_large_blob(nora: Nora, big: Image) -> None:
    """64 MiB and a range of them over TLS, cold and warm; a reader that stalls is waited for and costs no memory."""
    layer = big.layers[0]
    path = f"/v2/library/big/blobs/{layer.digest}"
    assert nora.get("/v2/library/big/manifests/1").status == 200
    before = nora.resident()
    for _ in range(2):
        assert hashlib.sha256(nora.get(path).body).hexdigest() == layer.digest.partition(":")[2]
    part = nora.get(path, {"Range": f"bytes={MEBIBYTE + 1}-{_SIZE - 2}"})
    assert (part.status, part.body) == (206, layer.data[MEBIBYTE + 1 : _SIZE - 1])

    downloads = [nora.download(path) for _ in range(8)]
    first = [each.read(1000) for each in downloads]
    # While another client is sent all of it, nothing keeps the server from reading ahead for these.
    assert nora.get(path).body == layer.data
    assert nora.resident() - before < 32 * MEBIBYTE
    for head, each in zip(first, downloads, strict=True):
        assert head + each.rest() == layer.data
        each.close()


@pytest.mark.needs("docker-registry")
def test_renewal(room: Room, nora: Nora, big: Image) -> None:
    """SIGHUP exchanges the certificate while a pull runs on; with a pair that is none, the old one stays."""
    download = nora.download(f"/v2/library/big/blobs/{big.layers[0].digest}")
    head = download.read(1000)

    other = Authority("another")
    renew(room, other.pair(days=3))
    nora.signal(signal.SIGHUP)
    nora.process.wait_until(lambda: "the configuration was read again" in nora.log, "the reload")
    nora.trust = ssl.create_default_context(cadata=other.pem.decode())
    (warning,) = [line for line in _health(nora) if "certificate" in line]
    assert "the certificate of this server ends at" in warning

    renew(room, (Authority().pair()[0], b"no key"))
    nora.signal(signal.SIGHUP)
    told = nora.process.wait_until(
        lambda: [line for line in nora.log.splitlines() if "is refused" in line], "the refusal"
    )
    assert f"server.tls_key: {room.directory / 'tls.key'}: holds no private key" in told[0]
    assert nora.get("/ready").status == 200

    assert head + download.rest() == big.layers[0].data
    download.close()


@pytest.mark.needs("docker-registry")
def test_clear_text(nora: Nora) -> None:
    """Who comes with HTTP is told; the address and what is asked for are in no log of pulls."""
    with _connect(nora) as client:
        client.sendall(b"GET /v2/library/big/manifests/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        said = client.makefile("rb").read()
    assert said.startswith(b"HTTP/1.0 400 ")
    assert said.endswith(b"This port speaks HTTPS, not HTTP.\n")
    assert nora.get("/v2/library/big/manifests/1").status == 200
    assert len(nora.wait_for_audit(1)) == 1


@pytest.mark.needs("docker-registry")
def test_image_health(room: Room, registry: Registry, nora: Nora) -> None:
    """The check in the Dockerfile finds the server well with TLS and without, and not when it is gone."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    found = re.search(r"^HEALTHCHECK .* CMD (\[.*\])$", text, re.MULTILINE)
    assert found is not None
    code = json.loads(found[1])[2]
    plain = room.nora(room.relay(registry))
    for each in (nora, plain):
        check = [sys.executable, "-c", code]
        run(check, environment(room.directory, NORA_PORT=str(each.port)))
        each.stop()
        with pytest.raises(AssertionError, match="exit 1"):
            run(check, environment(room.directory, NORA_PORT=str(each.port)))


def test_no_pair(room: Room, authority: Authority) -> None:
    """A key of another certificate ends the start with status 78 and one line."""
    renew(room, (authority.pair()[0], authority.pair()[1]))
    nora = room.unstarted_nora()
    names = {"tls_certificate": str(room.directory / "tls.pem"), "tls_key": str(room.directory / "tls.key")}
    nora.configure([], {"server": names})
    process = nora.launch()
    assert process.wait() == 78
    (line,) = process.text.strip().splitlines()
    assert line.startswith(f"nora: server.tls_key: {room.directory / 'tls.key'}: is not the key of the first")


@pytest.mark.needs("docker-registry")
def test_stop(nora: Nora) -> None:
    """A stop closes idle connections of clients that never say goodbye, and ends with status 0 at once."""
    assert nora.trust is not None
    with nora.trust.wrap_socket(_connect(nora), server_hostname="127.0.0.1") as client:
        client.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        nora.signal(signal.SIGTERM)
        assert wait_for(lambda: nora.process.status is not None, "the end", 15)
    assert nora.process.status == 0


def _connect(nora: Nora) -> socket.socket:
    return socket.create_connection(("127.0.0.1", nora.port), timeout=20)


def _health(nora: Nora) -> list[str]:
    warnings: list[str] = json.loads(nora.get("/health").body)["warnings"]
    return warnings
