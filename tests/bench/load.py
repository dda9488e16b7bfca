"""Load on a server: clients that cost as little as they can, because they share the machine with what they measure.

A blob's bytes are thrown away inside the kernel (`MSG_TRUNC`), so a client's cost is the loopback's. Requests a second
come from `wrk`.
"""

from __future__ import annotations

import os
import re
import selectors
import socket
import time
from collections.abc import Callable, Sequence

import attrs

from tests.bench.room import MANIFEST, Room
from tests.support.programs import environment, find, run

_WINDOW = 4 * 1024 * 1024
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *(\d+)")
_LATENCY = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s)\s*$", re.MULTILINE)
_RATE = re.compile(r"^Requests/sec:\s+([\d.]+)$", re.MULTILINE)
_FAILED = re.compile(r"(?:Non-2xx or 3xx responses|Socket errors): *(.*)$", re.MULTILINE)
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@attrs.frozen
class Taken:
    """What some clients took together."""

    seconds: float
    """From the first connection to the last byte of the last client."""
    bytes: int
    first_byte: float
    """Seconds until the body's first byte, of the client for which that took longest."""
    failed: int
    """Clients that did not get the whole body."""


@attrs.frozen
class Rate:
    """What `wrk` measured; latencies in milliseconds."""

    per_second: float
    p50: float
    p99: float
    errors: str
    own: float
    """Microseconds of processor that the load took for each request."""


class _Client:
    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.sendall(request)
        self.socket.setblocking(False)
        self.head = b""
        self.left = -1
        self.taken = 0
        self.first = 0.0

    def read(self, scratch: bytearray) -> bool:
        """Take what is there; False at the end, whole or not."""
        if self.left < 0:
            return self._read_head()
        try:
            count = self.socket.recv_into(scratch, min(self.left, _WINDOW) or 1, socket.MSG_TRUNC)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._took(count)
        return count > 0 and self.left > 0

    def _read_head(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except OSError:
            return False
        self.head += data
        head, found, body = self.head.partition(b"\r\n\r\n")
        if found:
            length = _LENGTH.search(head)
            good = head.split(b" ", 2)[1:2] in ([b"200"], [b"206"])
            self.left = int(length[1]) if length is not None and good else 0
            self._took(len(body))
            return self.left > 0
        return bool(data)

    def _took(self, count: int) -> None:
        if count and not self.first:
            self.first = time.perf_counter()
        self.taken += count
        self.left -= count


def take(
    port: int,
    path: str,
    clients: int = 1,
    during: Callable[[], None] = lambda: None,
    size: int | None = None,
) -> Taken:
    """Let `clients` at once take the body at `path`, whole or its first `size` bytes.

    `during` is called now and then, a few times a second.
    """
    head = [f"Host: 127.0.0.1:{port}", f"Accept: {MANIFEST}", "Connection: close"]
    if size is not None:
        head.append(f"Range: bytes=0-{size - 1}")
    request = "\r\n".join((f"GET {path} HTTP/1.1", *head, "", "")).encode()
    scratch = bytearray(_WINDOW)
    began = look = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        open_now = [_Client(port, request) for _ in range(clients)]
        for client in open_now:
            selector.register(client.socket, selectors.EVENT_READ, client)
        waiting = len(open_now)
        while waiting:
            for key, _ in selector.select(60):
                if not key.data.read(scratch):
                    selector.unregister(key.fileobj)
                    key.data.socket.close()
                    waiting -= 1
            if time.perf_counter() - look > 0.2:
                look = time.perf_counter()
                during()
    ended = time.perf_counter()
    failed = sum(1 for client in open_now if client.left != 0 or not client.taken)
    first = max((client.first or ended) - began for client in open_now)
    return Taken(ended - began, sum(client.taken for client in open_now), first, failed)


def rate(room: Room, port: int, paths: Sequence[str], connections: int, seconds: float) -> Rate:
    """Ask for `paths` in turn, on `connections` kept open, for `seconds`; one thread makes the load."""
    command = [
        find("wrk"),
        "-t1",
        f"-c{connections}",
        f"-d{seconds:g}s",
        "--latency",
        "-H",
        f"Accept: {MANIFEST}",
    ]
    if len(paths) > 1:
        # For a single path wrk makes its request once; for each one here, before it begins.
        script = room.path(f"wrk-{abs(hash(tuple(paths)))}.lua")
        listed = ",".join(f'"{path}"' for path in paths)
        script.write_text(
            f"local paths = {{{listed}}}\nlocal requests = {{}}\nlocal at = 0\n"
            "init = function() for n, path in ipairs(paths) do requests[n] = wrk.format('GET', path) end end\n"
            "request = function() at = at % #requests + 1 return requests[at] end\n"
        )
        command += ["-s", str(script)]
    before = os.times()
    url = f"http://127.0.0.1:{port}{paths[0]}"
    said = run([*command, url], environment(room.directory), timeout=seconds + 60)
    after = os.times()
    own = after.children_user + after.children_system - before.children_user - before.children_system
    latency = {p: float(value) * _MILLISECONDS[unit] for p, value, unit in _LATENCY.findall(said)}
    found = _RATE.search(said)
    if found is None:
        raise AssertionError(f"wrk said:\n{said}")
    errors = "; ".join(_FAILED.findall(said))
    each = own / (float(found[1]) * seconds) * 1e6
    return Rate(float(found[1]), latency.get("50", 0.0), latency.get("99", 0.0), errors, each)
