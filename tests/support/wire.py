"""A client that sends exactly the bytes it is told to: what no HTTP library would."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs


@attrs.frozen
class Said:
    """One answer, read whole."""

    status: int
    headers: dict[str, str]
    """By lower-case names."""
    body: bytes

    @property
    def codes(self) -> list[str]:
        """The codes of an error's body, which must have the form of the specification ("Error Codes")."""
        assert self.headers.get("content-type") == "application/json", self
        errors: list[dict[str, Any]] = json.loads(self.body)["errors"]
        assert all(set(error) <= {"code", "message", "detail"} and error["message"] for error in errors)
        return [error["code"] for error in errors]


class Wire:
    """One connection to 127.0.0.1:`port`."""

    def __init__(self, port: int, timeout: float = 20.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._buffer = b""

    def send(self, data: bytes) -> bool:
        """Send `data`; False when the server ended the connection before it took all of it."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def request(self, method: str, path: str, headers: Sequence[str] = (), body: bytes = b"") -> bool:
        """Send a request whose headers say nothing of a body but what `headers` do."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
        return self.send("\r\n".join(lines).encode("latin-1") + body)

    def answer(self, method: str = "GET") -> Said | None:
        """Read the next answer; None when the connection ended before its first byte."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                assert not self._buffer, f"the end, after {self._buffer!r}"
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = 0 if method == "HEAD" else int(headers.get("content-length", "0"))
        while len(self._buffer) < length:
            assert self._more(), f"the end within the body of {head!r}"
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Said(int(first.split()[1]), headers, body)

    def said(self, method: str = "GET") -> Said:
        """Read the next answer, which must come."""
        answer = self.answer(method)
        assert answer is not None, "the connection ended without an answer"
        return answer

    def ended(self, within: float = 10.0) -> bool:
        """Tell whether the server ends the connection in that time, and says nothing before."""
        assert not self._buffer, f"there is more: {self._buffer[:500]!r}"
        deadline = time.monotonic() + within
        self._socket.settimeout(within)
        try:
            return not self._more() and not self._buffer and time.monotonic() < deadline
        except TimeoutError:
            return False

    def speaks(self, within: float) -> bool:
        """Tell whether the server says something in that time, or ends the connection."""
        self._socket.settimeout(within)
        try:
            self._more()
        except TimeoutError:
            return False
        finally:
            self._socket.settimeout(20.0)
        return True

    def close(self) -> None:
        """Leave."""
        self._socket.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _more(self) -> bool:
        try:
            data = self._socket.recv(65_536)
        except ConnectionResetError:
            return False
        self._buffer += data
        return bool(data)


def stored(store: Path) -> dict[str, list[str]]:
    """List what a store holds, by kind: what must be the same before and after a refusal."""
    return {
        kind: sorted(str(path.relative_to(store)) for path in _files(store / kind))
        for kind in ("blobs", "repositories", "names", "tmp", "uploads", "quarantine", "fills")
    }


def _files(folder: Path) -> list[Path]:
    found: list[Path] = []
    with contextlib.suppress(FileNotFoundError):
        found = list(folder.rglob("*"))
    return found
