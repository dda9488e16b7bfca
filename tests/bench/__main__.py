"""`python -m tests.bench [group ...]`: measure, print, and with `--write` put the tables into docs/benchmarks.md."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from tests.bench import cached, cold, deaths, encrypted, engines, large, pages, pushed
from tests.bench.room import GIBIBYTE, MEBIBYTE, Room
from tests.bench.tables import Row, table
from tests.support.programs import find

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
_CONGESTION = Path("/proc/sys/net/ipv4/tcp_congestion_control")
_MARK = "<!-- measured -->"
_SERVERS = ["NORA", "NORA, 2 workers", "docker-registry", "nginx", "direct"]


def _cached(room: Room, quick: bool) -> Iterator[Row]:
    servers = cached.Cached(room)
    servers.start()
    try:
        yield from cached.large(servers, 1, 3 if quick else 25)
        yield from cached.large(servers, 16, 1 if quick else 3)
        if not quick:
            yield from cached.large(servers, 100, 1)
            yield from cached.large(servers, 256, 1, 256 * MEBIBYTE)
        rounds, seconds = (1, 2.0) if quick else (3, 3.0)
        yield from cached.small(servers, rounds, seconds)
        for connections in (16, 256):
            yield from cached.manifests(servers, connections, rounds, seconds)
        yield from cached.beside_streams(servers, rounds, 4)
        yield from deaths.killed(servers, 6 if quick else 15)
    finally:
        servers.stop()


def _cold(room: Room, quick: bool) -> Iterator[Row]:
    rounds = 1 if quick else 5
    few = 1 if quick else 3
    yield from cold.large(room, "at 1 Gbit/s", cold.GIGABIT, few)
    yield from cold.large(room, "unlimited", 0, rounds)
    yield from cold.slow(room, few)
    for clients in (10, 100):
        yield from cold.herd(room, clients, (1, 2), few)
    yield from cold.image(room, few)
    yield from engines.docker(room, few)


def _push(room: Room, quick: bool) -> Iterator[Row]:
    yield from pushed.large(room, GIBIBYTE, 1 if quick else 3)
    yield from pushed.large(room, 2 * GIBIBYTE, 1 if quick else 3)


def _tls(room: Room, quick: bool) -> Iterator[Row]:
    yield from encrypted.large(room, 1 if quick else 5)


def _large(room: Room, quick: bool) -> Iterator[Row]:
    servers = large.Large(room, 10_000 if quick else 100_000)
    yield from large.reindex(servers)
    yield from large.starts(servers, 3 if quick else 5)
    yield from large.manifests(servers, 1 if quick else 3, 3 if quick else 5)
    yield from large.lists(servers, 1 if quick else 3)
    servers.nora.stop()


def _contents(room: Room, quick: bool) -> Iterator[Row]:
    server = pages.Pages(room, 10_000 if quick else 100_000)
    server.start()
    yield from server.rows(5 if quick else 20)
    server.nora.stop()


_GROUPS: dict[str, Callable[[Room, bool], Iterator[Row]]] = {
    "cached": _cached,
    "cold": _cold,
    "push": _push,
    "tls": _tls,
    "large": _large,
    "contents": _contents,
}


def main() -> int:
    """Run; gives the exit status."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("groups", nargs="*", choices=[*_GROUPS, []], help="what to measure; all without")
    parser.add_argument("--quick", action="store_true", help="few rounds: numbers for a first look only")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    parser.add_argument(
        "--directory", help="where the data goes: a disk with 30 GB free; default the system's"
    )
    parser.add_argument(
        "--store",
        type=large.directory,
        help="where the large store goes, and stays for the next run (6 GB, 1.2 million files); "
        "default the run's directory",
    )
    arguments = parser.parse_args()
    parts = [_about(arguments.quick)]
    directory = Path(tempfile.mkdtemp(prefix="nora-bench-", dir=arguments.directory))
    room = Room(directory, arguments.store)
    try:
        with room.ends:
            for group in arguments.groups or _GROUPS:
                rows = []
                for row in _GROUPS[group](room, arguments.quick):
                    rows.append(row)
                    _say(f"{time.strftime('%H:%M:%S')}\n{table([row], _measured([row]))}")
                parts.append(f"### {group.capitalize()}\n\n{table(rows, _measured(rows))}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    text = "\n\n".join(parts)
    _say(text)
    if arguments.write:
        head = _PAGE.read_text().partition(_MARK)[0]
        _PAGE.write_text(f"{head}{_MARK}\n\n{text}\n")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _measured(rows: list[Row]) -> list[str]:
    return [server for server in _SERVERS if any(server in row.values for row in rows)]


def _about(quick: bool) -> str:
    """Tell the machine, the versions and the day."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIBIBYTE
    versions = [
        f"Python {platform.python_version()}",
        f"Twisted {_installed('twisted')}",
        _said("nginx", "-v"),
        _said("docker-registry", "--version"),
        _said("wrk", "-v"),
    ]
    return (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux {platform.release()}, "
        f"TCP congestion control: {_CONGESTION.read_text().strip()}. "
        f"{'; '.join(one for one in versions if one)}."
        + (" Few rounds: for a first look only." if quick else "")
    )


def _installed(package: str) -> str:
    return version(package)


def _said(program: str, option: str) -> str:
    done = subprocess.run([find(program), option], capture_output=True, text=True, check=False, timeout=20)
    return (done.stdout + done.stderr).strip().splitlines()[0].split(" Copyright")[0]


if __name__ == "__main__":
    sys.exit(main())
