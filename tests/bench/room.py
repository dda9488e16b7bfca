"""Where a run happens: a directory on a real disk, the clean-up, and the data that all servers are given."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import ExitStack
from pathlib import Path

import attrs

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
NAME = "library/bench"


@attrs.frozen
class Stored:
    """A blob or manifest as a file."""

    path: Path
    digest: str
    size: int

    @property
    def url(self) -> str:
        """Where a registry has it."""
        return f"/v2/{NAME}/blobs/{self.digest}"

    def descriptor(self, media_type: str = "application/vnd.oci.image.layer.v1.tar") -> dict[str, object]:
        """What a manifest says of it."""
        return {"mediaType": media_type, "digest": self.digest, "size": self.size}


class Room:
    """A run's directory. `ends` closes what was started in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ends = ExitStack()
        self._made: dict[str, Stored] = {}

    def path(self, name: str) -> Path:
        """Give a path in it."""
        return self.directory / name

    def noise(self, name: str, size: int) -> Stored:
        """Make a blob of `size` random bytes, once for each `name`."""
        if name not in self._made:
            path = self._folder() / name
            digest = hashlib.sha256()
            with path.open("wb") as file:
                for start in range(0, size, MEBIBYTE):
                    piece = os.urandom(min(MEBIBYTE, size - start))
                    digest.update(piece)
                    file.write(piece)
            self._made[name] = Stored(path, f"sha256:{digest.hexdigest()}", size)
        return self._made[name]

    def keep(self, data: bytes) -> Stored:
        """Make a file of `data`."""
        name = hashlib.sha256(data).hexdigest()
        path = self._folder() / name
        path.write_bytes(data)
        return Stored(path, f"sha256:{name}", len(data))

    def manifest(self, name: str, layers: list[Stored]) -> Stored:
        """Make an image manifest over `layers`, once for each `name`."""
        if name not in self._made:
            path = self._folder() / name
            config = self.noise(f"{name}-config", 1000)
            document = {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
                "layers": [layer.descriptor() for layer in layers],
            }
            body = json.dumps(document, indent=3).encode()
            path.write_bytes(body)
            self._made[name] = Stored(path, f"sha256:{hashlib.sha256(body).hexdigest()}", len(body))
        return self._made[name]

    def _folder(self) -> Path:
        folder = self.directory / "data"
        folder.mkdir(exist_ok=True)
        return folder
