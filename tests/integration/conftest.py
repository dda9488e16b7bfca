"""What every integration test can have: a room of its own, or one with the other tests of its module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.room import Room, make_room


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
