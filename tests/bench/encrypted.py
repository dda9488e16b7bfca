"""Rows about TLS: a cached blob taken by curl, which costs every server's client the same."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.bench.room import GIBIBYTE, Room
from tests.bench.servers import DebianRegistry, Nginx, NoraServer, Server, cpu_seconds
from tests.bench.tables import Row
from tests.support.authority import Authority
from tests.support.programs import environment, find, run


def large(room: Room, rounds: int) -> Iterator[Row]:
    """Take a cached blob of 1 GiB over TLS."""
    blob = room.noise("large", GIBIBYTE)
    pair = room.path("server.pem"), room.path("server.key")
    for path, data in zip(pair, Authority().pair(), strict=True):
        path.write_bytes(data)
    plain = Nginx(room, "upstream")
    plain.offer([blob])
    plain.start()
    nginx = Nginx(room, pair=pair)
    nginx.offer([blob])
    servers: list[Server] = [NoraServer(room, plain, pair=pair), DebianRegistry(room, plain, pair), nginx]
    speed, cost = (
        Row("cached 1 GiB blob over TLS", "GB/s", "more"),
        Row("cached 1 GiB blob over TLS", "CPU-s a GiB", "less"),
    )
    for server in servers:
        server.start()
        _take(room, server, blob.url)
    for _ in range(rounds):
        for server in servers:
            before, began = cpu_seconds(server), time.perf_counter()
            _take(room, server, blob.url)
            speed.add(server.name, blob.size / (time.perf_counter() - began) / 1e9)
            cost.add(server.name, cpu_seconds(server) - before)
    for server in [*servers, plain]:
        server.stop()
    yield speed
    yield cost


def _take(room: Room, server: Server, path: str) -> None:
    command = [find("curl"), "--silent", "--show-error", "--fail", "--insecure", "--output", "/dev/null"]
    run([*command, f"https://127.0.0.1:{server.port}{path}"], environment(room.directory), timeout=300)
