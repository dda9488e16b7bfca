"""The page of what happens now: a real browser has it open while real clients pull and push."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.support.browser import Browser, browser
from tests.support.daemon import Nora
from tests.support.engines import Skopeo
from tests.support.images import MEBIBYTE, Image, image, layer_of_noise
from tests.support.openapi import Description
from tests.support.programs import wait_for
from tests.support.registry import PASSWORD, USER
from tests.support.relay import Relay
from tests.support.room import Room, tables
from tests.support.workers import Line, line_to, wait_for_workers

pytestmark = pytest.mark.needs("docker-registry", "skopeo", "chromium", "chromedriver")

_SIZE = 6 * MEBIBYTE
_BAR = "#fills progress"
_NO_STREAMS = """
    window.EventSource = class { constructor() { setTimeout(() => this.onerror()); } close() {} };
    dispatchEvent(new Event("pageshow"));
"""
_OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def thing() -> Image:
    """Make the image that the upstream has."""
    return image([layer_of_noise(_SIZE, 1)])


@pytest.fixture(scope="module")
def window(house: Room) -> Iterator[Browser]:
    """Start the browser."""
    with browser(house.place("browser")) as started:
        yield started


def _now(nora: Nora) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(nora.get("/api/v1/now").body)
    return told


def _bar(window: Browser) -> float:
    """Tell how far the first bar is, from 0 to 1; -1 where there is none."""
    return float(window.run(f"const bar = document.querySelector('{_BAR}'); return bar ? bar.position : -1"))


def test_bar_moves(room: Room, relay: Relay, window: Browser, thing: Image) -> None:
    """The bar of a fill moves on the open page, and ends; the pull that it was for is then among the recent ones."""
    nora = room.nora(relay)
    window.open(f"{nora.url}/ui/now")
    assert "Nothing is being fetched" in window.text("#fills")
    wait_for(lambda: window.is_seen("#live"), "word that the page is live")
    relay.rate = 2 * MEBIBYTE
    relay.hold(_SIZE // 3 // 65536 * 65536)
    image_name = f"docker://127.0.0.1:{nora.port}/library/thing:1"
    pulling = threading.Thread(
        target=Skopeo(room.place("skopeo")).copy, args=(image_name, room.place("pulled"))
    )
    pulling.start()
    try:
        wait_for(lambda: 0 < _bar(window) < 0.5, "the bar of the fill")
        assert "docker.io/library/thing" in window.text("#fills")
        assert "1 client following" in window.text("#fills")
        told = _now(nora)
        (fill,) = [each for each in told["fills"] if each["total_bytes"] > MEBIBYTE]
        assert fill["repositories"] == ["docker.io/library/thing"]
        assert fill["digest"] == thing.layers[0].digest
        assert 0 < fill["stored_bytes"] < fill["total_bytes"] == thing.layers[0].size
        window.run(f"document.querySelector('{_BAR}').mine = true")
        relay.release()
        wait_for(lambda: _bar(window) > 0.5, "the bar to move")
        assert window.run(f"return document.querySelector('{_BAR}').mine"), "it is another bar"
    finally:
        relay.release()
        pulling.join(30)
    wait_for(lambda: _bar(window) == -1, "the end of the fill")
    wait_for(lambda: "thing 1" in window.text("#pulls"), "the pull")
    row = window.text("#pulls tbody tr")
    for word in ("docker.io/library/thing", "127.0.0.1", "Upstream", "6.0 MiB"):
        assert word in row, row
    Skopeo(room.place("skopeo")).copy(image_name, room.place("pulled"))
    wait_for(lambda: "Store" in window.text("#pulls tbody tr"), "a pull from the store")
    assert window.errors() == []
    assert nora.stop() == 0
    wait_for(lambda: window.is_seen("#connection"), "word of the lost server")
    assert not window.is_seen("#live")
    nora.start()
    wait_for(lambda: window.is_seen("#live") and not window.is_seen("#connection"), "word that it is back")
    window.errors()


def _stored(line: Line) -> int:
    """Tell how many bytes of its fills a worker has in the store, by what it tells."""
    return sum(each["stored_bytes"] for each in json.loads(line.ask("/api/v1/now").body)["fills"])


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """Read the events of a stream."""
    for line in response:
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


def test_every_worker_tells_the_same(room: Room, relay: Relay, window: Browser, thing: Image) -> None:
    """With two workers each tells what both do: as page, as JSON that is as described, and as a stream."""
    nora = room.unstarted_nora(relay)
    nora.configure(tables(relay), {"server": {"workers": 2}})
    nora.start()
    relay.hold(_SIZE // 2 // 65536 * 65536)
    leading, following = wait_for_workers(nora, 2)
    description = Description(json.loads(nora.get("/api/v1/openapi.json").body))
    path = f"/v2/library/thing/blobs/{thing.layers[0].digest}"
    with line_to(nora, leading) as first, line_to(nora, following) as second:
        with line_to(nora, leading) as client, line_to(nora, following) as listener:
            listening = _events(listener.begin("/api/v1/now/events"))
            assert next(listening)["fills"] == []
            blob = client.begin(path)
            for line in (first, second):
                wait_for(partial(_stored, line), "a part of the blob in the store")
                told = json.loads(line.ask("/api/v1/now").body)
                description.check("/now", 200, "application/json", told)
                (fill,) = told["fills"]
                assert (fill["followers"], fill["state"]) == (1, "fetching")
                assert 0 < fill["stored_bytes"] < _SIZE
                assert b"<progress" in line.ask("/ui/now").body
            event = next(each for each in listening if each["fills"])
            description.check_event("Now", event)
            assert event["fills"][0]["digest"] == thing.layers[0].digest
            window.open(f"{nora.url}/ui/now")
            assert 0 < _bar(window) < 1
            for width in (360, 1280):
                window.look(width)
                assert window.run(_OVERFLOW) <= 0, width
            relay.release()
            assert len(blob.read()) == thing.layers[0].size
            event = next(each for each in listening if each["pulls"] and not each["fills"])
            assert event["pulls"][0]["bytes"] == thing.layers[0].size
        for line in (first, second):
            (pull,) = json.loads(line.ask("/api/v1/now").body)["pulls"]
            assert (pull["client"], pull["hit"]) == ("127.0.0.1", False)
        os.kill(following, signal.SIGSTOP)
        try:
            told = json.loads(first.ask("/api/v1/now").body)
        finally:
            os.kill(following, signal.SIGCONT)
        assert told["silent_workers"] in ([1], [2])
    wait_for(lambda: _bar(window) == -1, "the end of the fill")


def test_pushes(room: Room, relay: Relay, window: Browser) -> None:
    """An upload that is open is shown with its bytes, also where no stream is to be had, and goes with its end."""
    nora = room.nora(relay)
    window.open(f"{nora.url}/ui/now")
    window.run(_NO_STREAMS)
    connection = http.client.HTTPConnection("127.0.0.1", nora.port, timeout=30)
    connection.request("POST", "/v2/team/app/blobs/uploads/", headers={"Content-Length": "0"})
    begun = connection.getresponse()
    begun.read()
    connection.request("PATCH", begun.headers["Location"], body=b"x" * 5000)
    assert connection.getresponse().read() == b""
    (push,) = _now(nora)["pushes"]
    assert (push["repository"], push["bytes"], push["user"]) == ("team/app", 5000, None)
    wait_for(lambda: "team/app" in window.text("#pushes"), "the upload on the page")
    connection.request("DELETE", begun.headers["Location"])
    connection.getresponse().read()
    connection.close()
    assert _now(nora)["pushes"] == []


def test_private_is_hidden(room: Room, thing: Image) -> None:
    """What is private from a reload on is not told any more; streams from before it end."""
    registry = room.registry()
    registry.push("team/private", "1", thing)
    registry.lock()
    table = {"url": registry.url, "namespace": "mine", "auth": f"{USER}:{PASSWORD}"}
    nora = room.start(Nora(room.place("nora"), [{**table, "share": "everyone"}]))
    assert nora.get("/v2/mine/team/private/manifests/1").status == 200
    assert [each["repository"] for each in _now(nora)["pulls"]] == ["mine/team/private"]
    listening = nora.download("/api/v1/now/events")
    nora.configure([table])
    nora.signal(signal.SIGHUP)
    assert b"team/private" in listening.rest()
    listening.close()
    assert _now(nora)["pulls"] == []
    assert b"team/private" not in nora.get("/ui/now").body


def test_streams_end_with_the_server(room: Room, relay: Relay) -> None:
    """A stream ends in order when the server stops, and does not keep its workers from stopping."""
    nora = room.unstarted_nora(relay)
    nora.configure(tables(relay), {"server": {"workers": 2, "drain_timeout": 30}})
    nora.start()
    listening = nora.download("/api/v1/now/events")
    began = time.monotonic()
    assert nora.stop() == 0
    assert b"data: {" in listening.rest()
    listening.close()
    assert time.monotonic() - began < 15
