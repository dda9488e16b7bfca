"""Real clients push to NORA and pull it back: with HTTP and HTTPS, logged in and not, while every upstream is dead.

What came back is compared by hashing it. Clients that pack layers anew choose the manifest's digest themselves, and
tell it; the others must find every byte as it was.
"""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from tests.support.doors import PASSWORD
from tests.support.engines import Containerd, Docker, Held, Skopeo, digests_in
from tests.support.images import (
    Image,
    Index,
    image,
    index,
    layer_of_noise,
    write_archive,
    write_layout,
    write_layout_archive,
)
from tests.support.podman import Buildah, Podman
from tests.support.room import Room, needs_root
from tests.support.ways import Way

_LOADED = "example.test/thing:1"
"""What the image is called before it is pushed."""


@attrs.frozen
class Goods:
    """What is pushed, and the files that clients take it from."""

    thing: Image
    """Of Docker's media types."""
    archive: Path
    """It, as `docker save` writes it."""
    multi: Index
    """Of OCI's media types."""
    layout: Path
    """It as a layout, with the tag 1."""
    packed: Path
    """The same in one file."""

    @property
    def held(self) -> Held:
        """What an engine must hold of the thing."""
        return Held(self.thing.config.digest, self.thing.diff_ids)

    @property
    def digests(self) -> set[str]:
        """Every digest of the multi."""
        parts = (blob.digest for one in self.multi.images for blob in (one.manifest, *one.blobs))
        return {self.multi.top.digest, *parts}


@pytest.fixture(scope="module")
def goods(house: Room) -> Goods:
    """Make them."""
    thing = image([layer_of_noise(1_500_000, 1), layer_of_noise(2000, 2)])
    shared = layer_of_noise(300_000, 3)
    multi = index(
        [
            image([shared, layer_of_noise(5000, seed)], "oci", name)
            for seed, name in ((4, "amd64"), (5, "arm64"))
        ]
    )
    made = Goods(thing, house.place("thing"), multi, house.place("layout"), house.place("packed"))
    write_archive(made.archive, _LOADED, thing)
    write_layout(made.layout, "1", multi)
    write_layout_archive(made.packed, "1", multi)
    return made


@pytest.fixture(scope="module")
def docker(house: Room, goods: Goods) -> Docker:
    """Start an engine that has the thing; its mirror is nowhere."""
    engine = house.start(Docker(house.place("docker"), "http://127.0.0.1:1"))
    engine.load(goods.archive)
    return engine


@pytest.fixture(scope="module")
def containerd(house: Room) -> Containerd:
    """Start a containerd."""
    return house.start(Containerd(house.place("containerd"), "http://127.0.0.1:1"))


@pytest.fixture
def skopeo(room: Room, way: Way) -> Skopeo:
    """Give a skopeo that is logged in."""
    client = Skopeo(room.place("skopeo"), way.certificates)
    way.login(client)
    return client


@pytest.mark.needs("dockerd", "docker")
@needs_root
def test_docker(way: Way, docker: Docker, goods: Goods) -> None:
    """Docker logs in, pushes what it loaded, and holds the same after a pull; a second name costs a mount."""
    name, other = f"{way.host}/team/docker:1", f"{way.host}/team/docker-too:1"
    docker.tag(_LOADED, name)
    if way.user is not None:
        with pytest.raises(AssertionError, match=r"denied|unauthorized|no basic auth"):
            docker.push(name)
    way.login(docker)
    digest = docker.push(name)
    assert way.manifest("team/docker", "1").digest == digest
    way.pushed("team/docker", digest, "docker")

    docker.tag(_LOADED, other)
    assert docker.push(other) == digest
    (line, *_) = way.nora.wait_for_audit(1, action="mount", repository="team/docker-too", status=201)
    assert line["user"] == way.user

    for each in (name, other):
        docker.remove(each)
    docker.pull(name)
    assert docker.held(name) == goods.held
    assert docker.repository_digests(name) == [f"{way.host}/team/docker@{digest}"]
    docker.remove(name)
    assert not way.silent.was_asked()


@pytest.mark.needs("podman", "buildah")
@needs_root
@pytest.mark.parametrize(
    ("way", "program", "agent"),
    [
        ("http", Podman, "containers"),
        ("https-login", Podman, "containers"),
        ("http-login", Buildah, "buildah"),
        ("https", Buildah, "buildah"),
    ],
    indirect=["way"],
)
def test_podman(room: Room, way: Way, goods: Goods, program: type[Podman | Buildah], agent: str) -> None:
    """podman and buildah log in, push what they loaded, and hold the same after a pull."""
    label = program.__name__.lower()
    name = f"{way.host}/team/{label}:1"
    client = program(room.place(label), way.host, way.certificates)
    room.at_end(client.stop)
    client.load(goods.archive, _LOADED)
    if way.user is not None:
        with pytest.raises(AssertionError, match=r"unauthorized|authentication required"):
            client.push(_LOADED, name)
    way.login(client)
    digest = client.push(_LOADED, name)
    assert way.manifest(f"team/{label}", "1").digest == digest
    way.pushed(f"team/{label}", digest, agent)

    client.remove(_LOADED)
    client.pull(name)
    assert client.held(name) == goods.held
    assert not way.silent.was_asked()


@pytest.mark.needs("skopeo")
def test_skopeo(room: Room, way: Way, goods: Goods, skopeo: Skopeo) -> None:
    """skopeo copies an index with all its images to NORA, from one name there to another, and back; then deletes it."""
    first, second = (f"docker://{way.host}/team/{name}:1" for name in ("skopeo", "skopeo-too"))
    skopeo.copy(f"oci:{goods.layout}:1", first, "--all")
    way.has("team/skopeo", "1", goods.multi)
    way.pushed("team/skopeo", goods.multi.top.digest, "skopeo")
    skopeo.copy(first, second, "--all")
    way.has("team/skopeo-too", "1", goods.multi)
    mounted = way.nora.wait_for_audit(1, action="mount", repository="team/skopeo-too", status=201)
    assert {line["user"] for line in mounted} == {way.user}
    assert skopeo.tags(f"docker://{way.host}/team/skopeo") == ["1"]

    back = room.place("back")
    skopeo.copy(second, back, "--all")
    assert digests_in(back) == goods.digests

    skopeo.delete(first)
    assert way.ask("/v2/team/skopeo/manifests/1").status == 404
    (line,) = way.nora.wait_for_audit(1, action="delete", repository="team/skopeo")
    assert (line["user"], line["status"], line["method"]) == (way.user, 202, "DELETE")
    way.has("team/skopeo-too", "1", goods.multi)


@pytest.mark.needs("containerd", "ctr")
@needs_root
def test_containerd(way: Way, containerd: Containerd, goods: Goods) -> None:
    """`ctr` pushes an index with all its images, with a hosts directory and, by HTTP, without; and has them back."""
    login = [] if way.user is None else ["--user", f"{way.user}:{PASSWORD}"]
    options = ["--plain-http"]
    if way.certificates or way.user:
        options = ["--hosts-dir", str(containerd.hosts(way.host, way.url, way.authority))]
    name = f"{way.host}/team/containerd:1"
    containerd.load(goods.packed, "example.test/multi")
    if login:
        with pytest.raises(AssertionError, match=r"401|authorization failed"):
            containerd.push(name, "example.test/multi:1", *options)
    containerd.push(name, "example.test/multi:1", *options, *login)
    way.has("team/containerd", "1", goods.multi)
    way.pushed("team/containerd", goods.multi.top.digest, "containerd")
    containerd.remove("example.test/multi:1")
    assert containerd.contents() == []

    containerd.fetch(name, *options, *login)
    assert set(containerd.contents()) == goods.digests
    assert {containerd.content_digest(digest) for digest in goods.digests} == goods.digests
    containerd.remove(name)
    assert not way.silent.was_asked()
