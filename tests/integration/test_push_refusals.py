"""What clients tell their users of pushes that are refused, and what the audit log tells the operator."""

from __future__ import annotations

import json

import attrs
import pytest

from tests.support.authority import Authority
from tests.support.connect_proxy import ConnectProxy
from tests.support.doors import PASSWORD
from tests.support.engines import Docker, Skopeo, digests_in
from tests.support.images import Image, image, layer_of_noise, write_archive, write_layout
from tests.support.room import Room, needs_root
from tests.support.stage import Stage
from tests.support.ways import Way, make_way

_NAME = "nora.internal"
"""It resolves nowhere; Docker reaches it through a proxy."""
_LOADED = "example.test/thing"


@pytest.fixture(scope="module")
def images(house: Room) -> list[Image]:
    """Make two images that have a layer in common."""
    shared = layer_of_noise(2000, 1)
    return [image([shared, layer_of_noise(3000, seed)], "oci") for seed in (2, 3)]


@pytest.fixture(scope="module")
def layouts(house: Room, images: list[Image]) -> list[str]:
    """Write them where skopeo takes them from."""
    places = [house.place("layout") for _ in images]
    for place, each in zip(places, images, strict=True):
        write_layout(place, "1", each)
    return [f"oci:{place}:1" for place in places]


@attrs.frozen
class Far:
    """A Docker engine that reaches NORA by a name of its own, over TLS that it verifies."""

    engine: Docker
    proxy: ConnectProxy
    authority: Authority

    def reach(self, way: Way) -> str:
        """Lead the name to a daemon; gives it with the port."""
        self.proxy.target = way.nora.port
        return f"{_NAME}:{way.nora.port}"


@pytest.fixture(scope="module")
def far(house: Room, images: list[Image]) -> Far:
    """Start one that has both images, as `:0` and `:1`."""
    authority = Authority()
    trusted = house.place("ca")
    trusted.write_bytes(authority.pem)
    proxy = house.start(Stage()).proxy(0)
    variables = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}", "SSL_CERT_FILE": str(trusted)}
    engine = house.start(Docker(house.place("docker"), "http://127.0.0.1:1", **variables))
    for number, each in enumerate(images):
        archive = house.place("saved")
        write_archive(archive, f"{_LOADED}:{number}", each)
        engine.load(archive)
    return Far(engine, proxy, authority)


@pytest.fixture
def skopeo(room: Room) -> Skopeo:
    """Give a skopeo that is logged in nowhere."""
    return Skopeo(room.place("skopeo"))


@pytest.mark.needs("dockerd", "docker")
@needs_root
def test_another_name(room: Room, far: Far) -> None:
    """Without logins who comes by another name than a loopback one only pulls; Docker says which key lets it push."""
    way = make_way(room, login=False, authority=far.authority, name=_NAME)
    name = f"{far.reach(way)}/team/app:1"
    far.engine.tag(f"{_LOADED}:0", name)
    with pytest.raises(AssertionError, match=r'docker\.push says who may, and it is "loopback"'):
        far.engine.push(name)
    lines = way.nora.wait_for_audit(1, action="push", status=403)
    assert {(line["user"], line["repository"]) for line in lines} == {(None, "team/app")}
    assert json.loads(way.ask("/v2/_catalog").body)["repositories"] == []

    near = f"{way.host}/team/app:1"
    far.engine.tag(f"{_LOADED}:0", near)
    digest = far.engine.push(near)
    far.engine.pull(name)
    assert far.engine.repository_digests(name)[-1].endswith(digest)


@pytest.mark.needs("dockerd", "docker")
@needs_root
def test_immutable(room: Room, far: Far) -> None:
    """Docker, logged in over verified TLS, pushes a release once and again, and is told why it cannot move it."""
    way = make_way(
        room, login=True, authority=far.authority, name=_NAME, immutable_tags=["team/*:v*"], hosted=["team/*"]
    )
    host = far.reach(way)
    name = f"{host}/team/release:v1"
    assert "Login Succeeded" in far.engine.login(host, "alice", PASSWORD)
    far.engine.tag(f"{_LOADED}:0", name)
    digest = far.engine.push(name)
    assert far.engine.push(name) == digest
    far.engine.tag(f"{_LOADED}:1", name)
    with pytest.raises(AssertionError, match=r"denied: team/release:v1 is immutable: docker\.immutable_tags"):
        far.engine.push(name)
    far.engine.tag(f"{_LOADED}:1", f"{host}/team/release:latest")
    far.engine.push(f"{host}/team/release:latest")
    assert way.manifest("team/release", "v1").digest == digest
    (line,) = way.nora.wait_for_audit(1, action="push", reference="v1", status=403)
    assert (line["user"], line["repository"]) == ("alice", "team/release")


@pytest.mark.needs("skopeo")
def test_immutable_removal(room: Room, skopeo: Skopeo, layouts: list[str], images: list[Image]) -> None:
    """skopeo cannot delete an immutable tag either, and says why; another one of the same repository it can."""
    way = make_way(room, login=False, immutable_tags=["*:v*"])
    name = f"docker://{way.host}/team/app"
    skopeo.copy(layouts[0], f"{name}:v1")
    skopeo.copy(layouts[1], f"{name}:latest")
    with pytest.raises(AssertionError, match="is immutable"):
        skopeo.delete(f"{name}:v1")
    skopeo.delete(f"{name}:latest")
    way.has("team/app", "v1", images[0])
    assert skopeo.tags(name) == ["v1"]


@pytest.mark.needs("skopeo")
def test_dead_upstreams(room: Room, skopeo: Skopeo, layouts: list[str], images: list[Image]) -> None:
    """A name that could not be pulled, because no upstream answers, is pushed all the same, and then not asked for."""
    way = make_way(room, login=False, proxy_timeout=1, read_timeout=1)
    name = f"docker://{way.host}/new/name:1"
    with pytest.raises(AssertionError, match=r"50[24]|no upstream|could answer"):
        skopeo.inspect(name)
    assert way.silent.was_asked()
    while way.silent.was_asked():
        pass
    skopeo.copy(layouts[0], name)
    back = room.place("back")
    skopeo.copy(name, back)
    assert digests_in(back) == {blob.digest for blob in (images[0].manifest, *images[0].blobs)}
    way.has("new/name", "1", images[0])
    assert way.ask("/v2/new/name/manifests/2").status == 404
    assert not way.silent.was_asked()


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ghcr.io/team/app", "ghcr.io"),
        ("quay.io/team/app", "quay.io"),
        ("library/app", r"docker\.hosted"),
    ],
)
def test_names_of_others(room: Room, open_way: Way, layouts: list[str], name: str, told: str) -> None:
    """Names that mean another registry's images are refused, and skopeo shows why."""
    client = Skopeo(room.place("skopeo"))
    with pytest.raises(AssertionError, match=rf"denied: .*{told}"):
        client.copy(layouts[0], f"docker://{open_way.host}/{name}:1")
    lines = open_way.nora.wait_for_audit(1, action="push", repository=name)
    assert {line["status"] for line in lines} == {403}


@pytest.fixture(scope="module")
def open_way(house: Room) -> Way:
    """Start a daemon without logins."""
    return make_way(house, login=False)


@pytest.mark.needs("skopeo")
def test_audit(room: Room, skopeo: Skopeo, layouts: list[str], images: list[Image]) -> None:
    """Push, mount, delete, login, and what was denied are in the audit log, each with its user."""
    way = make_way(room, login=True)
    first, second = (f"docker://{way.host}/team/{name}:1" for name in ("first", "second"))
    with pytest.raises(AssertionError, match=r"unauthorized|invalid"):
        skopeo.login(way.host, "alice", "wrong")
    skopeo.login(way.host, "alice", PASSWORD)
    skopeo.copy(layouts[0], first)
    skopeo.copy(first, second)
    skopeo.delete(second)
    other = Skopeo(room.place("skopeo"))
    other.login(way.host, "bob", PASSWORD)
    assert other.inspect(first) == images[0].manifest.digest
    for attempt in (lambda: other.copy(layouts[1], first), lambda: other.delete(first)):
        with pytest.raises(AssertionError, match=r"denied|403"):
            attempt()
    way.has("team/first", "1", images[0])

    # The denied deletion came last: with its line the others are there.
    (denied,) = way.nora.wait_for_audit(1, action="delete", status=403)
    told = {(line["user"], line["action"], line["repository"], line["status"]) for line in way.nora.audit()}
    assert denied["user"] == "bob"
    assert told >= {
        ("alice", "login", "", 401),
        ("alice", "push", "team/first", 201),
        ("alice", "mount", "team/second", 201),
        ("alice", "delete", "team/second", 202),
        ("bob", "pull", "team/first", 200),
        ("bob", "push", "team/first", 403),
    }
    assert {user for user, action, _, status in told if (action, status) == ("login", 200)} == {
        "alice",
        "bob",
    }
    assert not [
        line
        for line in told
        if line[0] == "bob" and line[1] in ("push", "mount", "delete") and line[3] != 403
    ]
    assert PASSWORD not in (way.nora.store / "audit.jsonl").read_text() + way.nora.log
