"""Container images made of real files or of noise, without a container engine.

What comes out is what an engine accepts: layers are gzipped tars, the configuration's `diff_ids` are the
digests of the tars inside, and the bytes depend on the arguments alone.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import io
import json
import os
import random
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

MEBIBYTE = 1024 * 1024

_TYPES = {
    "oci": {
        "manifest": "application/vnd.oci.image.manifest.v1+json",
        "index": "application/vnd.oci.image.index.v1+json",
        "config": "application/vnd.oci.image.config.v1+json",
        "layer": "application/vnd.oci.image.layer.v1.tar+gzip",
    },
    "docker": {
        "manifest": "application/vnd.docker.distribution.manifest.v2+json",
        "index": "application/vnd.docker.distribution.manifest.list.v2+json",
        "config": "application/vnd.docker.container.image.v1+json",
        "layer": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    },
}


@attrs.frozen
class Blob:
    """A byte string and its media type."""

    media_type: str
    data: bytes = attrs.field(repr=False)
    digest: str = attrs.field(init=False)

    @digest.default
    def _hash(self) -> str:
        return digest_of(self.data)

    @property
    def size(self) -> int:
        """The length in bytes."""
        return len(self.data)

    @property
    def descriptor(self) -> dict[str, object]:
        """What a manifest says of it."""
        return {"mediaType": self.media_type, "size": self.size, "digest": self.digest}


@attrs.frozen
class Layer:
    """A layer: what is transferred, and the digest of the tar within."""

    compressed: bytes = attrs.field(repr=False)
    diff_id: str


@attrs.frozen
class Image:
    """An image of one platform."""

    manifest: Blob
    config: Blob
    layers: tuple[Blob, ...]
    diff_ids: tuple[str, ...]
    kind: str
    platform: Mapping[str, str]

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Configuration and layers."""
        return (self.config, *self.layers)

    @property
    def images(self) -> tuple[Image, ...]:
        """The image itself: an image and an index can be pushed alike."""
        return (self,)

    @property
    def top(self) -> Blob:
        """What a tag points at."""
        return self.manifest


@attrs.frozen
class Index:
    """An image of several platforms."""

    top: Blob
    images: tuple[Image, ...]


def digest_of(data: bytes) -> str:
    """Tell the sha256 digest of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def noise(size: int, seed: int = 1) -> bytes:
    """Make `size` incompressible bytes; any two of its 64 KiB blocks differ."""
    source = random.Random(seed)
    if size <= MEBIBYTE:
        return source.randbytes(size)
    step = 64 * 1024
    pool = source.randbytes(MEBIBYTE)
    blocks = []
    for number in range(-(-size // step)):
        offset = (number * step) % MEBIBYTE
        blocks.append(number.to_bytes(8, "big") + pool[offset + 8 : offset + step])
    return b"".join(blocks)[:size]


def layer(files: Mapping[str, bytes]) -> Layer:
    """Make a layer that holds `files`: path without a leading slash, and content."""
    tar = _tar(files)
    return Layer(gzip.compress(tar, 6, mtime=0), digest_of(tar))


def layer_of_directory(source: Path, prefix: str, limit: int = 4 * MEBIBYTE) -> Layer:
    """Make a layer of regular files under `source`, at `prefix`: at most `limit` bytes, and near it."""
    files: dict[str, bytes] = {}
    total = 0
    for path in _regular_files(source):
        size = path.stat().st_size
        if total + size > limit:
            continue
        total += size
        files[f"{prefix}/{path.relative_to(source).as_posix()}"] = path.read_bytes()
        if total > limit * 3 // 4:
            break
    return layer(files)


def layer_of_noise(size: int, seed: int = 1) -> Layer:
    """Make a layer with one file of `size` incompressible bytes."""
    return layer({f"data/noise-{seed}": noise(size, seed)})


def image(
    layers: Sequence[Layer],
    kind: str = "docker",
    architecture: str = "amd64",
    told: Mapping[str, object] | None = None,
) -> Image:
    """Make an image of `layers`; `kind` is `docker` (schema 2) or `oci`, `told` more words for its configuration."""
    types = _TYPES[kind]
    diff_ids = tuple(one.diff_id for one in layers)
    platform = {"architecture": architecture, "os": "linux"}
    config = Blob(
        types["config"],
        _json(
            {
                "created": "2024-01-01T00:00:00Z",
                **platform,
                "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/thing"]},
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
                "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "test"} for _ in layers],
                **(told or {}),
            }
        ),
    )
    blobs = tuple(Blob(types["layer"], one.compressed) for one in layers)
    return Image(_manifest(config, blobs, kind), config, blobs, diff_ids, kind, platform)


def image_of_blobs(contents: Iterable[bytes], kind: str = "oci") -> Image:
    """Make an image whose layers are `contents` as they are: right for HTTP, no engine could unpack it."""
    types = _TYPES[kind]
    layers = tuple(Blob(types["layer"], content) for content in contents)
    diff_ids = tuple(one.digest for one in layers)
    platform = {"architecture": "amd64", "os": "linux"}
    config = Blob(types["config"], _json({**platform, "rootfs": {"type": "layers", "diff_ids": diff_ids}}))
    return Image(_manifest(config, layers, kind), config, layers, diff_ids, kind, platform)


def index(images: Sequence[Image]) -> Index:
    """Make an index of `images`, all of one kind."""
    kind = images[0].kind
    document = {
        "schemaVersion": 2,
        "mediaType": _TYPES[kind]["index"],
        "manifests": [{**one.manifest.descriptor, "platform": dict(one.platform)} for one in images],
    }
    return Index(Blob(_TYPES[kind]["index"], _json(document)), tuple(images))


def push(
    port: int,
    repository: str,
    tag: str,
    pushed: Image | Index,
    token: str | None = None,
) -> None:
    """Push to the registry at 127.0.0.1:`port` over HTTP. Raises `AssertionError` when it refuses."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    authorization = {"Authorization": f"Bearer {token}"} if token else {}

    def ask(method: str, path: str, body: bytes, headers: Mapping[str, str]) -> str:
        connection.request(method, path, body, {**authorization, **headers})
        response = connection.getresponse()
        said = response.read()
        if response.status not in (201, 202):
            raise AssertionError(f"{method} {path}: {response.status} {said[:500]!r}")
        return response.headers.get("Location", "")

    def put_manifest(reference: str, manifest: Blob) -> None:
        path = f"/v2/{repository}/manifests/{reference}"
        ask("PUT", path, manifest.data, {"Content-Type": manifest.media_type})

    try:
        for one in pushed.images:
            for blob in one.blobs:
                location = ask("POST", f"/v2/{repository}/blobs/uploads/", b"", {"Content-Length": "0"})
                path = "/" + location.split("://", 1)[-1].split("/", 1)[-1]
                joint = "&" if "?" in path else "?"
                ask(
                    "PUT",
                    f"{path}{joint}digest={blob.digest}",
                    blob.data,
                    {"Content-Type": "application/octet-stream"},
                )
            if one.manifest is not pushed.top:
                put_manifest(one.manifest.digest, one.manifest)
        put_manifest(tag, pushed.top)
    finally:
        connection.close()


def write_layout(directory: Path, tag: str, written: Image | Index) -> None:
    """Write an OCI image layout, what skopeo calls `oci:DIRECTORY:TAG`."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    everything = [written.top]
    for one in written.images:
        everything += [one.manifest, *one.blobs]
    for blob in everything:
        (blobs / blob.digest.partition(":")[2]).write_bytes(blob.data)
    top = {**written.top.descriptor, "annotations": {"org.opencontainers.image.ref.name": tag}}
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (directory / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [top]}))


def write_archive(path: Path, name: str, written: Image) -> None:
    """Write an image as `docker save` does: its layers are plain tars."""
    layers = {f"{one.digest.partition(':')[2]}.tar": gzip.decompress(one.data) for one in written.layers}
    config = written.config.digest.partition(":")[2] + ".json"
    entry = {"Config": config, "RepoTags": [name], "Layers": list(layers)}
    files = {**layers, config: written.config.data, "manifest.json": _json([entry])}
    path.write_bytes(_tar(files))


def write_layout_archive(path: Path, tag: str, written: Image | Index) -> None:
    """Write an OCI image layout as one file."""
    with tempfile.TemporaryDirectory() as made:
        write_layout(Path(made), tag, written)
        with tarfile.open(path, "w") as archive:
            for each in sorted(Path(made).iterdir()):
                archive.add(each, each.name)


def basic(user: str, password: str) -> str:
    """Give the value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _regular_files(source: Path) -> Iterator[Path]:
    """Give the files under `source` in one order, without walking more of it than is asked for."""
    for directory, below, names in os.walk(source):
        below[:] = sorted(name for name in below if name != "__pycache__")
        for name in sorted(names):
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _manifest(config: Blob, layers: Sequence[Blob], kind: str) -> Blob:
    document = {
        "schemaVersion": 2,
        "mediaType": _TYPES[kind]["manifest"],
        "config": config.descriptor,
        "layers": [one.descriptor for one in layers],
    }
    return Blob(_TYPES[kind]["manifest"], _json(document))


def _json(document: object) -> bytes:
    return json.dumps(document, indent=1).encode()
