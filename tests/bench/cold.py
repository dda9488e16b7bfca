"""Rows about what is not cached yet: each round begins with empty servers."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence

from tests.bench.load import take
from tests.bench.room import GIBIBYTE, MEBIBYTE, NAME, Room, Stored
from tests.bench.servers import DebianRegistry, Nginx, NoraServer, Server, cpu_seconds
from tests.bench.tables import Row
from tests.support.engines import Skopeo

GIGABIT = 125_000_000
"""Bytes a second of a line of 1 Gbit/s."""


def large(room: Room, title: str, bytes_a_second: int, rounds: int) -> Iterator[Row]:
    """Take a blob of 1 GiB that nobody has, and the same straight from the upstream."""
    blob = room.noise("large", GIBIBYTE)
    wall = Row(f"cold 1 GiB blob, upstream {title}", "s", "less")
    first = Row(f"cold 1 GiB blob, upstream {title}", "ms to the first byte", "less")
    cost = Row(f"cold 1 GiB blob, upstream {title}", "CPU-s", "less")
    upstream = _upstream(room, [blob], bytes_a_second)
    servers: list[Server] = [NoraServer(room, upstream), DebianRegistry(room, upstream), upstream]
    for _ in range(rounds):
        for server in servers:
            if server is not upstream:
                server.start()
            before = cpu_seconds(server)
            taken = take(server.port, blob.url)
            _whole(server, taken.failed)
            cost.add("direct" if server is upstream else server.name, cpu_seconds(server) - before)
            wall.add("direct" if server is upstream else server.name, taken.seconds)
            first.add("direct" if server is upstream else server.name, taken.first_byte * 1000)
            if server is not upstream:
                server.stop()
    upstream.stop()
    yield wall
    yield first
    yield cost


def slow(room: Room, rounds: int) -> Iterator[Row]:
    """Take a blob of 1.2 MB, too large to be verified before it goes out, from an upstream of 250 kB/s."""
    blob = room.noise("slow", 1_200_000)
    row = Row("cold 1.2 MB blob, upstream at 250 kB/s", "ms to the first byte", "less")
    # nginx gives its first second's worth at once, so what is compared is how soon anything arrives.
    upstream = _upstream(room, [blob], 250_000)
    servers: list[Server] = [NoraServer(room, upstream), DebianRegistry(room, upstream), upstream]
    for _ in range(rounds):
        for server in servers:
            if server is not upstream:
                server.start()
            taken = take(server.port, blob.url)
            _whole(server, taken.failed)
            row.add("direct" if server is upstream else server.name, taken.first_byte * 1000)
            if server is not upstream:
                server.stop()
    upstream.stop()
    yield row


def herd(room: Room, clients: int, workers: Sequence[int], rounds: int) -> Iterator[Row]:
    """Let many clients at once take one blob of 256 MiB that nobody has, from an upstream of 1 Gbit/s."""
    blob = room.noise("herd", 256 * MEBIBYTE)
    title = f"herd of {clients} on one cold 256 MiB blob, upstream at 1 Gbit/s"
    wall, downloads = Row(title, "s", "less"), Row(title, "upstream downloads", "less")
    fetched = Row(title, "MiB from upstream", "less")
    upstream = _upstream(room, [blob], GIGABIT)
    servers: list[Server] = [
        *(NoraServer(room, upstream, n) for n in workers),
        DebianRegistry(room, upstream),
    ]
    for _ in range(rounds):
        for server in servers:
            server.start()
            upstream.asked()
            taken = take(server.port, blob.url, clients)
            _whole(server, taken.failed)
            server.stop()
            gets = [sent for method, path, sent in upstream.asked() if method == "GET" and path == blob.url]
            wall.add(server.name, taken.seconds)
            downloads.add(server.name, len(gets))
            fetched.add(server.name, sum(gets) / MEBIBYTE)
    upstream.stop()
    yield wall
    yield downloads
    yield fetched


def image(room: Room, rounds: int) -> Iterator[Row]:
    """Let skopeo copy an image of ten layers of 20 MiB, cold and then warm."""
    layers = [room.noise(f"layer-{n}", 20 * MEBIBYTE) for n in range(10)]
    manifest = room.manifest("ten", layers)
    config = room.noise("ten-config", 1000)
    upstream = Nginx(room, "upstream", GIGABIT)
    upstream.offer([*layers, config], [("latest", manifest)])
    upstream.start()
    skopeo = Skopeo(room.path("skopeo"))
    rows = {how: Row(f"skopeo copies ten layers of 20 MiB, {how}", "s", "less") for how in ("cold", "warm")}
    servers: list[Server] = [NoraServer(room, upstream), DebianRegistry(room, upstream)]
    for turn in range(rounds):
        for server in servers:
            server.start()
            for how, row in rows.items():
                target = room.path(f"copy-{server.port}-{turn}-{how}")
                began = time.perf_counter()
                skopeo.copy(f"docker://127.0.0.1:{server.port}/{NAME}:latest", target)
                row.add(server.name, time.perf_counter() - began)
                shutil.rmtree(target)
            server.stop()
    upstream.stop()
    yield from rows.values()


def _upstream(room: Room, blobs: list[Stored], bytes_a_second: int) -> Nginx:
    upstream = Nginx(room, "upstream", bytes_a_second)
    upstream.offer(blobs)
    upstream.start()
    for blob in blobs:  # so that it is in memory for the first server too
        blob.path.read_bytes()
    return upstream


def _whole(server: Server, failed: int) -> None:
    if failed:
        raise AssertionError(f"{server.name}: {failed} clients did not get the whole blob")
