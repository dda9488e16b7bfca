"""Rows about what is cached: blobs, manifests, memory, and small requests beside large ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from tests.bench.load import Taken, rate, take
from tests.bench.room import GIBIBYTE, MEBIBYTE, NAME, Room
from tests.bench.servers import DebianRegistry, Nginx, NoraServer, Server, cpu_seconds, resident
from tests.bench.tables import Row

MANY = 100
"""So many clients show what memory a server takes."""


class Cached:
    """Servers that have the same content: nginx as files, the others pulled through it from another nginx."""

    def __init__(self, room: Room, workers: Sequence[int] = (1, 2)) -> None:
        self.large = room.noise("large", GIBIBYTE)
        self.small = [room.noise(f"small-{n}", 100_000) for n in range(50)]
        self.manifest = room.manifest("image", [*self.small[:8]])
        self.room = room
        manifests = [("latest", self.manifest)]
        self._upstream = Nginx(room, "upstream")
        nginx = Nginx(room)
        for one in (self._upstream, nginx):
            config = room.noise("image-config", 1000)
            one.offer([self.large, config, *self.small], manifests)
        self.nginx = nginx
        self.noras = [NoraServer(room, self._upstream, count) for count in workers]
        self.registry = DebianRegistry(room, self._upstream)
        self.all: list[Server] = [*self.noras, self.registry, nginx]

    def start(self) -> None:
        """Start all of them and fill their caches."""
        self._upstream.start()
        for server in self.all:
            server.start()
            for path in [self.by_tag, self.by_digest, self.large.url, *(one.url for one in self.small)]:
                _take(server, path)

    def stop(self) -> None:
        """End them."""
        for server in [*self.all, self._upstream]:
            server.stop()

    @property
    def by_tag(self) -> str:
        """The path of the manifest by its tag."""
        return f"/v2/{NAME}/manifests/latest"

    @property
    def by_digest(self) -> str:
        """The path of the manifest by its digest."""
        return f"/v2/{NAME}/manifests/{self.manifest.digest}"


def large(cached: Cached, clients: int, rounds: int, size: int = GIBIBYTE) -> Iterator[Row]:
    """Let some clients at once take a cached blob of 1 GiB, or its first `size` bytes; looks at memory as well."""
    title = f"cached 1 GiB blob, {clients} at once"
    if size < GIBIBYTE:
        title += f", {size // MEBIBYTE} MiB each"
    speed, cost = Row(title, "GB/s in all", "more"), Row(title, "CPU-s a GiB", "less")
    both = Row(title, "CPU-s a GiB, with those of the clients", "less")
    idle, busy = (Row(f"{title}, largest process {when}", "MiB", "less") for when in ("before", "meanwhile"))
    after = Row(f"{title}, largest process afterwards", "MiB", "less")
    for _ in range(rounds):
        for server in cached.all:
            seen = [_largest(server)]
            idle.add(server.name, seen[0])
            before, own = cpu_seconds(server), time.process_time()
            taken = _take(server, cached.large.url, clients, partial(_look, server, seen), size)
            speed.add(server.name, taken.bytes / taken.seconds / 1e9)
            spent, own = cpu_seconds(server) - before, time.process_time() - own
            cost.add(server.name, spent / (taken.bytes / GIBIBYTE))
            both.add(server.name, (spent + own) / (taken.bytes / GIBIBYTE))
            busy.add(server.name, max(seen))
            after.add(server.name, _largest(server))
    yield speed
    yield cost
    yield both
    if clients >= MANY:
        yield idle
        yield busy
        yield after


def small(cached: Cached, rounds: int, seconds: float) -> Iterator[Row]:
    """Ask for blobs of 100 kB, on 16 connections."""
    row = Row("cached 100 kB blobs, 16 connections", "a second", "more")
    paths = [one.url for one in cached.small]
    for _ in range(rounds):
        for server in cached.all:
            row.add(server.name, rate(cached.room, server.port, paths, 16, seconds).per_second)
    yield row


def manifests(cached: Cached, connections: int, rounds: int, seconds: float) -> Iterator[Row]:
    """Ask for a cached manifest, by digest and by tag."""
    for how, path in (("digest", cached.by_digest), ("tag", cached.by_tag)):
        title = f"a manifest by {how}, {connections} connections"
        speed, p50, p99 = (
            Row(title, "a second", "more"),
            Row(title, "p50 ms", "less"),
            Row(title, "p99 ms", "less"),
        )
        cost = Row(title, "microseconds of processor each", "less")
        load = Row(title, "the same, of the load", "less")
        for _ in range(rounds):
            for server in cached.all:
                before = cpu_seconds(server)
                found = rate(cached.room, server.port, [path], connections, seconds)
                spent = cpu_seconds(server) - before
                cost.add(server.name, spent / (found.per_second * seconds) * 1e6)
                load.add(server.name, found.own)
                if found.errors:
                    speed.note = f"{server.name}: {found.errors}"
                speed.add(server.name, found.per_second)
                p50.add(server.name, found.p50)
                p99.add(server.name, found.p99)
        yield speed
        yield p50
        yield p99
        yield cost
        yield load


def beside_streams(cached: Cached, rounds: int, seconds: float) -> Iterator[Row]:
    """Ask for a manifest on four connections while eight clients take 1 GiB blobs again and again."""
    row = Row("a manifest by digest while eight 1 GiB blobs stream, 4 connections", "p99 ms", "less")
    for _ in range(rounds):
        for server in cached.all:
            over = threading.Event()

            def stream(server: Server = server, over: threading.Event = over) -> None:
                while not over.is_set():
                    _take(server, cached.large.url, 8)

            streams = threading.Thread(target=stream)
            streams.start()
            try:
                row.add(server.name, rate(cached.room, server.port, [cached.by_digest], 4, seconds).p99)
            finally:
                over.set()
                streams.join()
    yield row


def _largest(server: Server) -> float:
    return max(resident(server)) / MEBIBYTE


def _look(server: Server, seen: list[float]) -> None:
    seen.append(_largest(server))


def _take(
    server: Server,
    path: str,
    clients: int = 1,
    during: Callable[[], None] = lambda: None,
    size: int | None = None,
) -> Taken:
    taken = take(server.port, path, clients, during, size)
    if taken.failed:
        raise AssertionError(f"{server.name}: {taken.failed} of {clients} clients did not get all of {path}")
    return taken
