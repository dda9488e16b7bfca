"""Real clients pull through NORA from Debian's docker-registry, which demands tokens; then with it dead.

A Docker engine goes to Docker Hub by itself when its mirror fails, so that NORA served is proved by NORA's own
audit log, and what was served by hashing what each client holds.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

import attrs
import pytest

from tests.support.daemon import Nora
from tests.support.engines import Containerd, Docker, Held, Skopeo, digests_in
from tests.support.images import (
    MEBIBYTE,
    Blob,
    Image,
    Index,
    image,
    index,
    layer_of_directory,
    layer_of_noise,
)
from tests.support.podman import Podman
from tests.support.registry import Registry
from tests.support.relay import Relay
from tests.support.room import Room, needs_root
from tests.support.tokens import TokenService

_FROM_STORE = {"hit", "stale"}


@attrs.frozen
class Images:
    """What the upstream has: `library/thing:1` and `library/multi:1`."""

    thing: Image
    multi: Index

    @property
    def held(self) -> Held:
        """What an engine must hold of thing."""
        return Held(self.thing.config.digest, self.thing.diff_ids)

    @property
    def thing_blobs(self) -> list[Blob]:
        """Every byte string of thing that a client fetches as a blob."""
        return list(self.thing.blobs)


@pytest.fixture(scope="module")
def images() -> Images:
    """Make the images, of real files and of noise."""
    real = layer_of_directory(Path(sysconfig.get_path("stdlib")) / "email", "usr/lib/email")
    thing = image([real, layer_of_noise(3 * MEBIBYTE, 1), layer_of_noise(70_000, 2)])
    both = [image([layer_of_noise(200_000, 3)], "oci"), image([layer_of_noise(200_000, 4)], "oci", "arm64")]
    return Images(thing, index(both))


@pytest.fixture(scope="module")
def tokens(house: Room) -> TokenService:
    """Start the token service."""
    return house.start(TokenService())


@pytest.fixture(scope="module")
def registry(house: Room, tokens: TokenService, images: Images) -> Registry:
    """Start the upstream, which lets nobody in without a token, and fill it."""
    registry = house.registry(tokens)
    registry.push("library/thing", "1", images.thing)
    registry.push("library/multi", "1", images.multi)
    return registry


@pytest.fixture
def nora(room: Room, relay: Relay) -> Nora:
    """Start NORA with an empty store; a tag is asked for at each pull, and served stale when nobody answers."""
    return room.nora(relay, metadata_ttl=0)


def served(nora: Nora, blobs: list[Blob], times: int, agent: str) -> None:
    """Assert that NORA sent each of `blobs` whole to `agent`, `times` in all, and the last time from its store."""
    for blob in blobs:
        lines = nora.wait_for_audit(times, method="GET", digest=blob.digest, status=200, aborted=False)
        assert len(lines) == times, lines
        assert {line["agent"].lower().partition("/")[0] for line in lines} == {agent}
        assert all(line["bytes"] == blob.size for line in lines), lines
        assert times == 1 or lines[-1]["cache"] in _FROM_STORE, lines


def kill(relay: Relay) -> None:
    """Let the upstream die, after it was shown that it served."""
    assert relay.count("GET", "/blobs/") > 0
    relay.refuse()
    relay.forget()


@pytest.mark.needs("dockerd", "docker", "docker-registry")
@needs_root
def test_docker_engine(room: Room, nora: Nora, relay: Relay, images: Images, tokens: TokenService) -> None:
    """A Docker engine whose mirror is NORA pulls `thing:1`, and again when the upstream is dead."""
    tokens.asked.clear()
    engine = room.start(Docker(room.place("docker"), nora.url))
    engine.pull("thing:1")
    assert engine.held("thing:1") == images.held
    assert engine.repository_digests("thing:1") == [f"thing@{images.thing.manifest.digest}"]
    served(nora, images.thing_blobs, 1, "docker")
    assert [one.scope for one in tokens.asked] == ["repository:library/thing:pull"]
    assert (nora.metric("nora_cache_hits_total"), nora.metric("nora_cache_misses_total")) == (0, 1)

    engine.remove("thing:1")
    assert engine.images() == []
    kill(relay)
    engine.pull("thing:1")
    assert engine.held("thing:1") == images.held
    served(nora, images.thing_blobs, 2, "docker")
    # An engine may still have the manifest itself, and then asks by HEAD alone.
    pulls = nora.audit(method="GET", digest=images.thing.manifest.digest, status=200)
    assert nora.metric("nora_cache_misses_total") == 1
    assert nora.metric("nora_cache_hits_total") == len(pulls) - 1


@pytest.mark.needs("containerd", "ctr", "docker-registry")
@needs_root
def test_containerd(room: Room, nora: Nora, relay: Relay, images: Images) -> None:
    """`ctr` with a hosts directory, which sends `?ns=docker.io`, pulls, and again when the upstream is dead."""
    name = "docker.io/library/thing:1"
    expected = {blob.digest for blob in (images.thing.manifest, *images.thing.blobs)}
    engine = room.start(Containerd(room.place("containerd"), nora.url))
    for times in (1, 2):
        engine.pull(name)
        assert set(engine.contents()) == expected
        assert {engine.content_digest(digest) for digest in expected} == expected
        served(nora, images.thing_blobs, times, "containerd")
        engine.remove(name)
        assert engine.contents() == []
        if times == 1:
            kill(relay)
    lines = nora.audit(method="GET")
    assert lines
    assert {line["namespace"] for line in lines if line["action"] == "pull"} == {"docker.io"}


@pytest.mark.needs("podman", "docker-registry")
@needs_root
@pytest.mark.parametrize("direct", [False, True], ids=["mirror", "direct"])
def test_podman(room: Room, nora: Nora, relay: Relay, images: Images, *, direct: bool) -> None:
    """podman pulls through NORA as a mirror of docker.io and by NORA's own name, and again without upstream."""
    host = f"127.0.0.1:{nora.port}"
    name = f"{host if direct else 'docker.io'}/library/thing:1"
    engine = Podman(room.place("podman"), host)
    room.at_end(engine.stop)
    for times in (1, 2):
        engine.pull(name)
        assert engine.held(name) == images.held
        served(nora, images.thing_blobs, times, "containers")
        engine.remove(name)
        assert engine.images() == []
        if times == 1:
            kill(relay)


@pytest.mark.needs("skopeo", "docker-registry")
def test_skopeo(room: Room, nora: Nora, relay: Relay, images: Images) -> None:
    """skopeo copies an image byte for byte by NORA's own name, and again when the upstream is dead."""
    source = f"docker://127.0.0.1:{nora.port}/library/thing:1"
    expected = {blob.digest for blob in (images.thing.manifest, *images.thing.blobs)}
    client = Skopeo(room.place("skopeo"))
    for times in (1, 2):
        target = room.place("copied")
        client.copy(source, target)
        assert digests_in(target) == expected
        served(nora, images.thing_blobs, times, "skopeo")
        if times == 1:
            kill(relay)


@pytest.mark.needs("skopeo", "docker-registry")
def test_skopeo_copies_all_platforms(room: Room, nora: Nora, relay: Relay, images: Images) -> None:
    """An index comes with all its images, byte for byte, and again when the upstream is dead."""
    source = f"docker://127.0.0.1:{nora.port}/library/multi:1"
    parts = [blob for one in images.multi.images for blob in (one.manifest, *one.blobs)]
    expected = {images.multi.top.digest, *(blob.digest for blob in parts)}
    client = Skopeo(room.place("skopeo"))
    for times in (1, 2):
        target = room.place("copied")
        client.copy(source, target, "--all")
        assert digests_in(target) == expected
        served(nora, parts, times, "skopeo")
        if times == 1:
            kill(relay)
    assert (nora.metric("nora_docker_downloads_total"), nora.metric("nora_cache_misses_total")) == (4, 2)
