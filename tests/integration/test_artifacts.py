"""What is no image: what oras pushes and attaches, and signatures, at a tag where cosign has them and by referrer."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from oras.client import OrasClient
from oras.oci import Subject

from tests.support.doors import PASSWORD
from tests.support.engines import Skopeo, digests_in
from tests.support.images import Blob, Image, image, layer_of_noise, noise, write_layout
from tests.support.room import Room
from tests.support.ways import Way

_SIGNED = "application/vnd.dev.cosign.simplesigning.v1+json"
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_SIGNATURE = "dev.cosignproject.cosign/signature"
_SCHEME = ec.ECDSA(hashes.SHA256())


def make_key() -> ec.EllipticCurvePrivateKey:
    """Make the key of who signs."""
    return ec.generate_private_key(ec.SECP256R1())


def signature_of(key: ec.EllipticCurvePrivateKey, data: bytes) -> str:
    """Sign as cosign does."""
    return base64.b64encode(key.sign(data, _SCHEME)).decode()


class Oras:
    """oras with a configuration of its own, and a folder that it pushes from."""

    def __init__(self, folder: Path, way: Way) -> None:
        folder.mkdir()
        self._folder = folder
        self._way = way
        self._configuration = str(folder / "config.json")
        (folder / "config.json").write_text("{}")

    def path(self, name: str) -> Path:
        """Tell where a file is pushed from."""
        return self._folder / name

    def client(self) -> Any:
        """Give a client that knows no token yet; it is logged in where that is needed."""
        way = self._way
        trusted = True if way.authority is None else str(way.authority)
        client = OrasClient(way.host, insecure=way.authority is None, tls_verify=trusted)
        if way.user is not None:
            client.auth.set_basic_auth(way.user, PASSWORD)
        return client

    def push(
        self, place: str, files: dict[str, tuple[str, bytes]], client: Any = None, **options: Any
    ) -> Blob:
        """Push `files`, of a media type each, to `place`, a repository and a tag; gives the manifest as it is there."""
        paths = []
        for name, (kind, data) in files.items():
            self.path(name).write_bytes(data)
            paths.append(f"{self.path(name)}:{kind}")
        reply = (client or self.client()).push(
            f"{self._way.host}/{place}",
            config_path=self._configuration,
            disable_path_validation=True,
            files=paths,
            quiet=True,
            **options,
        )
        assert reply.status_code == 201
        repository, _, tag = place.partition(":")
        found = self._way.manifest(repository, tag)
        assert found.digest == reply.headers["Docker-Content-Digest"]
        return found

    def pull(self, place: str, folder: Path) -> dict[str, bytes]:
        """Pull; gives the files by their names."""
        folder.mkdir()
        name = f"{self._way.host}/{place}"
        pulled = self.client().pull(name, config_path=self._configuration, outdir=str(folder))
        return {Path(path).name: Path(path).read_bytes() for path in pulled}


def referrers(way: Way, repository: str, digest: str, kind: str | None = None) -> list[dict[str, Any]]:
    """Ask what refers to a manifest."""
    query = f"?artifactType={kind}" if kind else ""
    reply = way.ask(f"/v2/{repository}/referrers/{digest}{query}")
    assert reply.status == 200, reply.body
    assert reply.headers["OCI-Filters-Applied"] == ("artifactType" if kind else None)
    found: list[dict[str, Any]] = json.loads(reply.body)["manifests"]
    return found


@pytest.fixture
def oras(room: Room, way: Way) -> Oras:
    """Give an oras."""
    return Oras(room.place("oras"), way)


@pytest.fixture
def skopeo(room: Room, way: Way) -> Skopeo:
    """Give a skopeo that is logged in."""
    client = Skopeo(room.place("skopeo"), way.certificates)
    way.login(client)
    return client


def test_oras(room: Room, way: Way, oras: Oras) -> None:
    """oras pushes files, whole and in chunks, and pulls them; what it attaches is a referrer until it goes."""
    report, data = b'{"found": []}', noise(300_000, 1)
    files = {"report.json": ("application/json", report), "data.bin": ("application/x-noise", data)}
    pushed = oras.push("team/oras:1", files)
    chunked = oras.push("team/oras:2", files, do_chunked=True, chunk_size=100_000)
    assert (chunked.media_type, chunked.data) == (pushed.media_type, pushed.data)
    assert oras.pull("team/oras:1", room.place("pulled")) == {"report.json": report, "data.bin": data}

    assert referrers(way, "team/oras", pushed.digest) == []
    subject = Subject(pushed.media_type, pushed.digest, pushed.size)
    client = oras.client()
    attached = [
        oras.push(
            f"team/oras:{tag}",
            {f"{tag}.json": (f"application/vnd.example.{tag}+json", report)},
            client,
            subject=subject,
            manifest_config=f"{config(room, tag)}:application/vnd.example.{tag}",
            manifest_annotations={"org.example.of": tag},
        )
        for tag in ("sbom", "scan")
    ]
    listed = referrers(way, "team/oras", pushed.digest)
    assert {each["digest"] for each in listed} == {each.digest for each in attached}
    (sbom,) = referrers(way, "team/oras", pushed.digest, "application/vnd.example.sbom")
    assert (sbom["digest"], sbom["size"]) == (attached[0].digest, attached[0].size)
    assert sbom["annotations"] == {"org.example.of": "sbom"}

    assert way.ask(f"/v2/team/oras/manifests/{attached[0].digest}", "DELETE").status == 202
    listed = referrers(way, "team/oras", pushed.digest)
    assert [each["digest"] for each in listed] == [attached[1].digest]
    assert not way.silent.was_asked()
    lines = way.nora.wait_for_audit(1, action="push", repository="team/oras", digest=attached[1].digest)
    assert {line["user"] for line in lines} == {way.user}


def config(room: Room, text: str) -> Path:
    """Write a configuration that nothing else has."""
    path = room.place("config")
    path.write_text(json.dumps({"for": text}))
    return path


@pytest.mark.needs("skopeo")
def test_signature_by_tag(room: Room, way: Way, oras: Oras, skopeo: Skopeo) -> None:
    """A signature at `sha256-<hex>.sig` is found by the image's digest, verifies, and can be copied along with it."""
    thing, layout = image([layer_of_noise(5000, 1)], "oci"), room.place("layout")
    write_layout(layout, "1", thing)
    name, copied = (f"{way.host}/team/{each}" for each in ("signed", "signed-too"))
    skopeo.copy(f"oci:{layout}:1", f"docker://{name}:1")
    key = make_key()
    sign(room, oras, key, name, thing)

    tag = skopeo.inspect(f"docker://{name}:1").replace(":", "-") + ".sig"
    assert set(skopeo.tags(f"docker://{name}")) == {"1", tag}
    for each in ("1", tag):
        skopeo.copy(f"docker://{name}:{each}", f"docker://{copied}:{each}", "--preserve-digests")
    back = room.place("back")
    skopeo.copy(f"docker://{copied}:{tag}", back, "--preserve-digests")
    assert way.manifest("team/signed", tag).digest in digests_in(back)
    (layer,) = json.loads((back / "manifest.json").read_text())["layers"]
    payload = (back / layer["digest"].partition(":")[2]).read_bytes()
    given = base64.b64decode(layer["annotations"][_SIGNATURE])
    key.public_key().verify(given, payload, _SCHEME)
    assert json.loads(payload)["critical"]["image"]["docker-manifest-digest"] == thing.manifest.digest
    assert not way.silent.was_asked()


def sign(room: Room, oras: Oras, key: ec.EllipticCurvePrivateKey, name: str, signed: Image) -> None:
    """Push a signature to the tag where cosign has it."""
    digest = signed.manifest.digest
    payload = json.dumps(
        {
            "critical": {
                "identity": {"docker-reference": name},
                "image": {"docker-manifest-digest": digest},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    ).encode()
    repository = name.partition("/")[2]
    annotations = room.place("annotations")
    # oras looks for annotations by the path of the file.
    path = oras.path("payload")
    annotations.write_text(json.dumps({str(path): {_SIGNATURE: signature_of(key, payload)}}))
    place = f"{repository}:{digest.replace(':', '-')}.sig"
    oras.push(place, {"payload": (_SIGNED, payload)}, annotation_file=str(annotations))


@pytest.mark.needs("skopeo")
def test_signature_by_referrer(room: Room, way: Way, oras: Oras, skopeo: Skopeo) -> None:
    """A signature can come before what it signs, is found by its type, and stays when its tag goes."""
    thing, layout = image([layer_of_noise(6000, 2)], "oci"), room.place("layout")
    write_layout(layout, "1", thing)
    key = make_key()
    top = thing.manifest
    bundle = json.dumps({"messageSignature": {"signature": signature_of(key, top.data)}}).encode()
    signature = oras.push(
        "team/referred:signature",
        {"bundle.json": (_BUNDLE, bundle)},
        subject=Subject(top.media_type, top.digest, top.size),
        manifest_config=f"{config(room, 'bundle')}:{_BUNDLE}",
    )
    skopeo.copy(f"oci:{layout}:1", f"docker://{way.host}/team/referred:1")

    (found,) = referrers(way, "team/referred", way.manifest("team/referred", "1").digest, _BUNDLE)
    assert (found["digest"], found["mediaType"], found["artifactType"]) == (
        signature.digest,
        signature.media_type,
        _BUNDLE,
    )
    assert way.ask("/v2/team/referred/manifests/signature", "DELETE").status == 202
    manifest = json.loads(way.manifest("team/referred", found["digest"]).data)
    (layer,) = manifest["layers"]
    told = json.loads(way.ask(f"/v2/team/referred/blobs/{layer['digest']}").body)
    given = base64.b64decode(told["messageSignature"]["signature"])
    key.public_key().verify(given, top.data, _SCHEME)
    assert referrers(way, "team/referred", top.digest, "application/vnd.example.other") == []
    assert not way.silent.was_asked()
