"""The workers of a daemon: who they are, and connections to one of them in particular."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.daemon import Nora, Reply
from tests.support.programs import wait_for

_TRIES = 200


def workers(nora: Nora) -> list[int]:
    """Give the process ids of the workers that live now."""
    return children(nora.process.pid)


def children(pid: int) -> list[int]:
    """Give the process ids of the children of a process, zombies left out."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [int(child) for child in found if alive(int(child))]


def alive(pid: int) -> bool:
    """Tell whether a process runs."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def wait_for_workers(nora: Nora, count: int) -> list[int]:
    """Wait until so many workers have told that they serve, and give their process ids."""

    def all_there() -> list[int] | None:
        pids = workers(nora)
        return pids if len(pids) == count and nora.metric("nora_workers") == count else None

    return wait_for(all_there, f"{count} workers")


class Line:
    """A connection that is kept, and the worker at its other end."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.ask("/ready")

    def ask(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """Make one request. Raises `OSError` and `http.client.HTTPException` when the connection breaks."""
        response = self.begin(path, headers)
        return Reply(response.status, response.headers, response.read())

    def begin(self, path: str, headers: Mapping[str, str] | None = None) -> http.client.HTTPResponse:
        """Begin a GET; its body is the caller's to read."""
        self._connection.request("GET", path, headers=dict(headers or {}))
        return self._connection.getresponse()

    def close(self) -> None:
        """Leave."""
        self._connection.close()

    def worker(self, pids: list[int]) -> int | None:
        """Tell which of the processes has the other end; None when it is none of them."""
        local, remote = self._connection.sock.getsockname()[1], self._connection.sock.getpeername()[1]
        ends = (f":{remote:04X}", f":{local:04X}")
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if (fields[1][-5:], fields[2][-5:]) == ends:
                return next((pid for pid in pids if f"socket:[{fields[9]}]" in _descriptors(pid)), None)
        return None


@contextmanager
def line_to(nora: Nora, pid: int) -> Iterator[Line]:
    """Give a connection to the worker `pid`: the kernel chooses, so it may take a few."""
    for _ in range(_TRIES):
        line = Line(nora.port)
        try:
            if line.worker([pid]) == pid:
                yield line
                return
        finally:
            line.close()
    raise AssertionError(f"no connection of {_TRIES} came to worker {pid}")


def _descriptors(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(entry))
        except OSError:
            continue
    return found


def health(reply: Reply) -> dict[str, Any]:
    """Read what `/health` told."""
    told: dict[str, Any] = json.loads(reply.body)
    return told
