"""A counting reverse proxy between NORA and an upstream, in threads, that can also misbehave.

Each request has a connection of its own to the upstream. What went through is known request by request:
method, path, range, status and the bytes of the body that were passed on.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import attrs

_CHUNK = 64 * 1024
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "upgrade"})


@attrs.define
class Seen:
    """One request that came through. The last three change while it is answered."""

    method: str
    path: str
    range: str | None
    status: int = 0
    sent: int = 0
    """Bytes of the body that were passed on."""
    done: bool = False


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: a client that leaves is no error here."""


class Relay:
    """A proxy on a port of its own before the registry at `target`, a port of 127.0.0.1.

    `rate` (bytes/s for each body) and `cut_after` (bytes, then the connection is reset) hold for bodies that
    begin later; None means unlimited.
    """

    def __init__(self, target: int) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        """Connections accepted so far."""
        self.rate: int | None = None
        self.cut_after: int | None = None
        self._hold_after: int | None = None
        self._released = threading.Event()
        self._ended = threading.Event()
        self._target = target
        self._lock = threading.Lock()
        self._server: _Server | None = _Server(("127.0.0.1", 0), self._answers())
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = self._serve(self._server)

    def hold(self, after: int) -> None:
        """Stop each body once `after` bytes of it, a multiple of 64 KiB, went out, until `release`."""
        self._released.clear()
        self._hold_after = after

    def release(self) -> None:
        """Let the bodies go on that `hold` stopped, and stop no more."""
        self._hold_after = None
        self._released.set()

    def refuse(self) -> None:
        """Be a dead upstream: connections are refused from now on, and those in use are cut."""
        server, self._server = self._server, None
        if server is not None:
            self._ended.set()
            server.shutdown()
            server.server_close()
            self._thread.join()

    def accept(self) -> None:
        """Be alive again, on the same port."""
        if self._server is None:
            self._ended = threading.Event()
            self._server = _Server(("127.0.0.1", self.port), self._answers())
            self._thread = self._serve(self._server)

    def stop(self) -> None:
        """End it."""
        self._released.set()
        self.refuse()

    def forget(self) -> None:
        """Begin counting at none."""
        with self._lock:
            self.seen.clear()

    def count(self, method: str | None = None, containing: str = "") -> int:
        """Count the requests, of `method` alone if given, with `containing` in the path."""
        return len(self.matching(method, containing))

    def matching(self, method: str | None = None, containing: str = "") -> list[Seen]:
        """Give those requests in the order they came."""
        with self._lock:
            return [one for one in self.seen if method in (None, one.method) and containing in one.path]

    @staticmethod
    def _serve(server: _Server) -> threading.Thread:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        return thread

    def _answers(self) -> type[BaseHTTPRequestHandler]:
        relay, ended = self, self._ended

        class Answer(BaseHTTPRequestHandler):
            """One connection of NORA's."""

            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                with relay._lock:
                    relay.connections += 1
                super().setup()

            def do_GET(self) -> None:
                if ended.is_set():
                    self.close_connection = True
                    return
                seen = Seen(self.command, self.path, self.headers.get("Range"))
                with relay._lock:
                    relay.seen.append(seen)
                upstream = http.client.HTTPConnection("127.0.0.1", relay._target, timeout=60)
                try:
                    self._forward(upstream, seen)
                except (OSError, http.client.HTTPException):
                    self.close_connection = True
                finally:
                    upstream.close()
                    seen.done = True

            do_HEAD = do_GET

            def _forward(self, upstream: http.client.HTTPConnection, seen: Seen) -> None:
                # Header by header: Accept may come several times.
                upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in _HOP_BY_HOP:
                        upstream.putheader(name, value)
                upstream.endheaders()
                response = upstream.getresponse()
                seen.status = response.status
                self.send_response_only(response.status)
                for name, value in response.getheaders():
                    if name.lower() not in _HOP_BY_HOP:
                        self.send_header(name, value)
                if self.command != "HEAD" and "Content-Length" not in response.headers:
                    self.send_header("Connection", "close")
                    self.close_connection = True
                self.end_headers()
                if self.command != "HEAD":
                    self._pass_body(response, seen)

            def _pass_body(self, response: http.client.HTTPResponse, seen: Seen) -> None:
                rate, cut_after = relay.rate, relay.cut_after
                began = time.monotonic()
                while chunk := response.read(_CHUNK):
                    hold_after = relay._hold_after
                    if hold_after is not None and seen.sent + len(chunk) > hold_after:
                        while not (relay._released.wait(0.02) or ended.is_set()):
                            pass
                    if ended.is_set() or (cut_after is not None and seen.sent + len(chunk) > cut_after):
                        self.connection.shutdown(socket.SHUT_RDWR)
                        raise ConnectionResetError("cut")
                    self.wfile.write(chunk)
                    seen.sent += len(chunk)
                    if rate is not None:
                        # Pacing a transfer is what this is for: the next chunk is due when the rate says.
                        due = began + seen.sent / rate
                        ended.wait(max(0.0, due - time.monotonic()))

            def log_message(self, format: str, *args: object) -> None:
                """Stay silent."""

        return Answer
