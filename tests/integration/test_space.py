"""A store on a file system that is too small."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.images import MEBIBYTE, digest_of, image_of_blobs, noise
from tests.support.programs import environment, find, run, wait_for
from tests.support.room import Room, needs_root


def mount_small(room: Room) -> Path:
    """Mount a file system of 8 MiB."""
    point = room.place("small")
    point.mkdir()
    options = "size=8m,nr_inodes=4096,mode=0700"
    run([find("mount"), "-t", "tmpfs", "-o", options, "tmpfs", str(point)], environment(room.directory))
    return point


@pytest.mark.needs("docker-registry", "mount")
@needs_root
def test_blob_larger_than_the_disk(room: Room) -> None:
    """On a file system of 8 MiB three clients at once pull a 16 MiB blob whole; NORA stays well and tidy."""
    registry = room.registry()
    thing, small = image_of_blobs([noise(16 * MEBIBYTE, 1)]), image_of_blobs([noise(100_000, 2)])
    registry.push("library/thing", "1", thing)
    registry.push("library/small", "1", small)
    relay = room.relay(registry)
    nora = room.nora(relay, store=mount_small(room) / "store")
    blob = thing.layers[0]
    path = f"/v2/library/thing/blobs/{blob.digest}"
    # Slow enough that all three are there before the disk is full.
    relay.rate = 16 * MEBIBYTE
    with ThreadPoolExecutor(3) as threads:
        replies = list(threads.map(lambda _: nora.get(path), range(3)))
    assert [(reply.status, reply.short, digest_of(reply.body)) for reply in replies] == [
        (200, False, blob.digest)
    ] * 3
    assert relay.count("GET", blob.digest) <= 4
    assert not nora.blob_path(blob.digest).exists()
    wait_for(lambda: not nora.parts(), "an empty fills directory")

    relay.rate = None
    assert digest_of(nora.get(path).body) == blob.digest
    wait_for(lambda: not nora.parts(), "an empty fills directory")
    assert nora.get("/health").status == 200
    assert nora.get("/ready").status == 200
    fits = small.layers[0]
    assert nora.get(f"/v2/library/small/blobs/{fits.digest}").body == fits.data
    wait_for(nora.blob_path(fits.digest).exists, "a blob that fits in the store")
