"""`make screenshots`: a picture of every page, light and dark, and as a phone shows it, into docs/images.

The daemon, its upstreams and what is pulled are real; the sums of the days before are made up, by a fixed rule.
"""

from __future__ import annotations

import math
import random
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

from tests.support import stock
from tests.support.browser import Browser, browser
from tests.support.busy import busy
from tests.support.daemon import Nora
from tests.support.images import Image, image, layer_of_noise
from tests.support.programs import free_port, wait_for
from tests.support.room import Room, make_room

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
PAGES = {
    "dashboard": "/ui/?period=day",
    "upstreams": "/ui/upstreams",
    "client": "/ui/client",
    "activity": "/ui/activity?repository=nginx",
    "purge": "/ui/actions/purge?repository=docker.io/library/nginx&tag=1",
    "contents": "/ui/contents",
    "repository": "/ui/contents/docker.io/library/nginx",
    "index": "/ui/contents/docker.io/library/nginx:1.27",
    "image": "/ui/contents/shop/web:2.4.1",
}
_ROW = "INSERT OR REPLACE INTO sums VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


def main() -> int:
    """Take the pictures; gives the exit status."""
    IMAGES.mkdir(exist_ok=True)
    room = make_room()
    try:
        nora = _nora(room)
        with browser(room.place("browser")) as window:
            for name, path in PAGES.items():
                _take(window, nora.url + path, name)
            with busy(room) as working:
                _take(window, f"{working.url}/ui/now", "now")
    finally:
        room.end()
    return 0


def _take(window: Browser, url: str, name: str) -> None:
    for suffix, width, dark in (("light", 1200, False), ("dark", 1200, True), ("phone", 390, False)):
        window.look(width, dark=dark, scale=1.25)
        window.open(url)
        path = IMAGES / f"{name}-{suffix}.png"
        window.picture(path)
        sys.stdout.write(f"{path}\n")


def _nora(room: Room) -> Nora:
    """Start NORA with a past, two upstreams that answer and one that does not, and pull through it."""
    registry = room.registry()
    made: dict[str, Image] = {}
    for name in ("library/nginx", "library/redis", "app/web"):
        made[name] = image([layer_of_noise(400_000, len(name))])
        registry.push(name, "1", made[name])
    upstreams = [
        {"url": registry.url, "name": "registry-1.docker.io", "namespace": "docker.io"},
        {"url": room.relay(registry).url, "name": "ghcr.io", "namespace": "ghcr.io"},
        {"url": f"http://127.0.0.1:{free_port()}", "name": "quay.io", "namespace": "quay.io"},
    ]
    nora = Nora(room.place("nora"), upstreams)
    room.start(nora)
    nora.stop()
    _make_past(nora.store / "index.sqlite")
    nora.start()
    for name in ("docker.io/library/nginx", "docker.io/library/redis", "ghcr.io/app/web", "ghcr.io/app/none"):
        for _ in range(3):
            nora.get(f"/v2/{name}/manifests/1")
        for blob in getattr(made.get(name.partition("/")[2]), "blobs", ()):
            nora.get(f"/v2/{name}/blobs/{blob.digest}")
    for number in range(4):
        nora.get(f"/v2/quay.io/app/{number}/manifests/1")
    wait_for(lambda: b"Passed over" in nora.get("/ui/upstreams").body, "the circuit of who is dead")
    stock.stock(nora, registry, room)
    return nora


def _make_past(path: Path) -> None:
    """Write sums for 30 days: busy by day, quiet by night and on Sundays, the cache better from week to week."""
    chance = random.Random(4)
    now = int(time.time())
    with closing(sqlite3.connect(path)) as index:
        for span, begins in ((3600, now - 30 * 86400), (60, now - 86400)):
            for start in range(begins // span * span, now // span * span, span):
                day = time.gmtime(start)
                busy = max(0.05, math.sin((day.tm_hour + day.tm_min / 60 - 5) / 24 * 2 * math.pi))
                busy *= 0.25 if day.tm_wday == 6 else 1
                pulls = int(chance.gauss(90, 22) * busy * span / 3600 + chance.random())
                pulls = max(0, pulls)
                share = 0.82 + 0.13 * (start - (now - 30 * 86400)) / (30 * 86400)
                hits = sum(chance.random() < share for _ in range(pulls))
                served = int(pulls * 68e6 * chance.uniform(0.7, 1.3))
                fetched = int((pulls - hits) * 60e6 * chance.uniform(0.7, 1.3))
                pushed = int(210e6) if chance.random() < 0.02 * span / 3600 else 0
                index.execute(
                    _ROW, (span, start, pulls * 9, pulls, hits, max(served, fetched), fetched, pushed)
                )
        index.commit()


if __name__ == "__main__":
    sys.exit(main())
