"""NORA as a process: configured by a file, started as its users start it, asked over HTTP, watched from outside."""

from __future__ import annotations

import http.client
import json
import re
import signal
import ssl
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import toml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.programs import Process, environment, free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
_TWISTD = "from twisted.scripts.twistd import run; run()"
_IN_USE = re.compile(r"^(VmRSS|VmHWM):\s+(\d+) kB$", re.MULTILINE)


@attrs.frozen
class Reply:
    """A whole HTTP response. `short` tells that it ended before its Content-Length."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes = attrs.field(repr=False)
    short: bool = False


class Download:
    """A GET whose body is read bit by bit. `headers` are there at once."""

    def __init__(
        self,
        port: int,
        path: str,
        headers: Mapping[str, str] | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._connection = _connection(port, 60, trust)
        try:
            self._connection.request("GET", path, headers=dict(headers or {}))
            self._response = self._connection.getresponse()
        except BaseException:
            self._connection.close()
            raise
        self.status = self._response.status
        self.headers = self._response.headers

    def read(self, size: int) -> bytes:
        """Read `size` bytes, fewer at the end only. Raises `OSError` when the connection breaks."""
        return self._response.read(size)

    def rest(self) -> bytes:
        """Read all that is left. Raises `http.client.IncompleteRead` or `OSError` on a short body."""
        return self._response.read()

    def close(self) -> None:
        """Leave, at the end or before it."""
        self._response.close()
        self._connection.close()


def _connection(port: int, timeout: float, trust: ssl.SSLContext | None) -> http.client.HTTPConnection:
    if trust is None:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout, context=trust)


def ask(
    port: int,
    path: str,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    timeout: float = 60,
    trust: ssl.SSLContext | None = None,
) -> Reply:
    """Make one request on a connection of its own: over TLS when there is something to `trust`."""
    connection = _connection(port, timeout, trust)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        response = connection.getresponse()
        short = False
        try:
            body = response.read()
        except http.client.IncompleteRead as error:
            body, short = error.partial, True
        except ConnectionError:
            body, short = b"", True
        return Reply(response.status, response.headers, body, short)
    finally:
        connection.close()


class Nora:
    """One daemon on a port and a store of its own.

    `upstreams` are tables as `[[docker.upstreams]]` takes them; `settings` are sections over the defaults,
    such as `{"docker": {"metadata_ttl": 0}}`. It can be started again after `stop` or `kill`, on what it left.
    """

    def __init__(
        self,
        directory: Path,
        upstreams: Sequence[Mapping[str, object]],
        settings: Mapping[str, Mapping[str, object]] | None = None,
        store: Path | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.store = store or directory / "store"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.configuration = directory / "nora.toml"
        self.trust: ssl.SSLContext | None = None
        """With it, HTTPS is spoken, and verified by it."""
        self.variables: dict[str, str] = {}
        """What its environment has besides, from the next start on."""
        self._starts = 0
        self._process: Process | None = None
        self.configure(upstreams, settings)

    def configure(
        self,
        upstreams: Sequence[Mapping[str, object]],
        settings: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        """Write the configuration file, which a start or SIGHUP reads."""
        sections: dict[str, dict[str, object]] = {
            "server": {"host": "127.0.0.1", "port": self.port},
            "storage": {"path": str(self.store)},
            "docker": {},
        }
        for section, keys in (settings or {}).items():
            sections.setdefault(section, {}).update(keys)
        sections["docker"]["upstreams"] = [dict(one) for one in upstreams]
        self.configuration.write_text(toml.dumps(sections))

    def launch(self) -> Process:
        """Start the process without waiting for it to be ready."""
        self._starts += 1
        command = [
            sys.executable,
            "-c",
            _TWISTD,
            "-n",
            "--pidfile=",
            "nora",
            "--config",
            str(self.configuration),
        ]
        # What workers share is in the test's own directory: a parent that is killed leaves it behind.
        variables = environment(
            self.directory,
            PYTHONPATH=str(ROOT),
            PYTHONUNBUFFERED="1",
            RUNTIME_DIRECTORY=str(self.directory),
            **self.variables,
        )
        log = self.directory / f"nora-{self._starts}.log"
        self._process = Process(command, log, variables, directory=ROOT)
        return self._process

    def start(self) -> None:
        """Start it and wait until it is ready."""
        process = self.launch()
        try:
            process.wait_until(self._ready, "NORA's readiness", 30)
        except BaseException:
            process.kill()
            raise

    @property
    def process(self) -> Process:
        """The process that was started last."""
        if self._process is None:
            raise AssertionError("NORA was not started")
        return self._process

    def stop(self) -> int | None:
        """End it by SIGTERM and wait; gives the exit status, None when it never ran."""
        return None if self._process is None else self._process.stop(40)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.signal(number)

    @property
    def log(self) -> str:
        """What the last process wrote."""
        return self.process.text

    def get(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Reply:
        """Ask it."""
        return ask(self.port, path, headers, method, trust=self.trust)

    def download(self, path: str, headers: Mapping[str, str] | None = None) -> Download:
        """Begin a GET."""
        return Download(self.port, path, headers, self.trust)

    def resident(self) -> int:
        """Tell the resident memory, in bytes."""
        return self._memory("VmRSS")

    def peak(self) -> int:
        """Tell the most resident memory that it ever had since its start, in bytes, as the kernel saw it."""
        return self._memory("VmHWM")

    def audit(self, **fields: object) -> list[dict[str, Any]]:
        """Read the audit log: the lines in which each of `fields` has the given value."""
        path = self.store / "audit.jsonl"
        if not path.exists():
            return []
        # The last line may be half written.
        whole = path.read_bytes().rpartition(b"\n")[0]
        lines = [json.loads(line) for line in whole.splitlines()]
        return [line for line in lines if all(line.get(key) == value for key, value in fields.items())]

    def wait_for_audit(self, count: int, **fields: object) -> list[dict[str, Any]]:
        """Wait until the audit log, which is buffered, has `count` such lines or more, and give them."""

        def enough() -> list[dict[str, Any]] | None:
            lines = self.audit(**fields)
            return lines if len(lines) >= count else None

        return wait_for(enough, f"{count} audit lines with {fields}")

    def metric(self, name: str, **labels: str) -> float:
        """Tell the sum of a metric's samples that have these labels."""
        text = self.get("/metrics").body.decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def blob_path(self, digest: str) -> Path:
        """Tell where the store keeps a published blob."""
        algorithm, _, encoded = digest.partition(":")
        return self.store / "blobs" / algorithm / encoded[:2] / encoded

    def parts(self) -> list[Path]:
        """List the unfinished fills of the store."""
        return sorted((self.store / "fills").glob("*.part"))

    def _ready(self) -> bool:
        try:
            return ask(self.port, "/ready", timeout=5, trust=self.trust).status == 200
        except OSError:
            return False

    def _memory(self, what: str) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        kibibytes: dict[str, str] = dict(_IN_USE.findall(text))
        return int(kibibytes[what]) * 1024
