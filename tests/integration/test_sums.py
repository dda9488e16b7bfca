"""What was counted is there after a stop; and without `ui.enabled` nothing of the pages is."""

from __future__ import annotations

import json

import pytest

from tests.support.daemon import Nora
from tests.support.images import image, layer_of_noise
from tests.support.openapi import Description
from tests.support.programs import wait_for
from tests.support.room import Room

pytestmark = pytest.mark.needs("docker-registry")


def test_a_stop_loses_nothing(room: Room) -> None:
    """What was pulled right before a stop is in the sums of the next start, with its bytes."""
    registry = room.registry()
    made = image([layer_of_noise(100_000, 1)])
    registry.push("library/thing", "1", made)
    nora = room.nora(room.relay(registry))
    for _ in range(3):
        assert nora.get("/v2/library/thing/manifests/1").status == 200
    assert nora.stop() == 0
    nora.start()
    hour = json.loads(nora.get("/api/v1/dashboard").body)["periods"]["hour"]
    size = len(made.manifest.data)
    assert (hour["pulls"], hour["hits"], hour["requests"]) == (3, 2, 3)
    assert (hour["served_bytes"], hour["fetched_bytes"]) == (3 * size, size)


def test_workers_add_up(room: Room) -> None:
    """Each worker tells the sums of all, and that as the API's document says."""
    registry = room.registry()
    registry.push("library/thing", "1", image([layer_of_noise(100_000, 1)]))
    upstream = {"url": registry.url, "namespace": "docker.io"}
    nora = room.start(Nora(room.place("nora"), [upstream], {"server": {"workers": 2}}))
    for _ in range(16):  # each on a connection of its own, which either worker may take
        assert nora.get("/v2/library/thing/manifests/1").status == 200
    description = Description(json.loads(nora.get("/api/v1/openapi.json").body))

    def complete() -> bool:
        told = json.loads(nora.get("/api/v1/dashboard").body)
        description.check("/dashboard", 200, "application/json", told)
        return bool(told["periods"]["hour"]["pulls"] == 16)

    wait_for(complete, "the sum of both workers", 30)
    upstreams = json.loads(nora.get("/api/v1/upstreams").body)
    description.check("/upstreams", 200, "application/json", upstreams)


def test_no_pages(room: Room) -> None:
    """`ui.enabled = false` takes pages and API away, and `/` tells what there is."""
    nora = room.start(Nora(room.place("nora"), [], {"ui": {"enabled": False}}))
    assert json.loads(nora.get("/").body)["name"] == "nora"
    assert nora.get("/").status == 200
    for path in ("/ui/", "/ui/static/nora.css", "/api/v1/dashboard"):
        assert nora.get(path).status == 404
