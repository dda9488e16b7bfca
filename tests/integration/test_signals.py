"""Signals to the running daemon: none kills it, each does what it is for."""

from __future__ import annotations

import signal

import pytest

from tests.support.daemon import Nora
from tests.support.images import MEBIBYTE, Image, digest_of, image_of_blobs, noise
from tests.support.programs import wait_for
from tests.support.registry import Registry
from tests.support.relay import Relay
from tests.support.room import Room, tables

pytestmark = pytest.mark.needs("docker-registry")

_MANIFEST = "/v2/library/thing/manifests/1"


@pytest.fixture(scope="module")
def thing() -> Image:
    """Make the image that the upstream has."""
    return image_of_blobs([noise(8 * MEBIBYTE, 1)])


@pytest.fixture
def nora(room: Room, relay: Relay) -> Nora:
    """Start NORA with an empty store."""
    return room.nora(relay)


def asks_upstream(nora: Nora, relay: Relay) -> bool:
    """Tell whether a pull of the tag makes any request at the upstream."""
    relay.forget()
    assert nora.get(_MANIFEST).status == 200
    return bool(relay.seen)


def test_hangup_applies_the_new_configuration(
    room: Room, nora: Nora, relay: Relay, registry: Registry
) -> None:
    """SIGHUP takes over a changed `metadata_ttl` and changed upstreams, in the same process."""
    assert asks_upstream(nora, relay)
    assert not asks_upstream(nora, relay)
    nora.configure(tables(relay), {"docker": {"metadata_ttl": 0}})
    nora.signal(signal.SIGHUP)
    wait_for(lambda: asks_upstream(nora, relay), "the new metadata_ttl")

    other = room.relay(registry)
    nora.configure(tables(other), {"docker": {"metadata_ttl": 0}})
    nora.signal(signal.SIGHUP)
    wait_for(lambda: asks_upstream(nora, other), "the other upstream")
    assert not asks_upstream(nora, relay)
    assert nora.process.status is None


def test_hangup_goes_offline(nora: Nora, relay: Relay, thing: Image) -> None:
    """SIGHUP takes over `offline`: what is stored is served, what is not is 404 at once, and nobody is connected to."""
    assert asks_upstream(nora, relay)
    blob = f"/v2/library/thing/blobs/{thing.config.digest}"
    missing = f"/v2/library/thing/blobs/{thing.layers[0].digest}"
    wait_for(lambda: nora.get(blob).headers["Cache-Status"] == "nora; hit", "the stored blob")
    nora.configure(tables(relay), {"docker": {"metadata_ttl": 0, "offline": True}})
    nora.signal(signal.SIGHUP)
    wait_for(lambda: nora.get("/v2/library/other/manifests/1").body.count(b"offline"), "being offline")
    relay.forget()
    connections = relay.connections
    for method in ("GET", "HEAD"):
        for path in (_MANIFEST, blob):
            reply = nora.get(path, method=method)
            assert (reply.status, reply.headers["Cache-Status"]) == (200, "nora; hit")
        assert nora.get(missing, method=method).status == 404
        assert nora.get("/v2/library/thing/manifests/none", method=method).status == 404
    assert (relay.seen, relay.connections) == ([], connections)

    nora.configure(tables(relay), {"docker": {"metadata_ttl": 0}})
    nora.signal(signal.SIGHUP)
    wait_for(lambda: asks_upstream(nora, relay), "being online again")


def test_hangup_with_a_broken_file_keeps_the_old(nora: Nora, relay: Relay) -> None:
    """SIGHUP with a mistake in the file names the mistake in the log, and all stays as it was."""
    assert asks_upstream(nora, relay)
    nora.configure(tables(relay), {"docker": {"metadata_tll": 0}})
    nora.signal(signal.SIGHUP)
    nora.process.wait_until(lambda: "metadata_tll" in nora.log, "a word on the mistake")
    assert not asks_upstream(nora, relay)
    nora.configure(tables(relay), {"docker": {"metadata_ttl": 0}})
    nora.signal(signal.SIGHUP)
    wait_for(lambda: asks_upstream(nora, relay), "the corrected configuration")


def test_user_signal_reopens_the_audit_log(nora: Nora) -> None:
    """After logrotate moved the audit log, SIGUSR1 opens a new one; no line is lost."""
    assert nora.get(_MANIFEST).status == 200
    (before,) = nora.wait_for_audit(1)
    log = nora.store / "audit.jsonl"
    log.rename(nora.store / "audit.jsonl.1")
    nora.signal(signal.SIGUSR1)
    nora.process.wait_until(log.exists, "a new audit log")
    assert nora.get(_MANIFEST).status == 200
    (after,) = nora.wait_for_audit(1)
    assert after["id"] != before["id"]
    assert nora.process.status is None


def test_terminate_drains(nora: Nora, relay: Relay, thing: Image) -> None:
    """SIGTERM during a pull: nobody new is let in, the pull ends whole, and the exit status is 0."""
    blob = thing.layers[0]
    relay.hold(2 * MEBIBYTE)
    download = nora.download(f"/v2/library/thing/blobs/{blob.digest}")
    begun = download.read(MEBIBYTE)
    nora.signal(signal.SIGTERM)

    def refused() -> bool:
        try:
            return nora.get("/ready").status != 200
        except ConnectionError:
            return True

    wait_for(refused, "a closed door")
    assert nora.process.status is None
    relay.release()
    assert digest_of(begun + download.rest()) == blob.digest
    download.close()
    assert nora.process.wait(20) == 0


def test_terminate_does_not_wait_for_ever(room: Room, relay: Relay, thing: Image) -> None:
    """A pull that hangs is cut when `drain_timeout` is over; the fill's bytes stay for a resumption."""
    nora = room.unstarted_nora(relay)
    nora.configure(tables(relay), {"server": {"drain_timeout": 1}})
    room.start(nora)
    relay.hold(2 * MEBIBYTE)
    download = nora.download(f"/v2/library/thing/blobs/{thing.layers[0].digest}")
    assert len(download.read(MEBIBYTE)) == MEBIBYTE
    nora.signal(signal.SIGTERM)
    assert nora.process.wait(20) == 0
    download.close()
    assert [part.stat().st_size > 0 for part in nora.parts()] == [True]
