"""Two servers that are each other's upstream."""

from __future__ import annotations

import time

from tests.support.room import Room

_DIGEST = "sha256:" + "0" * 64


def test_two_servers_do_not_ask_each_other_for_ever(room: Room) -> None:
    """Each finds its own name in what comes back to it, and the client hears so at once."""
    one, two = room.unstarted_nora(), room.unstarted_nora()
    one.configure([{"url": two.url, "namespace": "docker.io"}])
    two.configure([{"url": one.url, "namespace": "docker.io"}])
    for nora in (one, two):
        room.start(nora)
    for path in ("manifests/1", f"manifests/{_DIGEST}", f"blobs/{_DIGEST}"):
        began = time.monotonic()
        reply = one.get(f"/v2/library/thing/{path}")
        assert reply.status == 502, reply.body
        assert time.monotonic() - began < 10
