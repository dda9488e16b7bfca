"""Bad input to the endpoints that take content, byte by byte: refused in order, told, and nothing stored."""

from __future__ import annotations

import json
import os

import pytest

from tests.support.bad_pushes import MOST, NAME, ROWS, UPLOADS, Row
from tests.support.daemon import Nora
from tests.support.images import MEBIBYTE, Image, image_of_blobs, push
from tests.support.programs import wait_for
from tests.support.room import Room
from tests.support.wire import Wire, stored

SURPLUS = 40 * MEBIBYTE
"""What all rows together may add to the daemon's memory."""


class House:
    """A daemon with one image, and what was asked of it."""

    def __init__(self, nora: Nora, image: Image) -> None:
        self.nora = nora
        self.image = image
        self.asked: dict[str, int] = {}
        """The status of each refusal that the audit log must have, by the request's id."""
        self.resident = 0

    def session(self, name: str = NAME) -> str:
        """Begin an upload, and give its id."""
        with Wire(self.nora.port) as wire:
            wire.request("POST", f"/v2/{name}/blobs/uploads/", ["Content-Length: 0"])
            said = wire.said()
        assert said.status == 202
        return said.headers["location"].rpartition("/")[2]

    def end(self, session: str) -> None:
        """End an upload, if it did not end."""
        with Wire(self.nora.port) as wire:
            wire.request("DELETE", UPLOADS + session)
            assert wire.said().status in (204, 404)


@pytest.fixture(scope="module")
def there(house: Room) -> House:
    """Give the daemon to all rows."""
    return open_house(house)


def open_house(room: Room) -> House:
    """Start the daemon and push its image."""
    nora = Nora(
        room.place("nora"),
        (),
        {"docker": {"max_upload_size": MOST}, "server": {"stall_timeout": 2, "header_timeout": 20}},
    )
    room.start(nora)
    image = image_of_blobs([b"a layer"])
    push(nora.port, NAME, "good", image)
    made = House(nora, image)
    made.resident = nora.resident()
    return made


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_refused(there: House, row: Row) -> None:
    """Refused with its status and code, told, nothing stored, and the connection and the daemon as they should be."""
    nora = there.nora
    session = there.session() if "session}" in row.path.lower() else ""
    path = row.path.replace("{session}", session).replace("{SESSION}", session.upper())
    before, log = stored(nora.store), len(nora.log)
    id = os.urandom(8).hex()
    with Wire(nora.port) as wire:
        wire.request(row.method, path, (*row.headers, f"X-Request-ID: {id}"), row.body)
        said = wire.said(row.method)
        assert (said.status, said.codes) == (row.status, [row.code]), said
        kept = said.headers.get("connection") != "close"
        assert row.kept in (kept, None)
        if kept:
            wire.request("GET", "/v2/", ["X-Request-ID: after"])
            after = wire.said()
            assert (after.status, after.headers["x-request-id"]) == (200, "after")
        else:
            assert wire.ended(), "the connection goes on"
    if row.told:
        assert said.headers["x-request-id"] == id
        there.asked[id] = row.status
    else:
        wait_for(lambda: f"was refused as {row.status}" in nora.log[log:], "a line in the log")
    wait_for(
        lambda: all(set(now) <= set(before[kind]) for kind, now in stored(nora.store).items()),
        "nothing stored",
    )
    if session:
        there.end(session)
    assert nora.get("/health").status == 200
    assert "Traceback" not in nora.log[log:], nora.log[log:]


def test_told(there: House) -> None:
    """The audit log has a line of each refusal."""
    test_refused(there, ROWS[0])
    for id, status in there.asked.items():
        (line,) = there.nora.wait_for_audit(1, id=id)
        assert (line["status"], line["aborted"]) == (status, False)


def test_still_whole(there: House) -> None:
    """After all of that the image is what it was, and no other is listed."""
    nora, image = there.nora, there.image
    for blob in image.blobs:
        assert nora.get(f"/v2/{NAME}/blobs/{blob.digest}").body == blob.data
    assert nora.get(f"/v2/{NAME}/manifests/good").body == image.manifest.data
    assert json.loads(nora.get(f"/v2/{NAME}/tags/list").body)["tags"] == ["good"]
    assert json.loads(nora.get("/v2/_catalog").body)["repositories"] == [NAME]
    assert not list((nora.store / "uploads").iterdir())


def test_flat(there: House) -> None:
    """All of it together has not made the daemon any larger to speak of, at no moment."""
    assert there.nora.peak() - there.resident < SURPLUS, (there.nora.peak(), there.resident)
