"""Rows about a large store: what a start, an answer and a list cost when there are a million blobs and 100,000 tags."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench import stores
from tests.bench.load import rate
from tests.bench.room import MEBIBYTE, Room
from tests.bench.servers import DebianRegistry, cpu_seconds, resident
from tests.bench.tables import Row
from tests.support.daemon import ROOT, Nora
from tests.support.programs import environment, wait_for

_NEXT = re.compile(r'<([^>]+)>; rel="next"')
_SPREAD = 20_000
"""Manifests that are asked for: more than NORA keeps ready in memory."""
_READY = 2_000
_SEED = 1


class Large:
    """NORA and docker-registry, with the same names and tags; NORA with everything else too."""

    def __init__(self, room: Room, images: int) -> None:
        self.room = room
        self.images = images
        self.title = f"{images * 10:,} blobs and {images:,} tags"
        kept = room.store
        self.store = kept or room.path("large-store")
        marker = self.store.with_name(f"{self.store.name}.made")
        if not marker.exists() or int(marker.read_text()) != images:
            stores.make(self.store, stores.plan(images))
            marker.write_text(str(images))
        upstreams = [{"url": "http://127.0.0.1:9", "namespace": stores.UPSTREAM}]
        self.nora = Nora(
            room.path("nora-large"), upstreams, {"docker": {"metadata_ttl": "never"}}, self.store
        )
        room.ends.callback(self.nora.stop)
        self.registry = DebianRegistry(room)
        paths = [path for image in stores.images(images) for path in image.paths]
        random.Random(_SEED).shuffle(paths)
        self.paths = paths[:_SPREAD]

    def pid(self) -> int:
        """Tell NORA's process: this can be watched as a server."""
        return self.nora.process.pid

    @property
    def memory(self) -> float:
        """NORA's resident memory, in MiB."""
        return sum(resident(Watched(self.pid()))) / MEBIBYTE

    def start(self) -> float:
        """Start NORA; tells the seconds from the start of the program to the first manifest."""
        began = time.perf_counter()
        self.nora.launch()
        until_answered(self.nora, self.paths[0])
        return time.perf_counter() - began


class Watched:
    """What `resident` wants of a server."""

    name = "NORA"
    port = 0

    def __init__(self, leader: int) -> None:
        self._leader = leader

    def start(self) -> None:
        """Nothing: it runs."""

    def stop(self) -> None:
        """Nothing: others end it."""

    def pid(self) -> int:
        """Tell it."""
        return self._leader


def reindex(large: Large) -> Iterator[Row]:
    """Build the index from nothing, by the operator's command."""
    for path in large.store.glob("index.sqlite*"):
        path.unlink()
    wall = Row(f"nora reindex, {large.title}", "s", "less")
    most = Row(f"nora reindex, {large.title}", "MiB resident at most", "less")
    variables = environment(large.nora.directory, PYTHONPATH=str(ROOT))
    command = [sys.executable, "-m", "nora", "reindex", "--config", str(large.nora.configuration)]
    began = time.perf_counter()
    with subprocess.Popen(command, env=variables, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall.add("NORA", time.perf_counter() - began)
    most.add("NORA", used.ru_maxrss * 1024 / MEBIBYTE)
    if f" {large.images * 10} blobs" not in said:
        raise AssertionError(f"nora reindex ended with {process.returncode} and said: {said}")
    yield wall
    yield most


def starts(large: Large, rounds: int) -> Iterator[Row]:
    """Start and stop, on the large store and on an empty one; the last start stays."""
    first = Row(f"start to the first manifest, {large.title}", "s", "less")
    cost = Row(f"start to the first manifest, {large.title}", "CPU-s", "less")
    empty = Row("start to the first answer, an empty store", "s", "less")
    after = Row(f"memory after the start, {large.title}", "MiB", "less")
    end = Row(f"SIGTERM to the end, {large.title}", "s", "less")
    for _ in range(rounds):
        nora = Nora(large.room.path("nora-empty"), [])
        began = time.perf_counter()
        nora.launch()
        until_answered(nora, "/v2/")
        empty.add("NORA", time.perf_counter() - began)
        nora.stop()
        first.add("NORA", large.start())
        cost.add("NORA", cpu_seconds(Watched(large.pid())))
        time.sleep(1)  # for the chores of a start
        after.add("NORA", large.memory)
        began = time.perf_counter()
        large.nora.stop()
        end.add("NORA", time.perf_counter() - began)
    large.start()
    yield from (first, cost, empty, after, end)


def manifests(large: Large, rounds: int, seconds: float) -> Iterator[Row]:
    """Ask for many manifests, by tag and by digest in turn without order."""
    for count, connections in ((_READY, 16), (_SPREAD, 16), (_SPREAD, 1)):
        title = f"{count:,} manifests of {large.title}, {connections} connections"
        speed, p99 = Row(title, "a second", "more"), Row(title, "p99 ms", "less")
        for _ in range(rounds):
            found = rate(large.room, large.nora.port, large.paths[:count], connections, seconds)
            speed.note = found.errors
            speed.add("NORA", found.per_second)
            p99.add("NORA", found.p99)
        yield speed
        yield p99
    after = Row(f"memory after {_SPREAD:,} manifests", "MiB", "less")
    after.add("NORA", large.memory)
    yield after


def lists(large: Large, rounds: int) -> Iterator[Row]:
    """Read the tags of the largest repository, and all repositories: whole, following each `Link`, and in pages."""
    _offer(large)
    large.registry.resume()
    whole = f"/v2/{stores.LARGE.name}/tags/list"
    tags = large.images // 2
    names = 1 + tags // 10
    ports = {"NORA": large.nora.port, "docker-registry": large.registry.port}
    for title, path, expected in (
        (f"{tags:,} tags of one repository", whole, tags),
        (f"catalog of {names:,} repositories", "/v2/_catalog", names),
    ):
        first, row = Row(f"{title}, all, the first time", "s", "less"), Row(f"{title}, all", "s", "less")
        page = Row(f"{title}, pages of 100", "ms a page", "less")
        slowest = Row(f"{title}, pages of 100", "ms for the slowest page", "less")
        for server, port in ports.items():
            first.add(server, sum(_walk(port, path, expected)))
        for _ in range(rounds):
            for server, port in ports.items():
                row.add(server, sum(_walk(port, path, expected)))
                if server == "NORA" or path != whole:  # its tags come whole, whatever is asked for
                    pages = _walk(port, f"{path}?n=100", expected)
                    page.add(server, statistics.median(pages) * 1000)
                    slowest.add(server, max(pages) * 1000)
        yield from (first, row, page, slowest)
    yield _beside(large, whole, tags)
    large.registry.stop()
    after = Row("memory after all lists", "MiB", "less")
    after.add("NORA", large.memory)
    yield after


def _beside(large: Large, path: str, expected: int) -> Row:
    """Ask for manifests while somebody reads all tags again and again."""
    row = Row(f"a manifest while {expected:,} tags are listed, 4 connections", "p99 ms", "less")
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            _walk(large.nora.port, path, expected)

    reading = threading.Thread(target=read)
    reading.start()
    try:
        row.add("NORA", rate(large.room, large.nora.port, large.paths[:_READY], 4, 5).p99)
    finally:
        over.set()
        reading.join()
    return row


def _offer(large: Large) -> None:
    """Give docker-registry the same repositories and tags, as far as its lists look at them."""
    root = large.registry.store / "docker" / "registry" / "v2" / "repositories"
    link = large.room.path("link")
    link.write_text(f"sha256:{0:064x}")
    for image in stores.images(large.images):
        folder = root / image.repository.name
        tag = folder / "_manifests" / "tags" / image.tag / "current"
        os.makedirs(tag)
        os.makedirs(folder / "_layers", exist_ok=True)
        if image.repository == stores.LARGE:
            os.link(link, tag / "link")


def _walk(port: int, path: str, expected: int) -> list[float]:
    """Read a list to its end; tells the seconds that each page took."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    took, found = [], 0
    try:
        following: str | None = path
        while following is not None:
            began = time.perf_counter()
            connection.request("GET", following)
            response = connection.getresponse()
            body = response.read()
            took.append(time.perf_counter() - began)
            if response.status != 200:
                raise AssertionError(f"{response.status} for {following}: {body[:500]!r}")
            listed = json.loads(body)
            found += len(listed["tags"] if "tags" in listed else listed["repositories"])
            link = _NEXT.match(response.getheader("Link", ""))
            following = None if link is None else link[1]
    finally:
        connection.close()
    if found != expected:
        raise AssertionError(f"{path} has {found} names, not {expected}")
    return took


def until_answered(nora: Nora, path: str) -> None:
    """Wait until NORA answers `path` with 200."""

    def answered() -> bool:
        return _status(nora.port, path) == 200

    wait_for(answered, f"{path} of NORA", timeout=60, every=0.005)


def _status(port: int, path: str) -> int:
    """Ask once; 0 while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"Accept": "*/*"})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def directory(text: str) -> Path:
    """Read the option that names a store to make once and keep."""
    path = Path(text).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
