"""The servers that are compared, each started from nothing on data of its own, and watched by the kernel's numbers."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tests.bench.room import MANIFEST, NAME, Room, Stored
from tests.support.daemon import Nora
from tests.support.programs import Process, environment, find, free_port, wait_for

Pair = tuple[Path, Path]
"""Files of a certificate and its key, for a server that speaks TLS."""
_TICKS = os.sysconf("SC_CLK_TCK")


class Server(Protocol):
    """One of them. `name` is what the table calls it."""

    name: str
    port: int

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""

    def stop(self) -> None:
        """End it."""

    def pid(self) -> int:
        """Tell its first process, which leads a group of its own."""


class Nginx:
    """nginx, two workers, giving files under the paths of a registry: a limit of the machine, and an upstream.

    `rate` is the most bytes a second that it gives one connection; 0 for no limit.
    """

    def __init__(self, room: Room, name: str = "nginx", rate: int = 0, pair: Pair | None = None) -> None:
        self._pair = pair
        self.name = name
        self.port = free_port()
        self._folder = room.path(f"{name}-{self.port}")
        self._root = self._folder / "www"
        self._rate = rate
        self._manifests: list[tuple[str, Stored]] = []
        self._process: Process | None = None
        self._blobs = self._root / "v2" / NAME / "blobs"
        self._blobs.mkdir(parents=True)
        room.ends.callback(self.stop)

    def offer(self, blobs: Sequence[Stored], manifests: Sequence[tuple[str, Stored]] = ()) -> None:
        """Have these, the manifests by a tag and by digest. Before `start`."""
        for blob in blobs:
            link = self._blobs / blob.digest
            if not link.exists():
                os.link(blob.path, link)
        for tag, manifest in manifests:
            self._manifests += [(tag, manifest), (manifest.digest, manifest)]

    def start(self) -> None:
        """Start it and wait until it answers."""
        configuration = self._folder / "nginx.conf"
        configuration.write_text(self._configure())
        command = [find("nginx"), "-p", str(self._folder), "-c", str(configuration)]
        self._process = Process(command, self._folder / "nginx.out", environment(self._folder))
        self._process.wait_until(lambda: _answers(self.port, self._pair), "nginx")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.stop()

    def pid(self) -> int:
        """Tell its master process."""
        assert self._process is not None
        return self._process.pid

    def asked(self) -> list[tuple[str, str, int]]:
        """Tell what was asked since the last call: method, path, bytes of the body that went out."""
        log = self._folder / "access.log"
        lines = log.read_text().splitlines() if log.exists() else []
        with log.open("w"):
            pass
        return [(method, path, int(sent)) for method, path, sent in (line.split() for line in lines)]

    def _configure(self) -> str:
        places = "".join(
            f"location = /v2/{NAME}/manifests/{reference} {{ alias {manifest.path}; default_type {MANIFEST}; "
            f'add_header Docker-Content-Digest "{manifest.digest}" always; }}\n'
            for reference, manifest in self._manifests
        )
        listen = f"listen 127.0.0.1:{self.port} backlog=4096;"
        if self._pair is not None:
            certificate, key = self._pair
            listen = (
                f"listen 127.0.0.1:{self.port} ssl backlog=4096; "
                f"ssl_certificate {certificate}; ssl_certificate_key {key};"
            )
        user = "user root;" if os.getuid() == 0 else ""
        return f"""daemon off; {user} worker_processes 2; pid {self._folder}/pid; error_log {self._folder}/error.log;
            events {{ worker_connections 4096; }}
            http {{
                log_format short '$request_method $uri $body_bytes_sent';
                access_log {self._folder}/access.log short;
                sendfile on; tcp_nopush on; keepalive_requests 1000000; default_type application/octet-stream;
                server {{
                    {listen} root {self._root};
                    limit_rate {self._rate};
                    location = /v2/ {{ return 200 '{{}}'; }}
                    {places}
                }}
            }}"""


class DebianRegistry:
    """Debian's docker-registry as a pull-through cache of `upstream`, or without one a registry to push to."""

    def __init__(self, room: Room, upstream: Nginx | None = None, pair: Pair | None = None) -> None:
        self._pair = pair
        self.name = "docker-registry"
        self.port = free_port()
        self._folder = room.path(f"docker-registry-{self.port}")
        self._upstream = upstream
        self._process: Process | None = None
        room.ends.callback(self.stop)

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        configuration: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self._folder / "store")}},
            "http": {
                "addr": f"127.0.0.1:{self.port}",
                "secret": "bench",
                **(
                    {"tls": {"certificate": str(self._pair[0]), "key": str(self._pair[1])}}
                    if self._pair
                    else {}
                ),
            },
        }
        if self._upstream is not None:
            configuration["proxy"] = {"remoteurl": f"http://127.0.0.1:{self._upstream.port}"}
        path = self._folder / "config.yml"
        path.write_text(json.dumps(configuration))
        command = [find("docker-registry"), "serve", str(path)]
        self._process = Process(command, self._folder / "log", environment(self._folder))
        self._process.wait_until(lambda: _answers(self.port, self._pair), "docker-registry")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.stop()

    def pid(self) -> int:
        """Tell its process."""
        assert self._process is not None
        return self._process.pid


class NoraServer:
    """NORA before `upstream`. Everything but the number of workers is as a user gets it."""

    def __init__(
        self, room: Room, upstream: Nginx | None = None, workers: int = 1, pair: Pair | None = None
    ) -> None:
        self._pair = pair
        self.workers = workers
        self.name = "NORA" if workers == 1 else f"NORA, {workers} workers"
        upstreams = [] if upstream is None else [{"url": f"http://127.0.0.1:{upstream.port}"}]
        server: dict[str, object] = {} if workers == 1 else {"workers": workers}
        if pair is not None:
            server |= {"tls_certificate": str(pair[0]), "tls_key": str(pair[1])}
        folder = room.path(f"nora-{workers}-{free_port()}")
        self._nora = Nora(folder, upstreams, {"server": server})
        self.port = self._nora.port
        if pair is not None:
            self._nora.trust = _unverified()
        room.ends.callback(self.stop)

    @property
    def store(self) -> Path:
        """Its store."""
        return self._nora.store

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        shutil.rmtree(self._nora.store, ignore_errors=True)
        self.resume()

    def resume(self) -> None:
        """Start it on the store as it is."""
        self._nora.start()
        wait_for(lambda: _answers(self.port, self._pair), "NORA")

    def stop(self) -> None:
        """End it."""
        self._nora.stop()

    def pid(self) -> int:
        """Tell its first process."""
        return self._nora.process.pid


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def cpu_seconds(server: Server) -> float:
    """Tell the processor time that a server has taken with all its processes, the ended ones of them too."""
    ticks = 0
    for fields in _processes(server.pid()):
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / _TICKS


def resident(server: Server) -> list[int]:
    """Tell the resident memory of each of a server's processes, in bytes."""
    page = os.sysconf("SC_PAGE_SIZE")
    return [int(fields[21]) * page for fields in _processes(server.pid())]


def _processes(leader: int) -> list[list[str]]:
    """Read `/proc/*/stat` of the group that `leader` leads: the fields after the name."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == leader:
                found.append(fields)
    return found


def _answers(port: int, pair: Pair | None = None) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    if pair is not None:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=_unverified())
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
