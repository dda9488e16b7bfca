"""Contents as a small company would have them, pulled and pushed by real requests, for pictures of the pages."""

from __future__ import annotations

import json
import time

from tests.support.daemon import Nora
from tests.support.engines import Skopeo
from tests.support.images import Image, Index, image, index, layer_of_noise
from tests.support.programs import wait_for
from tests.support.registry import Registry
from tests.support.room import Room

_SOME_DAYS = 86400
_HUB = {"nginx": ("1.27", "1.26"), "redis": ("7.4",), "postgres": ("16", "17"), "alpine": ("3.20",)}
_HOSTED = {"shop/web": ("2.4.0", "2.4.1"), "shop/worker": ("1.9.3",), "platform/builder": ("2025-06",)}


def stock(nora: Nora, registry: Registry, room: Room) -> None:
    """Pull several images through `nora`, of one to three platforms, and push others to it."""
    client = Skopeo(room.place("skopeo"))
    here = f"docker://127.0.0.1:{nora.port}"
    for number, (name, tags) in enumerate(_HUB.items()):
        for tag in tags:
            registry.push(f"library/{name}", tag, _of_platforms(f"{name} {tag}", number + 1))
            for _ in range(number + 2):
                client.copy(f"{here}/{name}:{tag}", room.place("pulled"))
    for number, (name, tags) in enumerate(_HOSTED.items()):
        for tag in tags:
            registry.push(name, tag, _image(name, tag, 700_000 * (number + 1), "amd64"))
            client.copy(f"docker://127.0.0.1:{registry.port}/{name}:{tag}", f"{here}/{name}:{tag}")
            client.copy(f"{here}/{name}:{tag}", room.place("pulled"))
    path = "/api/v1/repositories/tags?repository=shop/web"
    wait_for(
        lambda: all(each["pulls"] for each in json.loads(nora.get(path).body)["tags"]),
        "the last pull",
        timeout=20,
    )


def _of_platforms(name: str, seed: int) -> Index:
    sizes = {"amd64": 900_000 * seed, "arm64": 850_000 * seed, "s390x": 800_000 * seed}
    return index([_image("", name, size, architecture) for architecture, size in sizes.items()])


def _image(name: str, version: str, size: int, architecture: str) -> Image:
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3 * _SOME_DAYS))
    told = {
        "created": created,
        "author": "The platform team",
        "config": {
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "TZ=Europe/Lisbon"],
            "Entrypoint": ["/usr/local/bin/web"],
            "Cmd": ["--listen", "0.0.0.0:8080"],
            "ExposedPorts": {"8080/tcp": {}},
            "User": "1000:1000",
            "WorkingDir": "/srv",
            "Labels": {
                "org.opencontainers.image.title": name,
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.source": f"https://git.example/{name}",
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
        },
        "history": [
            {"created": created, "created_by": "ADD rootfs.tar.xz / # buildkit"},
            {
                "created": created,
                "created_by": "RUN /bin/sh -c apt-get install --yes ca-certificates # buildkit",
            },
            {"created": created, "created_by": "COPY dist/ /srv/ # buildkit"},
            {"created": created, "created_by": 'ENTRYPOINT ["/usr/local/bin/web"]', "empty_layer": True},
        ],
    }
    parts = (size, size // 3, size // 17)
    return image([layer_of_noise(part, part + len(version)) for part in parts], "oci", architecture, told)
