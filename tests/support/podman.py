"""podman and buildah, each with a storage and a configuration of its own in one directory.

As root they share the hints in /var/lib/containers/cache with everyone: there is no setting for its place.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.engines import ACCEPT_ANYTHING, Held, read_saved, unmount_below
from tests.support.programs import environment, find, run


class _Containers:
    """What podman and buildah have in common.

    docker.io goes to the mirror at `host` (host:port): by http, or by https alone with a directory of `certificates`,
    which are then trusted.
    """

    _program: str

    def __init__(self, directory: Path, host: str, certificates: Path | None = None) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        insecure = "false" if certificates else "true"
        registries = directory / "registries.conf"
        registries.write_text(
            'unqualified-search-registries = ["docker.io"]\nshort-name-mode = "disabled"\n\n'
            f'[[registry]]\nlocation = "docker.io"\n[[registry.mirror]]\nlocation = "{host}"\n'
            f'insecure = {insecure}\n\n[[registry]]\nlocation = "{host}"\ninsecure = {insecure}\n'
        )
        (directory / "policy.json").write_text(ACCEPT_ANYTHING)
        (directory / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{directory}/root"\nrunroot = "{directory}/run"\n'
        )
        (directory / "containers.conf").write_text(
            f'[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\ntmp_dir = "{directory}/tmp"\n'
        )
        self._variables = environment(
            directory,
            CONTAINERS_REGISTRIES_CONF=str(registries),
            CONTAINERS_STORAGE_CONF=str(directory / "storage.conf"),
            CONTAINERS_CONF=str(directory / "containers.conf"),
            REGISTRY_AUTH_FILE=str(directory / "auth.json"),
            TMPDIR=str(directory),
        )
        (directory / "auth.json").write_text("{}")
        self._tls = ("--tls-verify=false",) if certificates is None else (f"--cert-dir={certificates}",)
        self._policy = ("--signature-policy", str(directory / "policy.json"))

    def stop(self) -> None:
        """Leave no mounts."""
        unmount_below(self._directory)

    def login(self, host: str, user: str, password: str) -> str:
        """Log in; gives what was printed. Raises `AssertionError` when it is refused."""
        return self._run("login", *self._tls, "--username", user, "--password", password, host)

    def pull(self, name: str) -> str:
        """Pull an image; gives what was printed: its identifier."""
        return self._run("pull", "--quiet", *self._tls, *self._policy, name)

    def load(self, archive: Path, name: str) -> None:
        """Take in the image `name` of an archive as `docker save` writes it."""
        self._run("pull", "--quiet", *self._policy, f"docker-archive:{archive}:{name}")

    def push(self, source: str, name: str) -> str:
        """Push an image that is held as `source`; gives the manifest's digest."""
        told = self._directory / "digest"
        file = ("--digestfile", str(told))
        self._run("push", "--quiet", *self._tls, *self._policy, *file, source, f"docker://{name}")
        return told.read_text().strip()

    def held(self, name: str) -> Held:
        """Hash what it holds of an image."""
        archive = self._directory / "saved.tar"
        archive.unlink(missing_ok=True)
        self._run("push", "--quiet", *self._policy, name, f"docker-archive:{archive}")
        return read_saved(archive)

    def _run(self, *arguments: str) -> str:
        return run([find(self._program), *arguments], self._variables)


class Podman(_Containers):
    """podman."""

    _program = "podman"

    def remove(self, name: str) -> None:
        """Remove an image with its layers."""
        self._run("image", "rm", "--force", name)

    def images(self) -> list[str]:
        """Give the identifiers of all images."""
        return self._run("image", "ls", "--quiet", "--no-trunc").split()


class Buildah(_Containers):
    """buildah."""

    _program = "buildah"

    def remove(self, name: str) -> None:
        """Remove an image with its layers."""
        self._run("rmi", "--force", name)

    def images(self) -> list[str]:
        """Give the identifiers of all images."""
        return self._run("images", "--quiet", "--no-trunc").split()
