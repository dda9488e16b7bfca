"""What clients get of an upstream that does wrong: the table of `docs/upstreams.md`, cell by cell, from a real daemon.

The daemon is a process; the upstreams are fakes on real sockets in a thread, one for each cell. All cached tags are
pulled once while everybody is well; tags have no time to live, so that each pull after it asks.
"""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest

from nora.oci import Digest
from tests.support.daemon import ROOT, Nora, Reply
from tests.support.fake_upstream import Fault, make_image
from tests.support.fault_table import COLUMNS, REPOSITORY, ROWS, TAG, Case, Expected, Row, table
from tests.support.room import Room, make_room
from tests.support.stage import Stage

_TIMES = {"revalidate_timeout": 0.5, "answer_timeout": 2}
_SLACK = 0.5
_MORE_TRIES = 2
_FLAT = 30 * 1024 * 1024
_BEGIN, _END = "<!-- the table of faults -->\n", "<!-- its end -->\n"
_CELLS = [(row, column) for row in ROWS for column in COLUMNS if column in row.cells]


@attrs.frozen
class World:
    """The daemon, its upstreams by cell, and one more that stays well."""

    nora: Nora
    stage: Stage
    cases: dict[tuple[str, str], Case]
    well: Case

    def get(self, case: Case, tag: str = "1", method: str = "GET") -> Reply:
        """Ask for what the case is about."""
        return self.nora.get(case.path(tag), method=method)

    def check_stored(self) -> None:
        """Fail when something is published that nobody was rightly served."""
        served = {
            self.nora.blob_path(str(digest))
            for case in (*self.cases.values(), self.well)
            for digest in case.served
        }
        assert {path for path in (self.nora.store / "blobs").rglob("*") if path.is_file()} <= served

    def check_credentials(self) -> None:
        """Fail when anybody was sent a credential that is not its own."""
        for player in self.stage.players:
            assert player.foreign_credentials() == [], player.label


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Start everything, pull what shall be cached, and let the upstreams that are moved go."""
    room = make_room()
    try:
        yield _make(room)
    finally:
        room.end()


def _make(room: Room) -> World:
    stage = room.start(Stage())
    cases = {}
    for row, column in _CELLS:
        name = f"{row.key}-{column.replace(' ', '-')}"
        behind = None if row.behind is None else stage.upstream(f"{name}-behind", **row.behind)
        upstream = stage.upstream(name, auth=row.auth)
        cases[row.key, column] = Case(upstream, name, column, row.layer, behind)
    well = Case(stage.upstream("well", auth=True), "well", TAG, 1000)
    every = [*cases.values(), well]
    places = [{"name": each.name, "namespace": each.namespace, "url": each.upstream.url} for each in every]
    docker = {**_TIMES, "metadata_ttl": 0, "proxy_timeout": 20, "read_timeout": 0.5}
    nora = Nora(room.place("nora"), places, {"docker": docker})
    room.start(nora)
    world = World(nora, stage, cases, well)
    for row, column in _CELLS:
        case = cases[row.key, column]
        if column == TAG:
            assert world.get(case).status == 200
            case.served.add(case.digest)
        if row.known:
            case.served.add(case.known.digest)
            assert nora.get(f"/v2/{REPOSITORY}/manifests/known?ns={case.namespace}").status == 200
    for place, (row, column) in zip(places, _CELLS, strict=False):
        if row.url is not None:
            behind = cases[row.key, column].behind
            place["url"] = row.url.format(port=0 if behind is None else behind.port)
    nora.configure(places, {"docker": docker})
    nora.signal(signal.SIGHUP)
    nora.process.wait_until(lambda: "the configuration was read again" in nora.log, "the reload")
    return world


@pytest.mark.parametrize(("row", "column"), _CELLS, ids=[f"{row.key}-{column}" for row, column in _CELLS])
def test_fault(world: World, row: Row, column: str) -> None:
    """The client gets what the table says, in time; nothing refused is stored; no credential goes astray."""
    case, expected = world.cases[row.key, column], row.cells[column]
    world.stage.call(row.spoil, case)
    asked = len(case.upstream.requests)
    before = _fresh_peak(world.nora)
    reply, took = _timed(world, case)
    assert reply.status == expected.status, reply.body[:1000]
    _check_answer(reply, case, expected)
    if expected.within is not None:
        bound = _TIMES[expected.within]
        for _ in range(
            _MORE_TRIES
        ):  # a busy machine is slow now and then; an upstream that hangs is so each time
            if took >= bound + _SLACK:
                reply, took = _timed(world, case)
                _check_answer(reply, case, expected)
        assert bound - 0.1 < took < bound + _SLACK
    if expected.resumed:
        ranges = [seen.headers.get("range") for seen in case.upstream.requests[asked:]]
        assert len(ranges) == 2, ranges
        assert ranges[0] is None, ranges
        assert re.fullmatch(r"bytes=[1-9][0-9]*-", ranges[1] or ""), ranges
    if expected.status == 200 and not expected.short:
        case.served.add(Digest.of(case.body))
    elif column != TAG:
        assert not (world.nora.store / "repositories" / case.namespace).exists()
    world.check_stored()
    if case.behind is not None and row.url is None:
        assert any("authorization" in seen.headers for seen in case.upstream.requests[asked:])
        assert [seen.headers.get("authorization") for seen in case.behind.requests] in ([None], [None, None])
    if row.flat:
        assert world.nora.peak() - before < _FLAT
    world.check_credentials()


def _timed(world: World, case: Case) -> tuple[Reply, float]:
    began = time.monotonic()
    reply = world.get(case)
    return reply, time.monotonic() - began


def _check_answer(reply: Reply, case: Case, expected: Expected) -> None:
    if expected.status == 200:
        assert reply.short == expected.short
        if not expected.short:
            assert reply.body == case.body
    else:
        error = json.loads(reply.body)["errors"][0]
        if expected.outcome is not None:
            assert [each["outcome"] for each in error["detail"]] == [expected.outcome], error
    if expected.cache is not None:
        assert reply.headers["Cache-Status"] == expected.cache
    if expected.retry_after is not None:
        assert 0 < int(reply.headers["Retry-After"]) <= expected.retry_after
    assert len(reply.body) == int(reply.headers["Content-Length"]) or expected.short


def _fresh_peak(nora: Nora) -> int:
    """Begin a new peak of the daemon's resident memory, and tell where it begins."""
    Path(f"/proc/{nora.process.pid}/clear_refs").write_text("5")
    return nora.resident()


def test_warm_tag_is_one_head(world: World) -> None:
    """A cached tag past its time to live costs exactly one HEAD, with the token in hand."""
    world.well.served.add(world.well.digest)
    assert world.get(world.well).status == 200
    asked = len(world.well.upstream.requests)
    reply = world.get(world.well)
    assert (reply.status, reply.headers["Cache-Status"]) == (200, "nora; hit")
    assert [(seen.method, seen.path) for seen in world.well.upstream.requests[asked:]] == [
        ("HEAD", f"/v2/{REPOSITORY}/manifests/1")
    ]
    world.check_credentials()


def test_hundred_revalidations_are_one_head(world: World) -> None:
    """A hundred clients at once with one cached tag cost one HEAD, and all of them are served."""
    upstream = world.well.upstream
    world.well.served.add(world.well.digest)
    assert world.get(world.well).status == 200
    asked = len(upstream.requests)
    world.stage.call(upstream.fault, "/v2/*", Fault(hold=True))
    try:
        with ThreadPoolExecutor(100) as clients:
            replies = list(clients.map(lambda _: world.get(world.well), range(100)))
        assert [reply.status for reply in replies] == [200] * 100
        assert [seen.method for seen in upstream.requests[asked:]] == ["HEAD"]
    finally:
        world.stage.call(upstream.heal)


def test_healed_upstream_is_believed(world: World) -> None:
    """After a fault, the cached tag follows its upstream again: what was stale before is not for ever."""
    case = world.well
    case.served.add(case.digest)
    assert world.get(case).status == 200
    world.stage.call(case.upstream.fault, "/v2/*", Fault(status=500))
    assert world.get(case).headers["Cache-Status"] == "nora; hit; detail=stale"
    world.stage.call(case.upstream.heal)
    moved = make_image([b"moved"])
    case.served.add(moved.digest)
    world.stage.call(case.upstream.add_image, REPOSITORY, "1", moved)
    assert world.get(case).body == moved.manifest


def test_document_says_so() -> None:
    """The table in `docs/upstreams.md` is the one that is tested here."""
    document = (ROOT / "docs" / "upstreams.md").read_text()
    printed = document.partition(_BEGIN)[2].partition(_END)[0]
    assert printed == table(), f"docs/upstreams.md must have this table:\n{table()}"
