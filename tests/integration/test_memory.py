"""Memory during a large cold pull."""

from __future__ import annotations

import hashlib
import time

import pytest

from tests.support.images import MEBIBYTE, image_of_blobs, noise
from tests.support.room import Room

_SIZE = 400 * MEBIBYTE
_SLOWLY = 100 * MEBIBYTE
_RATE = 5_000_000
_BOUND = 90 * MEBIBYTE


@pytest.mark.needs("docker-registry")
def test_memory_of_a_large_cold_pull(room: Room) -> None:
    """400 MiB cold to a client that reads 5 MB/s: resident memory stays under 90 MiB all the time.

    The bound holds for the kernel's own high-water mark. The fill runs at the disk's speed and ends while the
    client is still in its first bytes: so it reads 100 MiB at 5 MB/s, with the whole fill and all of its surplus
    in that time, and the rest as fast as it comes, which keeps the test short.
    """
    registry = room.registry()
    big = image_of_blobs([noise(_SIZE, 1)])
    registry.push("library/big", "1", big)
    blob = big.layers[0]
    nora = room.nora(room.relay(registry))
    download = nora.download(f"/v2/library/big/blobs/{blob.digest}")
    hashed = hashlib.sha256()
    began = time.monotonic()
    done = 0
    filled_at = None
    while done < _SIZE:
        slow = done < _SLOWLY
        chunk = download.read(256 * 1024 if slow else 4 * MEBIBYTE)
        assert chunk, f"the body ended at {done}"
        hashed.update(chunk)
        done += len(chunk)
        if slow:
            assert nora.resident() < _BOUND, f"{nora.resident()} bytes resident after {done}"
            if filled_at is None and nora.blob_path(blob.digest).exists():
                filled_at = done
            # A slow reader is the subject: the next chunk is due when the rate says so.
            time.sleep(max(0.0, began + done / _RATE - time.monotonic()))
    download.close()
    assert "sha256:" + hashed.hexdigest() == blob.digest
    assert filled_at is not None, "the fill should have ended while the client read slowly"
    assert nora.peak() < _BOUND, f"{nora.peak()} bytes at the peak"
