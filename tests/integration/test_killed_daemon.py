"""kill -9 of the daemon while clients push; many pushes at once; pushing and deleting one blob at once: over HTTP."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.daemon import Nora
from tests.support.engines import Docker, Held
from tests.support.images import (
    MEBIBYTE,
    Image,
    Layer,
    digest_of,
    image,
    image_of_blobs,
    layer_of_noise,
    noise,
    push,
)
from tests.support.programs import wait_for
from tests.support.room import Room, needs_root
from tests.support.wire import Wire, stored

ROUNDS = 200
NAME = "team/app"
UPLOADS = f"/v2/{NAME}/blobs/uploads/"


def begin(nora: Nora) -> str:
    """Begin an upload, and give its path."""
    with Wire(nora.port) as wire:
        wire.request("POST", UPLOADS, ["Content-Length: 0"])
        return wire.said().headers["location"]


def received(nora: Nora) -> int:
    """Tell how many bytes of uploads are there."""
    found = (path.stat().st_size for path in (nora.store / "uploads").glob("*/data"))
    return sum(found)


def assert_whole(nora: Nora, *images: Image) -> None:
    """Look at everything the daemon lists: each manifest is one of `images`, and each of its blobs is whole."""
    known = {one.manifest.digest: one for one in images}
    for name in json.loads(nora.get("/v2/_catalog").body)["repositories"]:
        for tag in json.loads(nora.get(f"/v2/{name}/tags/list").body)["tags"] or []:
            listed = nora.get(f"/v2/{name}/manifests/{tag}")
            assert listed.status == 200, "a tag is listed whose manifest is not there"
            made = known[digest_of(listed.body)]
            for blob in made.blobs:
                got = nora.get(f"/v2/{name}/blobs/{blob.digest}")
                assert (got.status, got.short, got.body == blob.data) == (200, False, True)


def assert_blobs_whole(store: Path) -> None:
    """Hash every published blob: whatever the moment, none is half-written."""
    for path in (store / "blobs" / "sha256").glob("*/*"):
        assert digest_of(path.read_bytes()) == f"sha256:{path.name}"


Moment = Callable[[Nora, Image, Wire], None]
MOMENTS: dict[str, Moment] = {}
"""What a client has done when the daemon is killed, by name."""


def moment(work: Moment) -> Moment:
    """Have the daemon killed after `work`."""
    MOMENTS[work.__name__] = work
    return work


@moment
def after_a_session_began(nora: Nora, pushed: Image, wire: Wire) -> None:
    """Nothing is sent."""
    begin(nora)


@moment
def within_a_stream(nora: Nora, pushed: Image, wire: Wire) -> None:
    """Half of a blob is sent, and written."""
    data = pushed.layers[0].data
    wire.request("PATCH", begin(nora), [f"Content-Length: {len(data)}"], data[: len(data) // 2])
    wait_for(lambda: received(nora) > len(data) // 4, "bytes on the disk")


@moment
def within_chunks(nora: Nora, pushed: Image, wire: Wire) -> None:
    """A chunked body is on its way in one request."""
    data = pushed.layers[0].data
    path = f"{UPLOADS}?digest={pushed.layers[0].digest}"
    wire.request("POST", path, ["Transfer-Encoding: chunked"], b"%x\r\n" % len(data) + data[:-1])
    wait_for(lambda: received(nora) > len(data) // 2, "bytes on the disk")


@moment
def at_the_end_of_a_blob(nora: Nora, pushed: Image, wire: Wire) -> None:
    """A whole blob and its digest are sent; whether it is published yet, nobody knows."""
    data = pushed.layers[0].data
    path = f"{UPLOADS}?digest={pushed.layers[0].digest}"
    wire.request("POST", path, [f"Content-Length: {len(data)}"], data)


def all_blobs(pushed: Image, wire: Wire) -> None:
    """Push the blobs alone."""
    for blob in pushed.blobs:
        wire.request("POST", f"{UPLOADS}?digest={blob.digest}", [f"Content-Length: {blob.size}"], blob.data)
        assert wire.said().status == 201


def put(wire: Wire, pushed: Image, count: int) -> None:
    """Send a manifest, or only its first bytes."""
    headers = [f"Content-Length: {pushed.manifest.size}", f"Content-Type: {pushed.manifest.media_type}"]
    wire.request("PUT", f"/v2/{NAME}/manifests/1", headers, pushed.manifest.data[:count])


@moment
def within_the_manifest(nora: Nora, pushed: Image, wire: Wire) -> None:
    """All blobs are there, and half of the manifest."""
    all_blobs(pushed, wire)
    put(wire, pushed, pushed.manifest.size // 2)


@moment
def at_the_manifest(nora: Nora, pushed: Image, wire: Wire) -> None:
    """The whole manifest is sent; whether it is stored yet, nobody knows."""
    all_blobs(pushed, wire)
    put(wire, pushed, pushed.manifest.size)


@pytest.mark.parametrize("name", MOMENTS)
def test_killed(room: Room, name: str) -> None:
    """Killed at that moment and started again: nothing half-written is listed or served, and the push succeeds."""
    pushed = image_of_blobs([noise(4 * MEBIBYTE, 1), noise(1000, 2)])
    nora = room.nora()
    with Wire(nora.port) as wire:
        MOMENTS[name](nora, pushed, wire)
        nora.kill()
    assert_blobs_whole(nora.store)
    nora.start()
    assert_whole(nora, pushed)
    push(nora.port, NAME, "1", pushed)
    assert_whole(nora, pushed)
    assert json.loads(nora.get(f"/v2/{NAME}/tags/list").body)["tags"] == ["1"]
    assert_blobs_whole(nora.store)


def test_session_outlives_a_kill(room: Room) -> None:
    """What came of an upload is still there after a kill, and the client goes on from where it stands."""
    data = noise(4 * MEBIBYTE, 3)
    nora = room.nora()
    path = begin(nora)
    with Wire(nora.port) as wire:
        wire.request("PATCH", path, [f"Content-Length: {len(data)}"], data[: 3 * MEBIBYTE])
        wait_for(lambda: received(nora) > MEBIBYTE, "bytes on the disk")
        nora.kill()
    nora.start()
    told = nora.get(path)
    at = int(told.headers["Range"].partition("-")[2]) + 1
    assert told.status == 204
    with Wire(nora.port) as again:
        rest = data[at:]
        again.request("PUT", f"{path}?digest={digest_of(data)}", [f"Content-Length: {len(rest)}"], rest)
        assert again.said().status == 201
    assert nora.get(f"/v2/{NAME}/blobs/{digest_of(data)}").body == data


class Pusher(Docker):
    """An engine that pushes one image."""

    def take_in(self, name: str, what: Image, layers: Sequence[Layer], archive: Path) -> None:
        """Load an image under its name, from an archive as `docker save` writes it."""
        listed = [
            {"Config": "config.json", "RepoTags": [name], "Layers": [f"{n}.tar" for n in range(len(layers))]}
        ]
        with tarfile.open(archive, "w") as made:
            for path, content in (
                ("manifest.json", json.dumps(listed).encode()),
                ("config.json", what.config.data),
                *((f"{number}.tar", layer.compressed) for number, layer in enumerate(layers)),
            ):
                entry = tarfile.TarInfo(path)
                entry.size = len(content)
                made.addfile(entry, io.BytesIO(content))
        self._docker("load", "--input", str(archive))

    def send(self, name: str) -> bool:
        """Push it; False when that failed."""
        try:
            self._docker("push", name)
        except AssertionError:
            return False
        return True


@pytest.mark.needs("dockerd", "docker")
@needs_root
def test_killed_under_docker(room: Room) -> None:
    """The daemon is killed while dockerd pushes, and started again: `docker push` succeeds, and the image is whole."""
    layers = [layer_of_noise(24 * MEBIBYTE, 7), layer_of_noise(MEBIBYTE, 8)]
    made = image(layers)
    nora = room.nora()
    engine = room.start(Pusher(room.place("docker"), nora.url))
    name = f"127.0.0.1:{nora.port}/{NAME}:1"
    engine.take_in(name, made, layers, room.place("archive"))
    with ThreadPoolExecutor(1) as clients:
        first = clients.submit(engine.send, name)
        wait_for(lambda: received(nora) > 4 * MEBIBYTE, "bytes of the layer on the disk", 60)
        nora.kill()
        assert_blobs_whole(nora.store)
        nora.start()
        assert json.loads(nora.get("/v2/_catalog").body)["repositories"] in ([], [NAME])
        first.result()
    assert engine.send(name)
    assert_blobs_whole(nora.store)
    engine.remove(name)
    assert engine.images() == []
    engine.pull(name)
    assert engine.held(name) == Held(made.config.digest, made.diff_ids)


def test_parallel_pushes(room: Room) -> None:
    """20 pushes at once that share layers: each blob is stored once, each manifest is whole, nothing is left."""
    shared = [noise(MEBIBYTE, seed) for seed in range(4)]
    images = [image_of_blobs([*shared, noise(10_000, 100 + number)]) for number in range(20)]
    nora = room.nora()
    with ThreadPoolExecutor(20) as clients:
        pushing = [
            clients.submit(push, nora.port, f"team/app{number % 5}", f"v{number}", one)
            for number, one in enumerate(images)
        ]
        for each in pushing:
            each.result()
    assert_whole(nora, *images)
    wanted = {blob.digest for one in images for blob in (*one.blobs, one.manifest)}
    kept = stored(nora.store)
    files = [path.rpartition("/")[2] for path in kept["blobs"] if len(path.rpartition("/")[2]) == 64]
    assert sorted(files) == sorted(digest.partition(":")[2] for digest in wanted)
    assert (kept["uploads"], kept["tmp"]) == ([], [])
    listed = [json.loads(nora.get(f"/v2/team/app{n}/tags/list").body)["tags"] for n in range(5)]
    assert sorted(tag for tags in listed for tag in tags) == sorted(f"v{n}" for n in range(20))


def races(nora: Nora, rounds: int) -> dict[str, int]:
    """Push an image and delete its layer at once, `rounds` times; tell what came of it.

    Raises `AssertionError` when a manifest is served whose blob is gone.
    """
    made = image_of_blobs([b"a layer that comes and goes"])
    layer = made.layers[0]
    outcomes = {"pushed": 0, "missing": 0, "deleted": 0, "kept": 0, "gone": 0}
    body, kind = made.manifest.data, made.manifest.media_type

    def ask(method: str, path: str, data: bytes = b"", *headers: str) -> int:
        with Wire(nora.port) as wire:
            wire.request(method, path, [f"Content-Length: {len(data)}", *headers], data)
            return wire.said().status

    def put_blobs() -> None:
        for blob in made.blobs:
            assert ask("POST", f"{UPLOADS}?digest={blob.digest}", blob.data) == 201

    def pushing() -> None:
        put_blobs()
        putting()

    def putting() -> None:
        status = ask("PUT", f"/v2/{NAME}/manifests/1", body, f"Content-Type: {kind}")
        outcomes[{201: "pushed", 400: "missing"}[status]] += 1

    def deleting() -> None:
        status = ask("DELETE", f"/v2/{NAME}/blobs/{layer.digest}")
        outcomes[{202: "deleted", 403: "kept", 404: "gone"}[status]] += 1

    put_blobs()
    with ThreadPoolExecutor(2) as clients:
        for number in range(rounds):
            # Half of them push the blob as well; the others meet the removal in the manifest itself.
            work = pushing if number % 4 < 2 else putting
            pair = [work, deleting] if number % 2 else [deleting, work]
            for each in [clients.submit(one) for one in pair]:
                each.result()
            if nora.get(f"/v2/{NAME}/manifests/1").status == 200:
                got = nora.get(f"/v2/{NAME}/blobs/{layer.digest}")
                assert (got.status, got.body) == (200, layer.data), "a manifest whose blob is gone"
                assert ask("DELETE", f"/v2/{NAME}/manifests/{made.manifest.digest}") == 202
            else:
                put_blobs()
    return outcomes


def test_push_and_delete(room: Room) -> None:
    """A blob that is pushed and deleted at once, over and over: never a manifest whose blob is gone."""
    outcomes = races(room.nora(), ROUNDS)
    assert outcomes["pushed"] + outcomes["missing"] == ROUNDS
    # The test must have seen each of the courses that events can take.
    assert outcomes["pushed"], outcomes
    assert outcomes["deleted"], outcomes
    assert outcomes["missing"] + outcomes["kept"], outcomes


def test_memory_of_a_large_push(room: Room) -> None:
    """64 MiB, in one body and in chunks: memory stays, and there is never a second copy of them on the disk."""
    size = 64 * MEBIBYTE
    data = noise(size, 5)
    nora = room.nora()
    push(nora.port, NAME, "warm", image_of_blobs([noise(4 * MEBIBYTE, 6)]))
    before, used = nora.peak(), _used(nora.store)
    most, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            most[0] = max(most[0], _used(nora.store))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        with Wire(nora.port, 120) as wire:
            wire.request("PATCH", path := begin(nora), [f"Content-Length: {size}"], data)
            assert wire.said().status == 202
            wire.request("PUT", f"{path}?digest={digest_of(data)}", ["Content-Length: 0"])
            assert wire.said().status == 201
    finally:
        over.set()
        watching.join()
    assert nora.blob_path(digest_of(data)).stat().st_size == size
    assert nora.peak() - before < 12 * MEBIBYTE
    assert most[0] - used < size + MEBIBYTE


def _used(store: Path) -> int:
    """Tell how many bytes the store has on its disk; what moves or goes meanwhile counts once, or not at all."""
    used: dict[int, int] = {}
    for folder, _, names in os.walk(store):
        for name in names:
            try:
                found = os.stat(os.path.join(folder, name))
            except FileNotFoundError:
                continue
            used[found.st_ino] = found.st_blocks * 512
    return sum(used.values())
