"""Container engines and clients, each with a root, a state and a configuration of its own in one directory.

Nothing of the machine's own engines is used, and `stop` leaves neither processes nor mounts. (As root, podman and
skopeo share the hints in /var/lib/containers/cache with everyone: there is no setting for its place.)
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

import attrs

from tests.support.programs import Process, environment, find, run

ACCEPT_ANYTHING = '{"default": [{"type": "insecureAcceptAnything"}]}'
"""The policy of containers/image that asks for no signatures."""


@attrs.frozen
class Held:
    """What an engine holds of an image, hashed by the test: configuration digest, digests of the layers' tars."""

    config: str
    diff_ids: tuple[str, ...]


def read_saved(archive: Path) -> Held:
    """Hash what `docker save` wrote, which podman writes too."""
    with tarfile.open(archive) as saved:

        def digest(name: str) -> str:
            member = saved.getmember(name)
            if member.issym() or member.islnk():
                member = saved.getmember(os.path.normpath(Path(name).parent / member.linkname))
            content = saved.extractfile(member)
            if content is None:
                raise AssertionError(f"{name} is no file in {archive}")
            hashed = hashlib.sha256()
            while chunk := content.read(1024 * 1024):
                hashed.update(chunk)
            return "sha256:" + hashed.hexdigest()

        listing = saved.extractfile("manifest.json")
        if listing is None:
            raise AssertionError(f"no manifest.json in {archive}")
        entry = json.loads(listing.read())[0]
        return Held(digest(entry["Config"]), tuple(digest(name) for name in entry["Layers"]))


def digest_told(said: str) -> str:
    """Give the digest that a client printed last, after what it calls `digest`."""
    found = re.findall(r"digest: (sha256:[0-9a-f]{64})", said)
    assert found, said
    return str(found[-1])


def unmount_below(directory: Path) -> None:
    """Unmount everything mounted at or below `directory`, the deepest first."""
    root = str(directory.resolve())
    points = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        point = line.split(" ")[1].encode().decode("unicode_escape")
        if point == root or point.startswith(root + "/"):
            points.append(point)
    for point in sorted(points, key=len, reverse=True):
        subprocess.run([find("umount"), "-l", point], check=False, capture_output=True, timeout=20)


class Docker:
    """A Docker engine of the test's own, whose only registry mirror is `mirror`; the engine sees `variables`."""

    def __init__(self, directory: Path, mirror: str, **variables: str) -> None:
        self._directory = directory
        self._mirror = mirror
        self._own = variables
        # A Unix socket's path is at most 107 bytes: pytest's directories come near that.
        self._socket = directory / "d.sock"
        self._process: Process | None = None
        self._variables: dict[str, str] = {}

    def start(self) -> None:
        """Start it, with a containerd of its own, and wait until it answers."""
        self._directory.mkdir(parents=True, exist_ok=True)
        here = self._directory
        # Else it would write /etc/docker/key.json; there is no flag for it.
        (here / "daemon.json").write_text(json.dumps({"deprecated-key-path": str(here / "key.json")}))
        self._variables = environment(here, DOCKER_CONFIG=str(here / "client"), TMPDIR=str(here))
        command = [
            *(find("dockerd"), "--config-file", str(here / "daemon.json")),
            *("--data-root", str(here / "data"), "--exec-root", str(here / "exec")),
            *("--host", f"unix://{self._socket}", "--pidfile", str(here / "docker.pid")),
            *(
                "--bridge=none",
                "--iptables=false",
                "--ip6tables=false",
                "--ip-forward=false",
                "--ip-masq=false",
            ),
            *("--storage-driver=vfs", "--registry-mirror", self._mirror),
        ]
        process = Process(command, here / "dockerd.log", {**self._variables, **self._own})
        self._process = process
        try:
            process.wait_until(self._answers, "dockerd's answer", 60)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it and its containerd, and leave no mounts."""
        if self._process is not None:
            self._process.stop()
        unmount_below(self._directory)

    @property
    def log(self) -> str:
        """What the daemon wrote."""
        return self._process.text if self._process is not None else ""

    def login(self, host: str, user: str, password: str) -> str:
        """Log in; gives what the client printed. Raises `AssertionError` when it is refused."""
        return self._docker("login", "--username", user, "--password", password, host)

    def load(self, archive: Path) -> None:
        """Take in what is in an archive as `docker save` writes it."""
        self._docker("load", "--input", str(archive))

    def tag(self, name: str, other: str) -> None:
        """Give an image another name."""
        self._docker("tag", name, other)

    def push(self, name: str) -> str:
        """Push an image; gives the manifest's digest. Raises `AssertionError` when it is refused."""
        return digest_told(self._docker("push", name))

    def pull(self, name: str) -> str:
        """Pull an image; gives what the client printed."""
        return self._docker("pull", name)

    def remove(self, name: str) -> None:
        """Remove an image, with its layers."""
        self._docker("image", "rm", "--force", name)

    def images(self) -> list[str]:
        """Give the identifiers of all images."""
        return self._docker("image", "ls", "--quiet", "--no-trunc").split()

    def repository_digests(self, name: str) -> list[str]:
        """Tell what the engine believes the manifest's digest to be."""
        found: list[str] = json.loads(self._docker("image", "inspect", name))[0]["RepoDigests"]
        return found

    def held(self, name: str) -> Held:
        """Hash what it holds of an image."""
        archive = self._directory / "saved.tar"
        self._docker("save", "--output", str(archive), name)
        return read_saved(archive)

    def _answers(self) -> bool:
        if not self._socket.exists():
            return False
        try:
            self._docker("version")
        except AssertionError:
            return False
        return True

    def _docker(self, *arguments: str) -> str:
        return run([find("docker"), "--host", f"unix://{self._socket}", *arguments], self._variables)


class Containerd:
    """A containerd of the test's own, and `ctr`, which asks the hosts that `hosts.toml` names for docker.io."""

    def __init__(self, directory: Path, mirror: str) -> None:
        self._directory = directory
        self._mirror = mirror
        self._address = directory / "c.sock"
        self._process: Process | None = None
        self._variables: dict[str, str] = {}

    def start(self) -> None:
        """Start it and wait until it answers."""
        here = self._directory
        self.hosts("docker.io", self._mirror)
        configuration = here / "config.toml"
        configuration.write_text(
            "version = 2\n"
            f'root = "{here}/root"\nstate = "{here}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\n  address = "{self._address}"\n'
        )
        self._variables = environment(here, TMPDIR=str(here))
        command = [find("containerd"), "--config", str(configuration)]
        process = Process(command, here / "containerd.log", self._variables)
        self._process = process
        try:
            process.wait_until(self._answers, "containerd's answer", 30)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it and leave no mounts."""
        if self._process is not None:
            self._process.stop()
        unmount_below(self._directory)

    def hosts(self, registry: str, url: str, authority: Path | None = None) -> Path:
        """Have `registry` asked at `url`, with a certificate of that `authority`; gives the directory of hosts."""
        hosts = self._directory / "certs.d" / registry
        hosts.mkdir(parents=True)
        trusted = f'  ca = "{authority}"\n' if authority else ""
        (hosts / "hosts.toml").write_text(
            # The server is NORA too, so that no answer can come from elsewhere.
            f'server = "{url}"\n\n[host."{url}"]\n  capabilities = ["pull", "resolve", "push"]\n{trusted}'
        )
        return hosts.parent

    def pull(self, name: str) -> str:
        """Pull and unpack an image; gives what `ctr` printed."""
        hosts = str(self._directory / "certs.d")
        return self._ctr("images", "pull", "--hosts-dir", hosts, "--snapshotter", "native", name)

    def pull_as(self, user: str, password: str, name: str) -> str:
        """Pull an image by plain HTTP from the host in its name, logged in there."""
        login = ("--plain-http", "--user", f"{user}:{password}")
        return self._ctr("images", "pull", *login, "--snapshotter", "native", name)

    def load(self, archive: Path, base: str) -> None:
        """Take in what is in an archive of an OCI layout: the images there are `base` with their own tags."""
        options = ("--all-platforms", "--no-unpack", "--snapshotter", "native", "--base-name", base)
        self._ctr("images", "import", *options, str(archive))

    def push(self, name: str, source: str, *options: str) -> str:
        """Push `source`, as it was loaded, as `name`; gives what `ctr` printed."""
        return self._ctr("images", "push", *options, name, source)

    def fetch(self, name: str, *options: str) -> None:
        """Pull all platforms of an image, and unpack none."""
        self._ctr("content", "fetch", "--all-platforms", *options, name)

    def remove(self, name: str) -> None:
        """Remove an image with its content, at once."""
        self._ctr("images", "rm", "--sync", name)

    def contents(self) -> list[str]:
        """Give the digests of all the content it holds."""
        return self._ctr("content", "ls", "--quiet").split()

    def content_digest(self, digest: str) -> str:
        """Hash the content that it holds under `digest`."""
        command = [find("ctr"), "--address", str(self._address), "content", "get", digest]
        done = subprocess.run(command, env=self._variables, capture_output=True, timeout=60, check=True)
        return "sha256:" + hashlib.sha256(done.stdout).hexdigest()

    def _answers(self) -> bool:
        if not self._address.exists():
            return False
        try:
            self._ctr("version")
        except AssertionError:
            return False
        return True

    def _ctr(self, *arguments: str) -> str:
        return run([find("ctr"), "--address", str(self._address), *arguments], self._variables)


class Skopeo:
    """skopeo with a configuration of its own.

    With a directory of `certificates` it speaks TLS alone, and trusts those in it.
    """

    def __init__(self, directory: Path, certificates: Path | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._certificates = certificates
        (directory / "policy.json").write_text(ACCEPT_ANYTHING)
        (directory / "registries.conf").write_text("")
        (directory / "registries.d").mkdir(exist_ok=True)
        (directory / "auth.json").write_text("{}")
        self._variables = environment(
            directory,
            CONTAINERS_REGISTRIES_CONF=str(directory / "registries.conf"),
            REGISTRY_AUTH_FILE=str(directory / "auth.json"),
            TMPDIR=str(directory),
        )

    def login(self, host: str, user: str, password: str) -> str:
        """Log in; gives what skopeo printed. Raises `AssertionError` when it is refused."""
        login = ("--username", user, "--password", password, host)
        return run([find("skopeo"), "login", self._tls(), *login], self._variables)

    def inspect(self, image: str, *options: str) -> str:
        """Give the digest of the manifest that `image` stands for."""
        digest: str = json.loads(self._run("inspect", self._tls(), *options, image))["Digest"]
        return digest

    def tags(self, repository: str) -> list[str]:
        """List the tags of `repository`, such as `docker://127.0.0.1:4000/library/thing`."""
        tags: list[str] = json.loads(self._run("list-tags", self._tls(), repository))["Tags"]
        return tags

    def copy(self, source: str, target: Path | str, *options: str) -> None:
        """Copy `source`, such as `docker://127.0.0.1:4000/library/thing:1`, to a place alike or to a new directory.

        The directory then holds each blob under its hexadecimal digest, and `manifest.json`.
        """
        place = target if isinstance(target, str) else f"dir:{target}"
        tls = [
            self._tls(f"{end}-")
            for end, where in (("src", source), ("dest", place))
            if where.startswith("docker://")
        ]
        self._run("copy", "--quiet", *tls, *options, source, place)

    def delete(self, image: str) -> None:
        """Delete an image from its registry."""
        self._run("delete", self._tls(), image)

    def _tls(self, end: str = "") -> str:
        if self._certificates is None:
            return f"--{end}tls-verify=false"
        return f"--{end}cert-dir={self._certificates}"

    def _run(self, *arguments: str) -> str:
        policy, registries = str(self._directory / "policy.json"), str(self._directory / "registries.d")
        command = [find("skopeo"), "--policy", policy, "--registries.d", registries, *arguments]
        return run(command, self._variables)


def digests_in(directory: Path) -> set[str]:
    """Hash every blob and manifest that skopeo wrote to `directory`."""
    return {
        "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.iterdir()
        if path.name != "version"
    }
