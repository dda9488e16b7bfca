"""Debian's docker-registry as the upstream of a test: a process with a configuration and a store of its own."""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path

import attrs

from tests.support.images import Image, Index, push
from tests.support.programs import Process, environment, find, free_port
from tests.support.tokens import ISSUER, PASSWORD, SERVICE, USER, TokenService

__all__ = ["PASSWORD", "USER", "Logged", "Registry"]

_ACCESS = re.compile(r'^\S+ - - \[[^\]]*\] "(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[\d.]+" (?P<status>\d{3}) ')
_HASH = "$2b$04$abcdefghijklmnopqrstuuiB2jrZgQ5noKflkQf5/yYOexhIpDbmu"
"""The bcrypt of `PASSWORD`."""


@attrs.frozen
class Logged:
    """One line of the access log."""

    method: str
    path: str
    status: int


class Registry:
    """The registry. With `tokens`, each request needs a token that the service signed.

    Images are pushed with `push`. It may be stopped and started again, on the same port and store.
    """

    def __init__(self, directory: Path, tokens: TokenService | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._directory = directory
        self._tokens = tokens
        self._process: Process | None = None
        self._locked = False
        self._configuration = directory / "config.yml"
        self._configuration.write_text(json.dumps(self._configure()))

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [find("docker-registry"), "serve", str(self._configuration)]
        process = Process(command, self._directory / "registry.log", environment(self._directory))
        self._process = process
        try:
            process.wait_until(self._answers, "docker-registry's answer")
        except BaseException:
            process.kill()
            raise

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self._process.stop()

    def lock(self) -> None:
        """Want `USER` and `PASSWORD` by Basic from now on, whatever is asked for; it must not run with tokens."""
        self.stop()
        users = self._directory / "users"
        users.write_text(f"{USER}:{_HASH}\n")
        configuration = self._configure()
        configuration["auth"] = {"htpasswd": {"realm": "tests", "path": str(users)}}
        self._configuration.write_text(json.dumps(configuration))
        self._locked = True
        self.start()

    def push(self, repository: str, tag: str, pushed: Image | Index) -> None:
        """Push an image, with a token where one is needed."""
        token = None
        if self._tokens is not None:
            token = self._tokens.token([f"repository:{repository}:pull,push"], push=True)
        push(self.port, repository, tag, pushed, token)

    def requests(self) -> list[Logged]:
        """Read the access log. Lines come when a response is finished."""
        text = self._process.text if self._process is not None else ""
        found = (_ACCESS.match(line) for line in text.splitlines())
        return [Logged(m["method"], m["path"], int(m["status"])) for m in found if m]

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status == (
                401 if self._locked or self._tokens is not None else 200
            )
        except OSError:
            return False
        finally:
            connection.close()

    def _configure(self) -> dict[str, object]:
        # JSON is YAML, which the registry reads.
        configuration: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {
                "filesystem": {"rootdirectory": str(self._directory / "store")},
                "delete": {"enabled": True},
            },
            "http": {"addr": f"127.0.0.1:{self.port}", "secret": "tests"},
        }
        if self._tokens is not None:
            certificate = self._directory / "tokens.pem"
            self._tokens.write_certificate(certificate)
            configuration["auth"] = {
                "token": {
                    "realm": self._tokens.realm,
                    "service": SERVICE,
                    "issuer": ISSUER,
                    "rootcertbundle": str(certificate),
                }
            }
        return configuration
