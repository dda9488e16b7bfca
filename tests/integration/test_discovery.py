"""Lists through NORA from Debian's docker-registry, which has no referrers API, to real clients; then with it dead."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from tests.support.daemon import Nora
from tests.support.engines import Skopeo, digests_in
from tests.support.images import Blob, Image, Index, image_of_blobs
from tests.support.programs import wait_for
from tests.support.registry import Registry
from tests.support.relay import Relay
from tests.support.room import Room, tables
from tests.support.tokens import TokenService

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
COSIGN = "application/vnd.dev.cosign.artifact.sig.v1+json"
TAGS = ["1", "10", "2", "B", "latest"]

THING = image_of_blobs([b"a layer"])
NAME = THING.manifest.digest.replace(":", "-")
"""What tags that belong to the image begin with."""


def artifact(kind: str, data: bytes) -> Image:
    """Make an artifact of one type whose manifest names `THING` as its subject."""
    made = image_of_blobs([data])
    document: dict[str, Any] = json.loads(made.manifest.data)
    document["artifactType"] = kind
    document["subject"] = THING.manifest.descriptor
    return Image(
        Blob(MANIFEST_TYPE, json.dumps(document).encode()), made.config, made.layers, made.diff_ids, "oci", {}
    )


SIGNATURE, SBOM = artifact(COSIGN, b"signature"), artifact("application/spdx+json", b"sbom")


def entry(one: Image) -> dict[str, object]:
    """Make the descriptor of an artifact, as whoever pushes it writes it into the index under the tag."""
    return {**one.manifest.descriptor, "artifactType": json.loads(one.manifest.data)["artifactType"]}


@pytest.fixture(scope="module")
def registry(house: Room) -> Registry:
    """Start the upstream, with an image, what refers to it by a tag's index, and cosign's tags."""
    registry = house.registry(house.start(TokenService()))
    for tag in TAGS:
        registry.push("library/thing", tag, THING)
    listed = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry(SIGNATURE), entry(SBOM)]}
    both = Index(Blob(INDEX_TYPE, json.dumps(listed).encode()), (SIGNATURE, SBOM))
    registry.push("library/signed", "1", THING)
    registry.push("library/signed", NAME, both)
    registry.push("library/signed", f"{NAME}.sig", SIGNATURE)
    registry.push("library/signed", f"{NAME}.att", SBOM)
    return registry


@pytest.fixture
def nora(room: Room, relay: Relay) -> Nora:
    """Start NORA with an empty store; lists and tags are asked for each time."""
    return room.nora(relay, list_ttl=0, metadata_ttl=0)


def manifests(body: bytes) -> list[dict[str, Any]]:
    """Read what an index lists."""
    found: list[dict[str, Any]] = json.loads(body)["manifests"]
    return found


@pytest.mark.needs("skopeo", "docker-registry")
def test_skopeo_lists_tags(room: Room, nora: Nora, relay: Relay) -> None:
    """skopeo lists the tags, and the same when the upstream is dead; another repository's is then an error."""
    client = Skopeo(room.place("skopeo"))
    repository = f"docker://127.0.0.1:{nora.port}/library/thing"
    assert client.tags(repository) == TAGS
    relay.refuse()
    assert client.tags(repository) == TAGS
    lines = nora.wait_for_audit(2, action="list", status=200)
    assert [line["cache"] for line in lines] == ["miss", "stale"]
    assert nora.get("/v2/library/signed/tags/list").status == 502


@pytest.mark.needs("docker-registry")
def test_pages(nora: Nora) -> None:
    """Pages lead through the list by the client's own prefix and `ns`."""
    path: str | None = "/v2/docker.io/thing/tags/list?n=2"
    seen: list[str] = []
    while path is not None:
        reply = nora.get(path)
        seen += json.loads(reply.body)["tags"]
        link = reply.headers.get("Link")
        path = None if link is None else link[1 : link.index(">")]
        assert path is None or path.startswith("/v2/docker.io/thing/tags/list?")
    assert seen == TAGS


@pytest.mark.needs("docker-registry")
def test_hangup(nora: Nora, relay: Relay) -> None:
    """SIGHUP takes over a changed `list_ttl`; the stored list is then served without asking."""
    path = "/v2/library/thing/tags/list"
    for _ in range(2):
        assert nora.get(path).headers["Cache-Status"] == "nora; fwd=miss; stored"
    nora.configure(tables(relay), {"docker": {"list_ttl": 600}})
    nora.signal(signal.SIGHUP)
    wait_for(lambda: nora.get(path).headers["Cache-Status"] == "nora; hit", "the new configuration")
    relay.forget()
    assert json.loads(nora.get(path).body)["tags"] == TAGS
    assert not relay.seen


@pytest.mark.needs("docker-registry")
def test_referrers(nora: Nora, relay: Relay) -> None:
    """What refers to an image is listed, by type too, and stays so when the upstream is dead; nothing is made up."""
    path = f"/v2/library/signed/referrers/{THING.manifest.digest}"
    reply = nora.get(path)
    assert (reply.status, reply.headers["Content-Type"]) == (200, INDEX_TYPE)
    assert manifests(reply.body) == [entry(SIGNATURE), entry(SBOM)]
    other = f"/v2/library/thing/referrers/{THING.manifest.digest}"
    assert manifests(nora.get(other).body) == []

    relay.refuse()
    reply = nora.get(f"{path}?artifactType={COSIGN.replace('+', '%2B')}")
    assert manifests(reply.body) == [entry(SIGNATURE)]
    assert reply.headers["OCI-Filters-Applied"] == "artifactType"
    assert reply.headers["Cache-Status"] == "nora; hit; detail=stale"
    assert nora.get(other).status == 502


@pytest.mark.needs("skopeo", "docker-registry")
def test_cosign_tags(room: Room, nora: Nora, relay: Relay) -> None:
    """Signatures and attestations under cosign's tags pull through, byte for byte, and again without upstream."""
    client = Skopeo(room.place("skopeo"))
    for _ in range(2):
        for end, one in (("sig", SIGNATURE), ("att", SBOM)):
            target = room.place("copied")
            client.copy(f"docker://127.0.0.1:{nora.port}/library/signed:{NAME}.{end}", target)
            assert digests_in(target) == {one.manifest.digest, *(blob.digest for blob in one.blobs)}
        relay.refuse()
