"""What every integration test can have: a room of its own, or one with the other tests of its module."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator

import pytest

from tests.support.conformance import Client, Repository
from tests.support.conformance_registry import registry_under_test
from tests.support.images import Image
from tests.support.registry import Registry
from tests.support.relay import Relay
from tests.support.room import Room, make_room
from tests.support.ways import Way, make_way


@pytest.fixture
def room() -> Iterator[Room]:
    """Give a room to one test."""
    made = make_room()
    try:
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def house() -> Iterator[Room]:
    """Give a room to all tests of a module."""
    made = make_room()
    try:
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def registry(house: Room, thing: Image) -> Registry:
    """Start the upstream of a module's tests: it has `library/thing:1`, the module's `thing`."""
    registry = house.registry()
    registry.push("library/thing", "1", thing)
    return registry


@pytest.fixture
def relay(room: Room, registry: Registry) -> Relay:
    """Give a relay before the upstream, whose end is the upstream's death."""
    return room.relay(registry)


@pytest.fixture(scope="session")
def spoken_to() -> Iterator[Client]:
    """Give a client of the registry that is held to the specification."""
    with registry_under_test() as client:
        yield client


@pytest.fixture
def repository(spoken_to: Client) -> Repository:
    """Give a repository of which the registry has not heard yet."""
    return Repository(spoken_to, f"conformance/{os.urandom(8).hex()}")


@pytest.fixture
def neighbour(spoken_to: Client) -> Repository:
    """Give another one."""
    return Repository(spoken_to, f"conformance/{os.urandom(8).hex()}")


@pytest.fixture(scope="session")
def ways() -> Iterator[Callable[[str], Way]]:
    """Give a function that gives a way into a daemon that takes pushes, starting the daemon once."""
    room = make_room()

    @functools.cache
    def find(kind: str) -> Way:
        return make_way(room, tls=kind.startswith("https"), login=kind.endswith("-login"))

    try:
        yield find
    finally:
        room.end()


@pytest.fixture(params=["http", "http-login", "https", "https-login"])
def way(request: pytest.FixtureRequest, ways: Callable[[str], Way]) -> Way:
    """Give each way into a daemon that takes pushes, one after the other."""
    return ways(str(request.param))
