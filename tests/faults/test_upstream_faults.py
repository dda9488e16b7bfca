"""What clients get of an upstream that does wrong: the table of `docs/upstreams.md`, cell by cell, from a real daemon.

The daemon is a process; the upstreams are fakes on real sockets in a thread, one for each cell. All cached tags are
pulled once while everybody is well; tags have no time to live, so that each pull after it asks.
"""

from __future__ import annotations

import base64
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
from tests.support.fault_table import (
    AT_ONCE,
    COLUMNS,
    MIB,
    REPOSITORY,
    ROWS,
    TAG,
    Case,
    Expected,
    Row,
    table,
)
from tests.support.room import Room, make_room
from tests.support.stage import Stage

_TIMES = {"revalidate_timeout": 0.5, "answer_timeout": 2}
_BOUNDS = {**_TIMES, AT_ONCE: 0.0}
_SLACK = 0.5
_MORE_TRIES = 2
_FLAT = 30 * 1024 * 1024
_BEGIN, _END = "<!-- the table of faults -->\n", "<!-- its end -->\n"
_CELLS = [(row, column) for row in ROWS for column in COLUMNS if column in row.cells]


@attrs.frozen
class World:
    """The daemon, its upstreams by cell, and one more that stays well.

    Those cells that are about forgetting have a daemon of their own, since that is told for all upstreams.
    """

    nora: Nora
    forgetful: Nora
    stage: Stage
    cases: dict[tuple[str, str], Case]
    well: Case
    returns: tuple[Case, Case]
    """Two upstreams that have an unqualified name, for a daemon of their own."""
    private: tuple[Case, Case]
    """One upstream that wants a login, by a name that shares what it opens, and by one that does not."""

    def home(self, case: Case) -> Nora:
        """Give the daemon that has the case's upstream."""
        return self.forgetful if case.forgets else self.nora

    def get(self, case: Case, tag: str = "1", method: str = "GET") -> Reply:
        """Ask for what the case is about."""
        return self.home(case).get(case.path(tag), method=method)

    def check_stored(self) -> None:
        """Fail when something is published that nobody was rightly served."""
        digests = {
            str(digest) for case in (*self.cases.values(), self.well, *self.private) for digest in case.served
        }
        for nora in (self.nora, self.forgetful):
            served = {nora.blob_path(digest) for digest in digests}
            assert {path for path in (nora.store / "blobs").rglob("*") if path.is_file()} <= served

    def check_credentials(self) -> None:
        """Fail when anybody was sent a credential that is not its own."""
        for player in self.stage.players:
            assert player.foreign_credentials() == [], player.label


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Start everything, pull what shall be cached, and let the upstreams that are moved go."""
    room = make_room()
    try:
        world = _make(room)
        yield world
        world.check_credentials()
    finally:
        room.end()


def _make(room: Room) -> World:
    stage = room.start(Stage())
    cases: dict[tuple[str, str], Case] = {}
    for row, column in _CELLS:
        name = f"{row.key}-{column.replace(' ', '-')}"
        behind = None if row.behind is None else stage.upstream(f"{name}-behind", **row.behind)
        upstream = stage.upstream(name, auth=row.auth)
        case = cases[row.key, column] = Case(upstream, name, column, row.layer, behind)
        case.forgets = row.forgets
        if row.login:
            _lock(case)
        if row.next:
            assert behind is not None
            behind.manifests, behind.blobs = upstream.manifests, upstream.blobs
    well = _case(stage, "well")
    returns = (_case(stage, "returns"), _case(stage, "second"))
    locked = stage.upstream("private", auth=True)
    private = (Case(locked, "shared", TAG, 1000), Case(locked, "private", TAG, 1000))
    _lock(private[1])
    private[0].secret = private[1].secret
    places = [_place(cases[row.key, column], row.login) for row, column in _CELLS]
    nexts: list[dict[str, object]] = [
        {"name": f"{case.name}-next", "namespace": case.namespace, "url": case.behind.url}
        for (row, column) in _CELLS
        if row.next and (case := cases[row.key, column]).behind is not None
    ]
    everywhere: list[dict[str, object]] = [*places, *nexts, _place(well)]
    everywhere += [_place(private[0], login=True), {**_place(private[1], login=True), "share": "private"}]
    docker = {**_TIMES, "metadata_ttl": 0, "proxy_timeout": 20, "read_timeout": 0.5}
    nora = Nora(room.place("nora"), everywhere, {"docker": docker})
    room.start(nora)
    forget = {**docker, "on_upstream_delete": "forget", "on_upstream_denied": "forget"}
    forgetting = [place for place, (row, _) in zip(places, _CELLS, strict=True) if row.forgets]
    forgetful = Nora(room.place("forgetful"), forgetting, {"docker": forget})
    room.start(forgetful)
    world = World(nora, forgetful, stage, cases, well, returns, private)
    for row, column in _CELLS:
        case = cases[row.key, column]
        if column == TAG:
            assert world.get(case).status == 200
            case.served.add(case.digest)
        if row.known:
            case.served.add(case.known.digest)
            assert nora.get(f"/v2/{REPOSITORY}/manifests/known?ns={case.namespace}").status == 200
    for place, (row, column) in zip(places, _CELLS, strict=True):
        if row.url is not None:
            behind = cases[row.key, column].behind
            place["url"] = row.url.format(port=0 if behind is None else behind.port)
    nora.configure(everywhere, {"docker": docker})
    nora.signal(signal.SIGHUP)
    nora.process.wait_until(lambda: "the configuration was read again" in nora.log, "the reload")
    return world


def _case(stage: Stage, name: str) -> Case:
    """Make a case for a test of its own."""
    return Case(stage.upstream(name, auth=True), name, TAG, 1000)


def _lock(case: Case) -> None:
    """Have the upstream give tokens for the case's password alone."""
    login = "Basic " + base64.b64encode(f"nora:{case.secret}".encode()).decode()
    case.upstream.logins = case.upstream.passwords = {login}


def _place(case: Case, login: bool = False) -> dict[str, object]:
    """Make the table of the case's upstream for the configuration."""
    place: dict[str, object] = {"name": case.name, "namespace": case.namespace, "url": case.upstream.url}
    if login:
        place.update(auth=f"nora:{case.secret}", share="everyone")
    return place


@pytest.mark.parametrize(("row", "column"), _CELLS, ids=[f"{row.key}-{column}" for row, column in _CELLS])
def test_fault(world: World, row: Row, column: str) -> None:
    """The client gets what the table says, in time; nothing refused is stored; no credential goes astray."""
    case, expected = world.cases[row.key, column], row.cells[column]
    nora = world.home(case)
    if row.opened:
        _open_circuit(world, case)
    world.stage.call(row.spoil, case)
    asked = len(case.upstream.requests)
    before = _fresh_peak(nora)
    reply, took = _timed(world, case)
    assert reply.status == expected.status, reply.body[:1000]
    _check_answer(reply, case, expected)
    if expected.within is not None:
        bound = _BOUNDS[expected.within]
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
        kept = (nora.store / "repositories" / case.namespace).rglob("*")
        assert {path.name for path in kept if path.is_file()} <= ({"_private"} if row.login else set())
    world.check_stored()
    if expected.loud:
        assert f"upstream {case.name}: our credential was refused" in nora.log
        assert nora.metric("nora_upstream_credential_refused_total", upstream=case.name) >= 1
        assert case.secret not in nora.log + reply.body.decode()
    if row.next:
        _check_next(case, expected)
    elif case.behind is not None and row.url is None:
        assert any("authorization" in seen.headers for seen in case.upstream.requests[asked:])
        assert [seen.headers.get("authorization") for seen in case.behind.requests] in ([None], [None, None])
    if row.flat:
        assert nora.peak() - before < _FLAT
    world.check_credentials()


def _open_circuit(world: World, case: Case) -> None:
    """Have the upstream fail until it is taken for dead."""
    world.stage.call(case.upstream.fault, "/v2/*", Fault(drop=True))
    for number in range(3):
        path = f"/v2/{REPOSITORY}/manifests/none-{number}?ns={case.namespace}"
        assert world.nora.get(path).status == 502
    assert world.nora.metric("nora_upstream_circuit_open", upstream=case.name) == 1


def _check_next(case: Case, expected: Expected) -> None:
    """Fail unless the next upstream was asked once, and for no more than was missing."""
    assert case.behind is not None
    [seen] = case.behind.requests
    began = int((seen.headers.get("range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
    assert (0 < began <= 3 * MIB * 3 // 10) if expected.rest else began == 0


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


def test_name_goes_back_to_the_first(world: World) -> None:
    """A name served by the second upstream while the first was down is the first's again when it returns."""
    first, second = world.returns
    path = f"/v2/{REPOSITORY}/manifests/1"
    room = make_room()
    try:
        docker = {"docker": {"metadata_ttl": 0, "negative_ttl": 0}}
        nora = Nora(room.place("nora"), [_place(first), _place(second)], docker)
        world.stage.call(first.upstream.fault, "/v2/*", Fault(status=500))
        room.start(nora)
        assert nora.get(path).body == second.image.manifest
        world.stage.call(first.upstream.heal)
        asked = len(second.upstream.requests)
        assert nora.get(path).body == first.image.manifest
        assert second.upstream.requests[asked:] == []
    finally:
        room.end()
    world.check_credentials()


def test_private_stays_private(world: World) -> None:
    """What our credential opened is for nobody anonymous under a name not shared, nor by knowing its digests."""
    shared, secret = world.private
    layer = secret.image.blobs[1]
    shared.served.update({secret.digest, Digest.of(layer)})
    names = ["manifests/1", f"manifests/{secret.digest}", f"blobs/{Digest.of(layer)}"]
    whole = {secret.image.manifest, layer}
    assert {world.nora.get(f"/v2/{REPOSITORY}/{name}?ns={shared.namespace}").body for name in names} == whole
    for case, status, asked in ((secret, 403, names), (world.well, 404, names[1:])):
        for name in asked:
            for method in ("GET", "HEAD"):
                reply = world.nora.get(f"/v2/{REPOSITORY}/{name}?ns={case.namespace}", method=method)
                assert reply.status == status, (case.name, name, reply.body)
                assert reply.body not in whole
    world.check_stored()
    world.check_credentials()


def test_document_says_so() -> None:
    """The table in `docs/upstreams.md` is the one that is tested here."""
    document = (ROOT / "docs" / "upstreams.md").read_text()
    printed = document.partition(_BEGIN)[2].partition(_END)[0]
    assert printed == table(), f"docs/upstreams.md must have this table:\n{table()}"
