"""The demonstration, as a person starts it."""

from __future__ import annotations

import re
import sys

import pytest

from tests.support.daemon import ROOT
from tests.support.programs import environment, run
from tests.support.room import Room


@pytest.mark.needs("docker-registry", "skopeo")
def test_demo(room: Room) -> None:
    """`python -m tests.demo` shows a miss and then a hit that asks the upstream nothing, and leaves nothing."""
    variables = environment(room.directory, TMPDIR=str(room.directory))
    said = run([sys.executable, "-m", "tests.demo"], variables, directory=ROOT)
    rows = [line.split() for line in said.splitlines() if re.match(r"[12]\s", line)]
    assert [(row[0], row[1]) for row in rows] == [("1", "miss"), ("2", "hit")]
    assert rows[0][2] == rows[1][2]
    assert [row[4] for row in rows] != ["0", "0"]
    assert rows[1][4] == "0"
    assert list(room.directory.iterdir()) == []
