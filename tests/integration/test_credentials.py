"""A registry that wants a login, before a daemon that has one: what clients get, and what is told of the secret."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.support.daemon import Nora, Reply
from tests.support.images import Image, image_of_blobs, noise
from tests.support.programs import wait_for
from tests.support.registry import PASSWORD, USER, Registry
from tests.support.room import Room

pytestmark = pytest.mark.needs("docker-registry")

_NAME = "team/private"


@pytest.fixture(scope="module")
def image() -> Image:
    """Give the image."""
    return image_of_blobs([noise(100_000, 1), noise(5000, 2)])


@pytest.fixture
def registry(room: Room, image: Image) -> Registry:
    """Start a registry that has the image and wants Basic credentials for everything."""
    registry = room.registry()
    registry.push(_NAME, "1", image)
    registry.lock()
    return registry


def start(room: Room, registry: Registry, **keys: object) -> Nora:
    """Start NORA before it; `keys` are the upstream's."""
    nora = Nora(room.place("nora"), [{"url": registry.url, "name": "mine", **keys}])
    return room.start(nora)


def replies(nora: Nora, image: Image) -> list[Reply]:
    """Ask for all of the image, in every way."""
    manifests = [f"/v2/{_NAME}/manifests/{reference}" for reference in ("1", image.manifest.digest)]
    blobs = [f"/v2/{_NAME}/blobs/{layer.digest}" for layer in image.layers]
    return [nora.get(path, method=method) for path in (*manifests, *blobs) for method in ("GET", "HEAD")]


def statuses(nora: Nora, image: Image) -> set[int]:
    """Give the statuses of all of it."""
    return {reply.status for reply in replies(nora, image)}


def everything_told(nora: Nora) -> str:
    """Collect what the daemon tells anybody: logs, metrics, health, audit."""
    audit = nora.store / "audit.jsonl"
    parts = [nora.log, audit.read_text() if audit.exists() else ""]
    parts += [nora.get(path).body.decode() for path in ("/metrics", "/health", f"/v2/{_NAME}/manifests/1")]
    return "\n".join(parts)


def test_shared_then_private(room: Room, registry: Registry, image: Image) -> None:
    """With `share` everybody gets it; without, from the next reload on, nobody, stored as it is, credential or not."""
    login = {"auth": f"{USER}:{PASSWORD}"}
    nora = start(room, registry, share="everyone", **login)
    assert statuses(nora, image) == {200}
    nora.configure([{"url": registry.url, "name": "mine", **login}])
    nora.signal(signal.SIGHUP)
    wait_for(lambda: nora.get(f"/v2/{_NAME}/manifests/1").status == 403, "the reload")
    for reply in replies(nora, image):
        assert reply.status == 403
    error = json.loads(nora.get(f"/v2/{_NAME}/manifests/1").body)["errors"][0]
    assert error["code"] == "DENIED"
    assert "share" in error["message"]
    nora.stop()
    registry.stop()
    nora.configure([{"url": registry.url, "name": "mine"}])
    nora.start()
    assert statuses(nora, image) == {403}
    assert PASSWORD not in everything_told(nora)


def test_refused(room: Room, registry: Registry, image: Image) -> None:
    """A wrong password is an outage that is told everywhere; what is cached is served; a right one ends it."""
    password = room.place("password")
    password.write_text("wrong-secret\n")
    password.chmod(0o600)
    nora = start(room, registry, username=USER, password_file=str(password), share="everyone")
    reply = nora.get(f"/v2/{_NAME}/manifests/1")
    assert reply.status == 502
    assert json.loads(reply.body)["errors"][0]["detail"][0]["reason"] == "our credential was refused"
    assert nora.log.count("our credential was refused") == 1

    def asked() -> int:
        return sum(_NAME in each.path and each.status == 401 for each in registry.requests())

    wait_for(lambda: asked() == 2, "two lines in the registry's log")
    for _ in range(3):
        assert nora.get(f"/v2/{_NAME}/manifests/1").status == 502
    assert asked() == 2, "a refused credential is not shown again at once"
    nora.signal(signal.SIGHUP)
    wait_for(lambda: "the configuration was read again" in nora.log, "the reload")
    assert nora.get(f"/v2/{_NAME}/manifests/1").status == 502
    wait_for(lambda: asked() == 3, "one more line, for a reload has it shown again")
    assert nora.metric("nora_upstream_credential_refused_total", upstream="mine") == 2
    health = json.loads(nora.get("/health").body)
    [upstream] = health["upstreams"]
    assert upstream["last_error"] == "our credential was refused"
    assert any("mine" in text and "our credential was refused" in text for text in health["warnings"])
    assert "wrong-secret" not in everything_told(nora)
    password.write_text(PASSWORD)
    assert nora.get(f"/v2/{_NAME}/manifests/1").status == 200
    assert not any("mine" in text for text in json.loads(nora.get("/health").body)["warnings"])
    password.write_text("wrong-secret")
    assert nora.get(f"/v2/{_NAME}/manifests/1").status == 200
    assert nora.get(f"/v2/{_NAME}/blobs/{image.layers[0].digest}").status == 502


def test_credential_helper(room: Room, registry: Registry, image: Image) -> None:
    """A program run by the daemon gives the password, once for the whole image."""
    folder = room.place("bin")
    folder.mkdir()
    program = folder / "docker-credential-tests"
    answer = json.dumps({"ServerURL": "", "Username": USER, "Secret": PASSWORD})
    program.write_text(f"#!/bin/sh\ncat >> {folder}/asked\necho >> {folder}/asked\necho '{answer}'\n")
    program.chmod(0o755)
    host = registry.url.removeprefix("http://")
    config = Path(folder, "config.json")
    config.write_text(json.dumps({"credHelpers": {host: "tests"}}))
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}:{before}"
    try:
        nora = start(room, registry, docker_config=str(config), share="everyone")
    finally:
        os.environ["PATH"] = before
    assert statuses(nora, image) == {200}
    assert (folder / "asked").read_text().split() == [host]
    assert PASSWORD not in everything_told(nora)
