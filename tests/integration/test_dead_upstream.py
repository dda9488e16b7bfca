"""What a dead upstream costs those who pull, and what the operator sees of it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.daemon import Nora
from tests.support.images import MEBIBYTE, Image, image_of_blobs, noise
from tests.support.programs import wait_for
from tests.support.registry import Registry
from tests.support.room import Room

pytestmark = pytest.mark.needs("docker-registry")

_IMAGES = 7


@pytest.fixture(scope="module")
def images() -> list[Image]:
    """Make the images that the live upstream has as `library/n0:1` and so on."""
    return [image_of_blobs([noise(5000 + number, number)]) for number in range(_IMAGES)]


@pytest.fixture(scope="module")
def registry(house: Room, images: list[Image]) -> Registry:
    """Start the live upstream."""
    registry = house.registry()
    for number, image in enumerate(images):
        registry.push(f"library/n{number}", "1", image)
    registry.push("library/big", "1", image_of_blobs([noise(4 * MEBIBYTE, 99)]))
    return registry


@pytest.fixture
def silent() -> Iterator[str]:
    """Listen, and never answer; gives the URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def health(nora: Nora) -> dict[str, Any]:
    """Read `/health`."""
    told: dict[str, Any] = json.loads(nora.get("/health").body)
    return told


def pull(nora: Nora, repository: str, image: Image) -> float:
    """Pull an image, and tell the seconds."""
    since = time.monotonic()
    assert nora.get(f"/v2/{repository}/manifests/1").body == image.manifest.data
    for blob in image.blobs:
        assert nora.get(f"/v2/{repository}/blobs/{blob.digest}").body == blob.data
    return time.monotonic() - since


def before(room: Room, nora: Nora, *urls: str, **docker: object) -> Nora:
    """Let NORA be before the upstreams at `urls`, and start it."""
    nora.configure([{"url": url, "namespace": "docker.io"} for url in urls], {"docker": docker})
    return room.start(nora)


def test_fourth_pull(room: Room, registry: Registry, images: list[Image], silent: str) -> None:
    """Before a silent first upstream the first pull waits, the fourth costs what it costs without it; all is told."""
    relay = room.relay(registry)
    nora = before(room, room.unstarted_nora(), silent, relay.url, proxy_timeout=1, metadata_ttl=0)
    spent = [pull(nora, f"library/n{number}", image) for number, image in enumerate(images)]
    assert spent[0] >= 3  # its manifest and both of its blobs
    live = room.nora(relay)
    direct = [pull(live, f"library/n{number}", image) for number, image in enumerate(images)]
    assert min(spent[3:]) < min(direct) + 0.05, (spent, direct)

    dead = silent.removeprefix("http://")
    told = {upstream["name"]: upstream for upstream in health(nora)["upstreams"]}
    circuit = told[dead]["circuit"]
    assert circuit["state"] in ("open", "half-open")
    assert circuit["since"].endswith("Z")
    assert "no answer within" in told[dead]["last_error"]
    alive = told[relay.url.removeprefix("http://")]
    assert alive["circuit"] == {"state": "closed", "since": None, "next_probe": None}
    assert alive["last_success"] is not None
    (warning,) = (text for text in health(nora)["warnings"] if dead in text)
    assert warning.startswith(f"upstream {dead} is passed over since 2")
    assert health(nora)["status"] == "ok"
    assert nora.metric("nora_upstream_circuit_open", upstream=dead) == 1
    assert nora.metric("nora_upstream_circuit_open") == 1
    assert nora.metric("nora_provisional_total") >= _IMAGES
    assert nora.metric("nora_upstream_requests_total", upstream=dead, outcome="unavailable") >= 3
    assert nora.metric("nora_upstream_seconds_count", upstream=dead, kind="manifest") >= 1


def test_stale_at_once(room: Room, registry: Registry, images: list[Image]) -> None:
    """With its only upstream dead a cached tag is stale without waiting, and confirmed again when it is back."""
    relay = room.relay(registry)
    nora = room.nora(relay, metadata_ttl=0)
    pull(nora, "library/n0", images[0])
    relay.refuse()
    for number in range(1, 4):
        reply = nora.get(f"/v2/library/n{number}/manifests/1")
        assert reply.status == 502
    errors = nora.metric("nora_upstream_requests_total", outcome="unavailable")
    for _ in range(20):
        reply = nora.get("/v2/library/n0/manifests/1")
        assert (reply.status, "stale" in reply.headers["Cache-Status"]) == (200, True)
    assert nora.metric("nora_upstream_requests_total", outcome="unavailable") == errors
    assert nora.metric("nora_stale_total") == 20
    reply = nora.get("/v2/library/n4/manifests/1")
    assert (reply.status, json.loads(reply.body)["errors"][0]["detail"][0]["reason"]) == (
        502,
        "connection refused",
    )
    relay.accept()

    def confirmed() -> bool:
        return "stale" not in nora.get("/v2/library/n0/manifests/1").headers["Cache-Status"]

    wait_for(confirmed, "a confirmed tag", 70)
    assert not any("upstream" in text for text in health(nora)["warnings"])
    assert nora.metric("nora_upstream_circuit_open") == 0


def test_absences_and_resumptions(room: Room, registry: Registry) -> None:
    """A missing image costs one question; a cut transfer is counted at the upstream that went on."""
    relay = room.relay(registry)
    nora = room.nora(relay, negative_ttl=600)
    for _ in range(5):
        assert nora.get("/v2/library/none/manifests/1").status == 404
    assert relay.count(containing="library/none/manifests/1") == 1
    assert nora.metric("nora_negative_hits_total") == 4
    big = image_of_blobs([noise(4 * MEBIBYTE, 99)])
    relay.cut_after = 2 * MEBIBYTE + 5
    pull(nora, "library/big", big)
    name = relay.url.removeprefix("http://")
    assert nora.metric("nora_fill_resumes_total", upstream=name) >= 1
    assert nora.metric("nora_received_bytes_total", upstream=name) >= 4 * MEBIBYTE
