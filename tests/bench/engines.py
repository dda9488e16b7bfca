"""A row about a Docker engine whose mirror each server is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from tests.bench.cold import GIGABIT
from tests.bench.room import MEBIBYTE, Room
from tests.bench.servers import DebianRegistry, Nginx, NoraServer, Server
from tests.bench.tables import Row
from tests.support.engines import Docker
from tests.support.images import image, layer_of_noise


def docker(room: Room, rounds: int) -> Iterator[Row]:
    """Pull an image of ten layers of 4 MiB, cold and then warm; each time into an empty engine. Needs root."""
    if os.geteuid() != 0:
        return
    made = image([layer_of_noise(4 * MEBIBYTE, seed) for seed in range(10)], "oci")
    upstream = Nginx(room, "upstream", GIGABIT)
    upstream.offer([room.keep(blob.data) for blob in made.blobs], [("latest", room.keep(made.manifest.data))])
    upstream.start()
    rows = {how: Row(f"docker pull of ten layers of 4 MiB, {how}", "s", "less") for how in ("cold", "warm")}
    servers: list[Server] = [NoraServer(room, upstream), DebianRegistry(room, upstream)]
    for turn in range(rounds):
        for server in servers:
            server.start()
            for how, row in rows.items():
                engine = Docker(
                    room.path(f"docker-{server.port}-{turn}-{how}"), f"http://127.0.0.1:{server.port}"
                )
                engine.start()
                try:
                    began = time.perf_counter()
                    engine.pull("bench:latest")
                    row.add(server.name, time.perf_counter() - began)
                finally:
                    engine.stop()
            server.stop()
    upstream.stop()
    yield from rows.values()
