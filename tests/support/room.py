"""A room for an integration test: a short directory, and the certainty that all that was started in it ends."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from tests.support.daemon import Nora
from tests.support.engines import unmount_below
from tests.support.registry import Registry
from tests.support.relay import Relay
from tests.support.tokens import TokenService

needs_root = pytest.mark.skipif(os.geteuid() != 0 and not os.environ.get("CI"), reason="needs root")
"""For tests that mount or start an engine. Under CI they run, and fail, without it."""


class _Started(Protocol):
    def start(self) -> None: ...

    def stop(self) -> object: ...


S = TypeVar("S", bound=_Started)


class Room:
    """A directory and what runs in it. What was started last ends first."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ends = ExitStack()
        self._number = 0

    def place(self, name: str) -> Path:
        """Give the path of something new, not made yet."""
        self._number += 1
        return self.directory / f"{name}{self._number}"

    def at_end(self, end: Callable[[], object]) -> None:
        """Have `end` called when the test is over, however it ends."""
        self._ends.callback(end)

    def start(self, what: S) -> S:
        """Start `what` and stop it at the end."""
        self.at_end(what.stop)
        what.start()
        return what

    def registry(self, tokens: TokenService | None = None) -> Registry:
        """Start an upstream registry."""
        return self.start(Registry(self.place("registry"), tokens))

    def relay(self, registry: Registry) -> Relay:
        """Put a relay before a registry."""
        relay = Relay(registry.port)
        self.at_end(relay.stop)
        return relay

    def nora(self, *upstreams: Relay, store: Path | None = None, **docker: object) -> Nora:
        """Start NORA before `upstreams`, all of namespace docker.io; `docker` are keys of that section."""
        nora = self.unstarted_nora(*upstreams, store=store, **docker)
        return self.start(nora)

    def unstarted_nora(self, *upstreams: Relay, store: Path | None = None, **docker: object) -> Nora:
        """As `nora`, without the start; what the test starts of it is stopped at the end."""
        nora = Nora(self.place("nora"), tables(*upstreams), {"docker": docker}, store)
        self.at_end(nora.stop)
        return nora

    def end(self) -> None:
        """Stop everything and remove the directory."""
        try:
            self._ends.close()
        finally:
            unmount_below(self.directory)
            shutil.rmtree(self.directory, ignore_errors=True)


def tables(*upstreams: Relay) -> list[Mapping[str, object]]:
    """Give what `[[docker.upstreams]]` takes for relays that stand for Docker Hub."""
    return [{"url": relay.url, "namespace": "docker.io"} for relay in upstreams]


def make_room() -> Room:
    """Make a room. Its path is short, because the sockets of engines in it have to be."""
    return Room(Path(tempfile.mkdtemp(prefix="nora-")))
