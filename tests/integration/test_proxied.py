"""Whole pulls from upstreams that only a proxy can reach, counted at the proxy; a reload that goes another way."""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import Mapping
from functools import partial

import pytest
from twisted.internet.defer import Deferred

from nora.oci import Digest
from tests.support.authority import Authority
from tests.support.connect_proxy import ConnectProxy
from tests.support.daemon import Nora
from tests.support.engines import Skopeo, digests_in
from tests.support.fake_upstream import Image, make_image
from tests.support.images import noise
from tests.support.programs import wait_for
from tests.support.room import Room
from tests.support.stage import Guarded, Stage

HOST = "registry.example"
"""It resolves nowhere."""
USER = "puller:s3cret-word"
NAME = "team/app"


@pytest.fixture
def stage(room: Room) -> Stage:
    """Start the stage."""
    return room.start(Stage())


def image_of(seed: int) -> Image:
    """Make an image of two layers."""
    return make_image([noise(700_000, seed), noise(5000, seed + 1000)])


def place(upstream: Guarded, proxy: ConnectProxy, **keys: object) -> Mapping[str, object]:
    """Give the upstream's configuration."""
    return {"url": upstream.url, "name": "far", "proxy": f"http://{USER}@127.0.0.1:{proxy.port}", **keys}


def pull(nora: Nora, tag: str, image: Image) -> None:
    """Pull an image whole, as a client does, checking every byte."""
    reply = nora.get(f"/v2/{NAME}/manifests/{tag}?ns={HOST}")
    assert (reply.status, reply.body) == (200, image.manifest), reply.body
    for blob in image.blobs:
        reply = nora.get(f"/v2/{NAME}/blobs/{Digest.of(blob)}?ns={HOST}")
        assert (reply.status, reply.body) == (200, blob)


def reloaded(nora: Nora, times: int) -> bool:
    """Tell whether the configuration was read again so often."""
    return nora.log.count("the configuration was read again") == times


def check_secrets(nora: Nora, proxy: ConnectProxy, upstream: Guarded) -> None:
    """The proxy's credential goes to the proxy alone, with each tunnel, and is told nobody."""
    encoded = base64.b64encode(USER.encode()).decode()
    assert all(f"Proxy-Authorization: Basic {encoded}\r\n" in head for head in proxy.heads)
    assert encoded.encode() not in proxy.through
    assert all("proxy-authorization" not in seen.headers for seen in upstream.requests)
    told = nora.log + nora.get("/health").body.decode() + nora.get("/metrics").body.decode()
    assert "s3cret" not in told
    assert encoded not in told


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_whole_pull(room: Room, stage: Stage, tls: bool) -> None:
    """Manifest, configuration and layers come through the proxy; once stored, nothing goes through it any more."""
    image = image_of(1)
    authority = Authority()
    options = {"authority": authority, "certified": HOST} if tls else {}
    upstream = stage.upstream("far", host=HOST, auth=True, **options)
    upstream.add_image(NAME, "1", image)
    proxy = stage.proxy(upstream.port)
    keys: dict[str, object] = {}
    if tls:
        ca_file = room.place("ca")
        ca_file.write_bytes(authority.pem)
        keys["ca_file"] = str(ca_file)
    nora = room.start(Nora(room.place("nora"), [place(upstream, proxy, **keys)]))
    pull(nora, "1", image)
    assert set(proxy.targets) == {f"{HOST}:{443 if tls else 80}"}
    assert 1 <= len(proxy.heads) <= 4, "connections are used again"
    assert sorted(
        seen.path.rpartition("/")[2] for seen in upstream.requests if "/blobs/" in seen.path
    ) == sorted(str(Digest.of(blob)) for blob in image.blobs)
    assert len([seen for seen in upstream.requests if "/manifests/" in seen.path]) == 2  # 401, then the image
    assert upstream.count("/token") == 1
    assert (b"GET /v2/" in proxy.through) is not tls
    asked, tunnels = upstream.count(), len(proxy.heads)
    pull(nora, "1", image)
    assert (upstream.count(), len(proxy.heads)) == (asked, tunnels)
    check_secrets(nora, proxy, upstream)


def test_environment(room: Room, stage: Stage) -> None:
    """The daemon's environment names the proxy, and the hosts that are asked without it."""
    image = image_of(3)
    far = stage.upstream("far", host=HOST, auth=True)
    near = stage.upstream("near", auth=True)
    for upstream in (far, near):
        upstream.add_image(NAME, "1", image)
    proxy = stage.proxy(far.port)
    upstreams = [
        {"url": far.url, "name": "far"},
        {"url": near.url, "name": "near", "namespace": "near.example"},
    ]
    nora = Nora(room.place("nora"), upstreams)
    nora.variables = {
        "HTTP_PROXY": f"http://{USER}@127.0.0.1:{proxy.port}",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    room.start(nora)
    pull(nora, "1", image)
    assert set(proxy.targets) == {f"{HOST}:80"}
    tunnels = len(proxy.heads)
    assert nora.get(f"/v2/{NAME}/manifests/1?ns=near.example").body == image.manifest
    assert near.count() > 0
    assert len(proxy.heads) == tunnels
    check_secrets(nora, proxy, far)


@pytest.mark.needs("skopeo")
def test_skopeo(room: Room, stage: Stage) -> None:
    """A real client copies the image, by the registry's name as first component, through a TLS upstream's proxy."""
    image = image_of(2)
    authority = Authority()
    upstream = stage.upstream("far", host=HOST, authority=authority, certified=HOST)
    upstream.add_image(NAME, "1", image)
    proxy = stage.proxy(upstream.port)
    ca_file = room.place("ca")
    ca_file.write_bytes(authority.pem)
    nora = room.start(Nora(room.place("nora"), [place(upstream, proxy, ca_file=str(ca_file))]))
    target = room.place("copied")
    Skopeo(room.place("skopeo")).copy(f"docker://127.0.0.1:{nora.port}/{HOST}/{NAME}:1", target)
    everything = (image.manifest, *image.blobs)
    assert digests_in(target) == {str(Digest.of(data)) for data in everything}
    assert set(proxy.targets) == {f"{HOST}:443"}
    check_secrets(nora, proxy, upstream)


def test_reload(room: Room, stage: Stage) -> None:
    """With another `proxy` after SIGHUP the next pull goes the new way, and nothing goes the old one; so back."""
    upstream = stage.upstream("far", host=HOST)
    images = [image_of(seed) for seed in (3, 4, 5)]
    for number, image in enumerate(images):
        upstream.add_image(NAME, str(number), image)
    ways = [stage.proxy(upstream.port) for _ in range(2)]
    nora = room.start(Nora(room.place("nora"), [place(upstream, ways[0])]))
    for number, image in enumerate(images):
        way, other = ways[number % 2], ways[1 - number % 2]
        if number:
            nora.configure([place(upstream, way)])
            nora.signal(signal.SIGHUP)
            wait_for(partial(reloaded, nora, number), "the reload")
        tunnels, before, through = len(way.heads), len(other.heads), len(other.through)
        pull(nora, str(number), image)
        assert len(way.heads) > tunnels
        assert (len(other.heads), len(other.through)) == (before, through)
    for number, image in enumerate(images):
        pull(nora, str(number), image)


def test_the_proxy_is_down(room: Room, stage: Stage) -> None:
    """Without its proxy an upstream is not asked another way: what is stored is served, the rest is an outage."""
    image, other = image_of(6), image_of(7)
    upstream = stage.upstream("far", host=HOST)
    upstream.add_image(NAME, "1", image)
    upstream.add_image(NAME, "2", other)
    proxy = stage.proxy(upstream.port)
    nora = room.start(Nora(room.place("nora"), [place(upstream, proxy)], {"docker": {"metadata_ttl": 0}}))
    pull(nora, "1", image)
    stage.call(lambda: Deferred.fromCoroutine(proxy.stop()))
    asked = upstream.count()
    pull(nora, "1", image)
    reply = nora.get(f"/v2/{NAME}/manifests/2?ns={HOST}")
    assert reply.status == 502
    assert json.loads(reply.body)["errors"][0]["detail"][0]["reason"] == "no connection to the proxy"
    assert upstream.count() == asked
