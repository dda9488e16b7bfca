"""What was counted is there after a stop; and without `ui.enabled` nothing of the pages is."""

from __future__ import annotations

import json

import pytest

from tests.support.daemon import Nora
from tests.support.images import image, layer_of_noise
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


def test_no_pages(room: Room) -> None:
    """`ui.enabled = false` takes pages and API away, and `/` tells what there is."""
    nora = room.start(Nora(room.place("nora"), [], {"ui": {"enabled": False}}))
    assert json.loads(nora.get("/").body)["name"] == "nora"
    assert nora.get("/").status == 200
    for path in ("/ui/", "/ui/static/nora.css", "/api/v1/dashboard"):
        assert nora.get(path).status == 404
