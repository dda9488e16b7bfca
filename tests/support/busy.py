"""A NORA at work: layers come slowly from an upstream, clients pull, somebody pushes."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.daemon import Nora
from tests.support.images import MEBIBYTE, Image, image, layer_of_noise
from tests.support.programs import wait_for
from tests.support.room import Room

_QUICK = {
    "library/nginx": "1.27",
    "library/redis": "7-alpine",
    "grafana/grafana": "11.3.0",
    "app/web": "main",
}
_SLOW = {"library/postgres": ("16.4", (64, 24)), "bitnami/kafka": ("3.8", (48,))}
_RATE = 3 * MEBIBYTE


@contextmanager
def busy(room: Room) -> Iterator[Nora]:
    """Give it, busy until the block ends: with three layers on their way, the first of them for two clients."""
    registry = room.registry()
    quick: dict[str, Image] = {}
    for number, (name, tag) in enumerate(_QUICK.items()):
        quick[name] = image([layer_of_noise((number + 1) * 1_300_000, number + 1)])
        registry.push(name, tag, quick[name])
    slow: dict[str, Image] = {}
    for number, (name, (tag, sizes)) in enumerate(_SLOW.items()):
        slow[name] = image(
            [layer_of_noise(size * MEBIBYTE, 10 * number + each) for each, size in enumerate(sizes)]
        )
        registry.push(name, tag, slow[name])
    relay = room.relay(registry)
    tables = [{"url": relay.url, "name": "registry-1.docker.io", "namespace": "docker.io"}]
    nora = Nora(room.place("busy"), tables, {"server": {"trusted_proxies": ["127.0.0.1"]}})
    room.start(nora)
    for client, name in enumerate((*_QUICK, *list(_QUICK)[:3], "library/nginx")):
        _pull(nora, f"10.20.0.{11 + client % 4}", name, _QUICK[name], quick[name])
    relay.rate = _RATE
    for name, made in slow.items():
        nora.get(f"/v2/docker.io/{name}/manifests/{_SLOW[name][0]}", _from("10.20.0.15"))
        for blob in made.layers:
            _begin(nora, f"/v2/docker.io/{name}/blobs/{blob.digest}")
    first = slow["library/postgres"].layers[0]
    _begin(nora, f"/v2/docker.io/library/postgres/blobs/{first.digest}")
    pushing = http.client.HTTPConnection("127.0.0.1", nora.port, timeout=30)
    try:
        pushing.request("POST", "/v2/team/shop/blobs/uploads/", headers={"Content-Length": "0"})
        begun = pushing.getresponse()
        begun.read()
        pushing.request("PATCH", begun.headers["Location"], body=bytes(11 * MEBIBYTE))
        pushing.getresponse().read()
        wait_for(lambda: nora.get("/ui/now").body.count(b" left</li>") == 3, "three layers on their way")
        yield nora
    finally:
        pushing.close()
        nora.kill()


def _pull(nora: Nora, client: str, name: str, tag: str, made: Image) -> None:
    for path in (f"manifests/{tag}", *(f"blobs/{blob.digest}" for blob in made.blobs)):
        nora.get(f"/v2/docker.io/{name}/{path}", _from(client))


def _begin(nora: Nora, path: str) -> None:
    """Have a client ask for it, and take it in a thread of its own."""

    def take() -> None:
        with suppress(OSError, http.client.HTTPException):
            nora.get(path, _from("10.20.0.15"))

    threading.Thread(target=take, daemon=True).start()


def _from(client: str) -> dict[str, str]:
    return {"X-Forwarded-For": client}
