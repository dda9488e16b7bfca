"""Real programs as processes of a test: found, started with an environment of their own, and surely ended.

Everything here blocks: integration tests drive processes from outside and have no reactor.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_SYSTEM_PATHS = ("/usr/bin", "/usr/sbin", "/bin", "/sbin")
_KEPT_VARIABLES = re.compile(r"LANG|LC_ALL|TZ|VIRTUAL_ENV|COVERAGE_\w+")


class Missing(Exception):
    """The machine has no such program."""


def find(program: str) -> str:
    """Give the path of `program`: the distribution's before one that shadows it. Raises `Missing`."""
    found = shutil.which(program, path=os.pathsep.join(_SYSTEM_PATHS)) or shutil.which(program)
    if found is None:
        raise Missing(program)
    return found


def environment(home: Path, **variables: str) -> dict[str, str]:
    """Make a program's environment: no proxies, no credentials, a home of its own, `variables` over all."""
    kept = {name: value for name, value in os.environ.items() if _KEPT_VARIABLES.fullmatch(name)}
    path = os.pathsep.join((os.environ.get("PATH", ""), *_SYSTEM_PATHS))
    return {**kept, "PATH": path, "HOME": str(home), "XDG_RUNTIME_DIR": str(home), **variables}


def free_port() -> int:
    """Give a TCP port of 127.0.0.1 on which nothing listens now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(look: Callable[[], T | None], what: str, timeout: float = 20.0, every: float = 0.02) -> T:
    """Call `look` each `every` seconds until it gives something true, and give that.

    Raises `AssertionError` naming `what` when `timeout` seconds went by.
    """
    deadline = time.monotonic() + timeout
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for {what}")
        time.sleep(every)


class Process:
    """A program that runs beside the test, with its output in a file.

    It leads a process group of its own, so that what it starts ends with it.
    """

    def __init__(
        self,
        command: Iterable[str],
        log: Path,
        variables: Mapping[str, str],
        directory: Path | None = None,
        descriptors: Iterable[int] = (),
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(variables),
                cwd=directory,
                start_new_session=True,
                pass_fds=tuple(descriptors),
            )
        self.pid = self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    @property
    def text(self) -> str:
        """Everything it wrote."""
        return self.log.read_text("utf-8", "replace")

    def wait_until(self, look: Callable[[], T | None], what: str, timeout: float = 20.0) -> T:
        """As `wait_for`, and fails at once, with the end of the log, when the process ends meanwhile."""

        def alive_and() -> T | None:
            if self.status is not None:
                raise AssertionError(f"ended with {self.status} before {what}:\n{self.text[-4000:]}")
            return look()

        try:
            return wait_for(alive_and, what, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text[-4000:]}") from None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self, timeout: float = 20.0) -> int:
        """Wait for its end; gives the exit status. Raises `AssertionError` when it goes on."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {timeout:g} s:\n{self.text[-4000:]}") from None

    def stop(self, timeout: float = 20.0) -> int:
        """End it by SIGTERM, after `timeout` seconds by SIGKILL; gives the exit status. May be called twice."""
        if self.status is None:
            self._process.terminate()
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        self._kill_group()
        return self._process.wait()

    def kill(self) -> None:
        """End it by SIGKILL, with all that it started."""
        self._kill_group()
        self._process.wait()

    def _kill_group(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return


def run(
    command: Iterable[str],
    variables: Mapping[str, str],
    directory: Path | None = None,
    timeout: float = 60.0,
) -> str:
    """Run a program to its end; gives its standard output. Raises `AssertionError` with all it said."""
    arguments = list(command)
    done = subprocess.run(
        arguments,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=dict(variables),
        cwd=directory,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr).decode("utf-8", "replace")
        raise AssertionError(f"{' '.join(arguments)}: exit {done.returncode}\n{said[-4000:]}")
    return done.stdout.decode("utf-8", "replace")
