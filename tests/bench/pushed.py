"""Rows about pushing."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.room import GIBIBYTE, MEBIBYTE, NAME, Room, Stored
from tests.bench.servers import DebianRegistry, NoraServer, Server, cpu_seconds, resident
from tests.bench.tables import Row


def large(room: Room, size: int, rounds: int) -> Iterator[Row]:
    """Push one blob: a session, one PATCH, one PUT."""
    blob = room.noise(f"pushed-{size}", size)
    title = f"push of {size // GIBIBYTE} GiB"
    speed, cost = Row(title, "MB/s", "more"), Row(title, "CPU-s a GiB", "less")
    peak = Row(title, "MiB resident at most", "less")
    servers: list[Server] = [NoraServer(room), DebianRegistry(room)]
    for _ in range(rounds):
        for server in servers:
            server.start()
            before = cpu_seconds(server)
            most: list[int] = []
            over = threading.Event()

            def watch(server: Server = server, most: list[int] = most, over: threading.Event = over) -> None:
                while not over.wait(0.1):
                    most.append(max(resident(server)))

            watching = threading.Thread(target=watch)
            watching.start()
            try:
                seconds = push(server.port, blob)
            finally:
                over.set()
                watching.join()
            speed.add(server.name, size / seconds / 1e6)
            cost.add(server.name, (cpu_seconds(server) - before) / (size / GIBIBYTE))
            peak.add(server.name, max(most, default=0) / MEBIBYTE)
            server.stop()
    yield speed
    yield cost
    yield peak


def push(port: int, blob: Stored) -> float:
    """Push a blob as docker does; tells the seconds."""
    name = NAME.replace("library", "team")
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        place = _asked(connection, "POST", f"/v2/{name}/blobs/uploads/", 202)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        with Path(blob.path).open("rb") as file:
            connection.putrequest("PATCH", place)
            for header, value in headers.items():
                connection.putheader(header, value)
            connection.endheaders()
            connection.sock.sendfile(file)
        place = _answered(connection, 202)
        joint = "&" if "?" in place else "?"
        _asked(connection, "PUT", f"{place}{joint}digest={blob.digest}", 201)
    finally:
        connection.close()
    return time.perf_counter() - began


def _asked(connection: http.client.HTTPConnection, method: str, path: str, status: int) -> str:
    connection.request(method, path, headers={"Content-Length": "0"})
    return _answered(connection, status)


def _answered(connection: http.client.HTTPConnection, status: int) -> str:
    response = connection.getresponse()
    said = response.read()
    if response.status != status:
        raise AssertionError(f"{response.status} instead of {status}: {said[:500]!r}")
    place = response.getheader("Location", "")
    # An absolute one names the server that is asked anyway.
    return place if place.startswith("/") else "/" + place.split("/", 3)[-1]
