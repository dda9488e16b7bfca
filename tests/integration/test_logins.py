"""Real clients log in to a daemon that wants it, as their users are used to, and pull; and some who never do."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.support.daemon import Nora
from tests.support.doors import PASSWORD, TOKEN, basic, write_users
from tests.support.engines import Containerd, Docker, Held, Skopeo, digests_in
from tests.support.images import Image, image, layer_of_noise
from tests.support.podman import Podman
from tests.support.programs import wait_for
from tests.support.registry import Registry
from tests.support.room import Room, needs_root

_MANIFEST = "/v2/library/thing/manifests/1"


@pytest.fixture(scope="module")
def thing() -> Image:
    """Make the image."""
    return image([layer_of_noise(300_000, 1), layer_of_noise(2000, 2)])


@pytest.fixture(scope="module")
def registry(house: Room, thing: Image) -> Registry:
    """Start the upstream and fill it."""
    registry = house.registry()
    for name in ("library/thing", "library/secret"):
        registry.push(name, "1", thing)
    return registry


@pytest.fixture
def users(room: Room) -> Path:
    """Write the file of users."""
    path = room.place("users")
    write_users(path, "alice", "bob")
    return path


def settings(users: Path, *rules: tuple[str, str, list[str]], **auth: object) -> dict[str, dict[str, object]]:
    """Give the sections of a configuration with logins."""
    tables = [{"user": user, "repository": name, "actions": actions} for user, name, actions in rules]
    return {
        "auth": {"htpasswd": str(users), "tokens": [{"user": "ci", "token": TOKEN}], **auth},
        "access": {"rules": tables},
    }


def start(room: Room, registry: Registry, sections: dict[str, dict[str, object]]) -> Nora:
    """Start NORA before the upstream."""
    upstream = {"url": registry.url, "namespace": "docker.io"}
    return room.start(Nora(room.place("nora"), [upstream], sections))


@pytest.fixture
def closed(room: Room, registry: Registry, users: Path) -> Nora:
    """Start NORA without anonymous pulls."""
    return start(room, registry, settings(users, anonymous_pull=False))


def host(nora: Nora) -> str:
    """Tell host and port."""
    return f"127.0.0.1:{nora.port}"


def pulled_by(nora: Nora, user: str | None) -> None:
    """Assert that all that was pulled was pulled by `user`."""
    lines = nora.wait_for_audit(1, action="pull", status=200)
    assert {line["user"] for line in lines} == {user}


@pytest.mark.needs("docker-registry", "skopeo")
def test_skopeo(room: Room, closed: Nora, thing: Image) -> None:
    """Skopeo logs in, inspects and copies; with a wrong password, and without any, it does not."""
    skopeo = Skopeo(room.place("skopeo"))
    name = f"docker://{host(closed)}/library/thing:1"
    with pytest.raises(AssertionError, match="unauthorized"):
        skopeo.inspect(name)
    with pytest.raises(AssertionError, match=r"unauthorized|invalid"):
        skopeo.login(host(closed), "alice", "wrong")
    assert skopeo.inspect(name, "--creds", f"bob:{PASSWORD}") == thing.manifest.digest
    assert "Login Succeeded" in skopeo.login(host(closed), "alice", PASSWORD)
    assert skopeo.inspect(name) == thing.manifest.digest
    skopeo.copy(name, room.place("copied"))
    failed = closed.wait_for_audit(1, action="login", status=401)
    assert failed[0]["user"] == "alice"
    assert closed.metric("nora_logins_total", outcome="refused") == 1


@pytest.mark.needs("docker-registry", "podman")
@needs_root
def test_podman(room: Room, closed: Nora, thing: Image) -> None:
    """Podman logs in, here with a token as its password, and pulls."""
    podman = Podman(room.place("podman"), host(closed))
    room.at_end(podman.stop)
    name = f"{host(closed)}/library/thing:1"
    with pytest.raises(AssertionError, match="unauthorized"):
        podman.pull(name)
    assert "Login Succeeded" in podman.login(host(closed), "ci", TOKEN)
    podman.pull(name)
    assert podman.held(name) == Held(thing.config.digest, thing.diff_ids)
    pulled_by(closed, "ci")


@pytest.mark.needs("docker-registry", "dockerd", "docker")
@needs_root
def test_docker(room: Room, closed: Nora, thing: Image) -> None:
    """Docker logs in and pulls by NORA's own name."""
    docker = room.start(Docker(room.place("docker"), closed.url))
    name = f"{host(closed)}/library/thing:1"
    with pytest.raises(AssertionError, match=r"denied|unauthorized|no basic auth"):
        docker.pull(name)
    with pytest.raises(AssertionError, match="unauthorized"):
        docker.login(host(closed), "alice", "wrong")
    assert "Login Succeeded" in docker.login(host(closed), "alice", PASSWORD)
    docker.pull(name)
    assert docker.held(name) == Held(thing.config.digest, thing.diff_ids)
    pulled_by(closed, "alice")


@pytest.mark.needs("docker-registry", "dockerd", "docker")
@needs_root
def test_docker_mirror(room: Room, registry: Registry, users: Path, thing: Image) -> None:
    """An engine whose mirror is NORA sends no token, and pulls where anonymous clients may."""
    nora = start(room, registry, settings(users))
    docker = room.start(Docker(room.place("docker"), nora.url))
    docker.pull("thing:1")
    assert docker.held("thing:1") == Held(thing.config.digest, thing.diff_ids)
    pulled_by(nora, None)


@pytest.mark.needs("docker-registry", "containerd", "ctr")
@needs_root
def test_containerd(room: Room, closed: Nora, thing: Image) -> None:
    """`ctr` asks for its token by POST, with user and password."""
    containerd = room.start(Containerd(room.place("containerd"), closed.url))
    with pytest.raises(AssertionError):
        containerd.pull_as("alice", "wrong", f"{host(closed)}/library/thing:1")
    containerd.pull_as("alice", PASSWORD, f"{host(closed)}/library/thing:1")
    assert containerd.content_digest(thing.manifest.digest) == thing.manifest.digest
    pulled_by(closed, "alice")


@pytest.mark.needs("docker-registry", "skopeo")
def test_anonymous_skopeo(room: Room, registry: Registry, users: Path, thing: Image) -> None:
    """Skopeo without a login fetches an anonymous token by itself."""
    nora = start(room, registry, settings(users))
    target = room.place("copied")
    Skopeo(room.place("skopeo")).copy(f"docker://{host(nora)}/library/thing:1", target)
    assert thing.manifest.digest in digests_in(target)
    pulled_by(nora, None)


@pytest.mark.needs("docker-registry")
def test_rules_and_reload(room: Room, registry: Registry, users: Path) -> None:
    """Rules close what is cached as well, under every name of it, from the reload on; no secret is ever shown."""
    nora = start(room, registry, settings(users))
    alice, bob, ci = (
        {"Authorization": basic(*each)} for each in (("alice", PASSWORD), ("bob", PASSWORD), ("ci", TOKEN))
    )
    names = ("library/secret", "docker.io/library/secret", "docker.io/secret")
    paths = [*(f"/v2/{name}/manifests/1" for name in names), "/v2/library/secret/manifests/1?ns=docker.io"]
    assert [nora.get(path).status for path in paths] == [200] * 4
    asked = nora.get("/v2/token?scope=repository:library/secret:pull", bob)
    token = {"Authorization": f"Bearer {json.loads(asked.body)['token']}"}
    assert nora.get(paths[0], token).status == 200
    rules: tuple[tuple[str, str, list[str]], ...] = (
        ("alice", "docker.io/library/*", ["pull"]),
        ("everyone", "docker.io/library/secret", []),
        ("everyone", "*", ["pull"]),
    )
    nora.configure([{"url": registry.url, "namespace": "docker.io"}], settings(users, *rules))
    nora.signal(signal.SIGHUP)
    wait_for(lambda: nora.get(paths[0]).status == 401, "the reload")
    for path in paths:
        assert [nora.get(path, who).status for who in (alice, bob, ci)] == [200, 403, 403], path
    assert nora.get(paths[0], token).status == 403
    assert [nora.get(_MANIFEST, who).status for who in (alice, bob, {})] == [200, 200, 200]
    refused = nora.get(paths[0], bob)
    assert json.loads(refused.body)["errors"][0]["code"] == "DENIED"
    assert nora.wait_for_audit(1, user="bob", status=403)
    told = nora.log + nora.get("/metrics").body.decode() + json.dumps(nora.audit()) + refused.body.decode()
    assert PASSWORD not in told
    assert TOKEN not in told


@pytest.mark.needs("docker-registry")
def test_guessing(room: Room, closed: Nora) -> None:
    """Who guesses is held back at the eleventh guess, and guessing delays nobody else's pull."""
    statuses = [
        closed.get(_MANIFEST, {"Authorization": basic("alice", f"guess {number}")}).status
        for number in range(12)
    ]
    assert statuses == [401] * 10 + [429] * 2
    reply = closed.get("/v2/token", {"Authorization": basic("alice", PASSWORD)})
    assert reply.status == 429
    assert 0 < int(reply.headers["Retry-After"]) <= 60
    assert closed.get(_MANIFEST, {"Authorization": f"Bearer {TOKEN}"}).status == 200
    assert "guess 1" not in closed.log
    assert closed.log.count("login of alice from 127.0.0.1 refused") == 10


@pytest.mark.needs("docker-registry")
def test_remembered(closed: Nora) -> None:
    """A password that was right is checked once, however many requests it comes with."""
    alice = {"Authorization": basic("alice", PASSWORD)}
    for _ in range(50):
        assert closed.get("/v2/", alice).status == 200
    assert closed.metric("nora_logins_total", outcome="accepted") == 1
