"""Clients that push in bad faith: hidden requests, dribbles, quarrels over a session, and sessions by the thousand."""

from __future__ import annotations

import json
import os
import statistics
import threading
import time
from pathlib import Path

import pytest

from tests.support.daemon import Nora
from tests.support.doors import basic
from tests.support.images import MEBIBYTE, digest_of
from tests.support.programs import wait_for
from tests.support.room import Room
from tests.support.wire import Said, Wire, stored

UPLOADS = "/v2/team/app/blobs/uploads/"
HIDDEN = (
    b"PUT /v2/team/app/manifests/hidden HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: hidden\r\n"
    b"Content-Length: 0\r\n\r\n"
)
CHUNKED = "Transfer-Encoding: chunked"
NOWHERE = UPLOADS + "0" * 32


def started(room: Room, **docker: object) -> Nora:
    """Start a daemon that has little patience."""
    settings: dict[str, dict[str, object]] = {
        "docker": docker,
        "server": {"stall_timeout": 1, "header_timeout": 2},
    }
    return room.start(Nora(room.place("nora"), (), settings))


@pytest.fixture(scope="module")
def nora(house: Room) -> Nora:
    """Give one to several tests."""
    return started(house)


def begin(nora: Nora) -> str:
    """Begin an upload, and give its path."""
    with Wire(nora.port) as wire:
        wire.request("POST", UPLOADS, ["Content-Length: 0"])
        said = wire.said()
    assert said.status == 202
    return said.headers["location"]


def data(nora: Nora, path: str) -> Path:
    """Tell where the bytes of an upload are."""
    return nora.store / "uploads" / path.rpartition("/")[2] / "data"


@pytest.mark.parametrize(
    ("headers", "body", "goes_on"),
    [
        ((f"Content-Length: {len(HIDDEN)}",), HIDDEN, True),
        ((f"Content-Length: {64 * len(HIDDEN)}",), HIDDEN * 64, True),
        ((f"Content-Length: {3 * MEBIBYTE}",), HIDDEN * 1000, False),
        ((f"Content-Length: {len(HIDDEN)}", "Expect: 100-continue"), HIDDEN, None),
        ((CHUNKED,), b"%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN), None),
        ((CHUNKED,), b"%x\r\n%s\r\n" % (len(HIDDEN), HIDDEN), False),
        ((CHUNKED,), b"zz\r\n" + HIDDEN, False),
        ((CHUNKED,), b"1\r\nxy\r\n" + HIDDEN, False),
        ((CHUNKED,), b"5;" + b"a" * 5000 + b"\r\n" + HIDDEN, False),
        ((CHUNKED,), b"ffffffffffffffffffff\r\n" + HIDDEN, False),
        ((CHUNKED,), b"0\r\nX: " + b"y" * 70_000 + b"\r\n\r\n" + HIDDEN, False),
        ((CHUNKED, "Content-Length: 5"), b"0\r\n\r\n" + HIDDEN, False),
        (("Content-Length: 5", CHUNKED), b"0\r\n\r\n" + HIDDEN, False),
        (("Content-Length: 0", f"Content-Length: {len(HIDDEN)}"), HIDDEN, False),
        (("Transfer-Encoding: identity", "Content-Length: 5"), b"0\r\n\r\n" + HIDDEN, False),
        (("Transfer-Encoding: chunked, identity",), b"0\r\n\r\n" + HIDDEN, False),
        (("Content-Length : 5",), HIDDEN, False),
        (("X: y", f" Content-Length: {len(HIDDEN)}"), HIDDEN, False),
        (("X: " + "y" * 20_000,), HIDDEN, False),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("path", [NOWHERE, "/v2/UPPER/manifests/x", UPLOADS + "?digest=x"])
def test_hidden_request(
    nora: Nora, path: str, apart: bool, headers: tuple[str, ...], body: bytes, goes_on: bool | None
) -> None:
    """A request within the body of one that is answered early is never taken for one."""
    method = {NOWHERE: "PATCH", UPLOADS + "?digest=x": "POST"}.get(path, "PUT")
    with Wire(nora.port) as wire:
        wire.request(method, path, headers, b"" if apart else body)
        said = wire.said()
        if apart:
            wire.send(body)
        assert said.status in (400, 404, 431)
        last = said.headers.get("connection") == "close"
        if goes_on is not None:
            assert last is not goes_on
        wire.request("GET", "/v2/", ["X-Request-ID: real"])
        answer = wire.answer()
        if last:
            assert answer is None, "something was answered after the last answer"
        else:
            assert answer is not None
            assert (answer.status, answer.headers["x-request-id"]) == (200, "real")
            assert not wire.ended(0.05), "the connection ended, or says more"
    assert stored(nora.store)["names"] == []


def test_nothing_hidden_was_audited(nora: Nora) -> None:
    """No request that was hidden in a body has come to any endpoint."""
    with Wire(nora.port) as wire:
        wire.request("PATCH", NOWHERE, ["Content-Length: 0", "X-Request-ID: last"])
        assert wire.said().status == 404
    nora.wait_for_audit(1, id="last")
    assert nora.audit(id="hidden") == []
    assert nora.metric("nora_requests_total", endpoint="manifest", method="PUT", status="201") == 0


@pytest.mark.parametrize(
    "path", ["session", UPLOADS + f"?digest={digest_of(b'x')}", "/v2/team/app/manifests/slow"]
)
def test_dribble(nora: Nora, path: str) -> None:
    """A body of which next to nothing comes is answered with 408, then broken off, and holds nothing."""
    session = begin(nora) if path == "session" else ""
    method = "PATCH" if session else "PUT" if "manifests" in path else "POST"
    id = f"dribble-{method}"
    began = time.monotonic()
    with Wire(nora.port) as wire:
        wire.request(method, session or path, ["Content-Length: 1000000", f"X-Request-ID: {id}"])
        while time.monotonic() - began < 10 and wire.send(b"x") and not wire.speaks(0.2):
            pass
        answer = wire.said()
        assert (answer.status, answer.codes, answer.headers["connection"]) == (408, ["SIZE_INVALID"], "close")
        while time.monotonic() - began < 10 and wire.send(b"x"):
            time.sleep(0.05)
    assert 0.9 < time.monotonic() - began < 6
    (line,) = nora.wait_for_audit(1, id=id)
    assert (line["aborted"], line["status"]) == (False, 408)
    if session:
        assert data(nora, session).stat().st_size < 50
        assert nora.get(session, method="DELETE").status == 204
    wait_for(lambda: not stored(nora.store)["uploads"], "nothing of it")


def test_dribbled_head(nora: Nora) -> None:
    """A head has its time as a whole, however its bytes trickle."""
    began = time.monotonic()
    with Wire(nora.port) as wire:
        wire.send(b"PATCH " + UPLOADS.encode() + b" HTTP/1.1\r\nX: ")
        while time.monotonic() - began < 10 and wire.send(b"y") and not wire.ended(0.2):
            pass
    assert 1.5 < time.monotonic() - began < 6


def test_two_at_once(nora: Nora) -> None:
    """Of two PATCHes to one session at once the second is refused, and the first is not disturbed."""
    path = begin(nora)
    with Wire(nora.port) as first, Wire(nora.port) as second:
        first.request("PATCH", path, ["Content-Length: 40000"], b"a" * 20_000)
        wait_for(lambda: data(nora, path).stat().st_size == 20_000, "the first half")
        second.request("PATCH", path, ["Content-Length: 5"], b"bbbbb")
        assert not second.ended(0.5)
        first.send(b"a" * 20_000)
        said = first.said()
        assert (said.status, said.headers["range"]) == (202, "0-39999")
        answered = second.said()
        assert answered.status in (202, 400)
        size = data(nora, path).stat().st_size
        assert size == (40_005 if answered.status == 202 else 40_000)
    whole = b"a" * 40_000 + b"bbbbb" * (size - 40_000 > 0)
    done = nora.get(f"{path}?digest={digest_of(whole)}", method="PUT")
    assert done.status == 201
    for method in ("PATCH", "PUT", "GET", "DELETE"):
        with Wire(nora.port) as late:
            tail = f"?digest={digest_of(whole)}" if method == "PUT" else ""
            late.request(method, path + tail, ["Content-Length: 1"], b"x")
            said = late.said()
            assert (said.status, said.codes) == (404, ["BLOB_UPLOAD_UNKNOWN"])
    assert nora.get(f"/v2/team/app/blobs/{digest_of(whole)}").body == whole


def test_another_users_session(room: Room) -> None:
    """Whoever may push to the same repository, but did not begin the upload, is told that there is none."""
    users = {"kim": "k" * 32, "eve": "e" * 32}
    settings: dict[str, dict[str, object]] = {
        "auth": {"tokens": [{"user": user, "token": token} for user, token in users.items()]},
        "access": {"rules": [{"user": "*", "repository": "team/*", "actions": ["pull", "push", "delete"]}]},
    }
    nora = room.start(Nora(room.place("nora"), (), settings))

    def ask(user: str | None, method: str, path: str, body: bytes = b"") -> Said:
        credential = [] if user is None else [f"Authorization: {basic(user, users[user])}"]
        with Wire(nora.port) as wire:
            wire.request(method, path, [f"Content-Length: {len(body)}", *credential], body)
            return wire.said(method)

    path = ask("kim", "POST", UPLOADS).headers["location"]
    assert ask("kim", "PATCH", path, b"mine").status == 202
    for user, told in (("eve", (404, "BLOB_UPLOAD_UNKNOWN")), (None, (401, "UNAUTHORIZED"))):
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            tail = f"?digest={digest_of(b'mine')}" if method == "PUT" else ""
            said = ask(user, method, path + tail, b"" if tail else b"hers")
            assert (said.status, *said.codes) == told, (user, method)
    assert data(nora, path).read_bytes() == b"mine"
    assert ask("kim", "PUT", f"{path}?digest={digest_of(b'mine')}").status == 201
    refused = nora.wait_for_audit(4, status=404, user="eve")
    assert {line["method"] for line in refused} == {"GET", "PATCH", "PUT", "DELETE"}


def test_heads_of_uploads(nora: Nora) -> None:
    """HEAD is nothing that an upload offers, whatever its name is made of, and gets no body."""
    path = begin(nora)
    for trick in ("", "/", "/..", "%00", "%2f..", "x" * 5000):
        with Wire(nora.port) as wire:
            wire.request("HEAD", path + trick)
            assert wire.said("HEAD").status in (400, 404, 405)
            wire.request("GET", "/v2/")
            assert wire.said().status == 200
    assert nora.get(path, method="DELETE").status == 204


def test_odd_annotations(nora: Nora) -> None:
    """What JSON can say and few can write, halves of characters and NUL, is kept, and listed in JSON that is whole."""
    config = b"{}"
    with Wire(nora.port) as wire:
        path = f"{UPLOADS}?digest={digest_of(config)}"
        wire.request("POST", path, [f"Content-Length: {len(config)}"], config)
        assert wire.said().status == 201
        described = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(config), "size": 2}
        odd = {"\ud800": "\0\udfff", "k": "\u2028" * 1000}
        kind = "application/vnd.oci.image.manifest.v1+json"
        document = {"schemaVersion": 2, "mediaType": kind, "config": described, "layers": []}
        body = json.dumps({**document, "subject": described, "annotations": odd}).encode()
        headers = [f"Content-Length: {len(body)}", f"Content-Type: {kind}"]
        wire.request("PUT", "/v2/team/app/manifests/odd", headers, body)
        assert wire.said().status == 201
        wire.request("GET", f"/v2/team/app/referrers/{digest_of(config)}")
        (listed,) = json.loads(wire.said().body)["manifests"]
        assert listed["annotations"] == odd
        wire.request("GET", "/v2/team/app/manifests/odd")
        assert wire.said().body == body
    assert "Traceback" not in nora.log


def test_ten_thousand_sessions(room: Room) -> None:
    """10,000 sessions may be open; one more is told to come back, memory stays, and others are answered meanwhile."""
    most = 10_000
    nora = started(room, max_uploads=most)
    begin(nora)
    before = nora.resident()
    over = threading.Event()
    waits: list[float] = []

    def other() -> None:
        with Wire(nora.port) as wire:
            while not over.wait(0.01):
                began = time.perf_counter()
                wire.request("GET", "/v2/")
                assert wire.said().status == 200
                waits.append(time.perf_counter() - began)

    watching = threading.Thread(target=other)
    watching.start()
    try:
        with Wire(nora.port) as wire:
            for _ in range((most - 1) // 50):
                wire.send(
                    f"POST {UPLOADS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode() * 50
                )
                for _ in range(50):
                    assert wire.said().status == 202
            for session in (nora.store / "uploads").iterdir():
                # However long that took: one that is idle for a minute would make room.
                os.utime(session / "data")
            statuses = []
            for _ in range(60):
                wire.request("POST", UPLOADS, ["Content-Length: 0"])
                said = wire.said()
                statuses.append(said.status)
            assert (said.status, said.codes) == (503, ["TOOMANYREQUESTS"])
            assert int(said.headers["retry-after"]) > 0
    finally:
        over.set()
        watching.join()
    # The count is looked up once a second, so it may be exceeded by few.
    assert 40 <= statuses.count(202) <= 50
    assert len(list((nora.store / "uploads").iterdir())) <= most + 5
    assert nora.resident() - before < 24 * MEBIBYTE
    assert statistics.median(waits) < 0.05
    assert max(waits) < 2
