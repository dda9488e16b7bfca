"""What every integration test can have: a room of its own, or one with the other tests of its module."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.conformance import Client, Repository
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


@pytest.fixture(scope="session")
def spoken_to() -> Iterator[Client]:
    """Give a client of the registry that is held to the specification: NORA, or the one at `REGISTRY_UNDER_TEST`."""
    made = make_room()
    client = Client(os.environ.get("REGISTRY_UNDER_TEST") or made.nora().url)
    try:
        yield client
    finally:
        client.close()
        made.end()


@pytest.fixture
def repository(spoken_to: Client) -> Repository:
    """Give a repository of which the registry has not heard yet."""
    return Repository(spoken_to, f"conformance/{os.urandom(8).hex()}")


@pytest.fixture
def neighbour(spoken_to: Client) -> Repository:
    """Give another one."""
    return Repository(spoken_to, f"conformance/{os.urandom(8).hex()}")


@pytest.fixture(scope="module")
def ways(house: Room) -> dict[str, Way]:
    """Keep the ways that the tests of a module have gone."""
    return {}


@pytest.fixture(params=["http", "http-login", "https", "https-login"])
def way(request: pytest.FixtureRequest, house: Room, ways: dict[str, Way]) -> Way:
    """Give each way into a daemon that takes pushes, one after the other."""
    kind = str(request.param)
    if kind not in ways:
        ways[kind] = make_way(house, tls=kind.startswith("https"), login=kind.endswith("-login"))
    return ways[kind]
