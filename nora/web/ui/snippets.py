"""What a client's configuration must say so that it pulls through this server: files, ready to be copied."""

from __future__ import annotations

import json
from collections.abc import Sequence

import attrs

_HUB = "docker.io"


@attrs.frozen
class Server:
    """This server as its clients reach it."""

    scheme: str
    host: str
    """`host[:port]`."""

    @property
    def url(self) -> str:
        """The URL, without a path."""
        return f"{self.scheme}://{self.host}"

    @property
    def plain(self) -> bool:
        """Whether it speaks HTTP without TLS, which some clients want to be told."""
        return self.scheme == "http"


@attrs.frozen
class Snippet:
    """One file, or a part of one: what it is for, where it belongs, and what makes the client read it."""

    name: str
    """A word for the API, and for links to it."""
    title: str
    path: str
    text: str
    then: str
    """A command."""


def snippets(server: Server, namespaces: Sequence[str]) -> list[Snippet]:
    """Write all of them; `namespaces` are the registries that this server pulls from."""
    known = list(dict.fromkeys(namespaces)) or [_HUB]
    return [
        _docker(server),
        _containerd(server),
        _podman(server, known),
        _kubernetes(server),
        _compose(server, known),
    ]


def _docker(server: Server) -> Snippet:
    settings = {"registry-mirrors": [server.url]}
    if server.plain:
        settings["insecure-registries"] = [server.host]
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in settings.items())
    return Snippet(
        "docker",
        "Docker",
        "/etc/docker/daemon.json",
        f"{{\n{lines}\n}}\n",
        "sudo systemctl restart docker",
    )


def _containerd(server: Server) -> Snippet:
    text = f'[host.{json.dumps(server.url)}]\n  capabilities = ["pull", "resolve"]\n'
    return Snippet(
        "containerd",
        "containerd",
        "/etc/containerd/certs.d/_default/hosts.toml",
        text,
        "ctr images pull --hosts-dir /etc/containerd/certs.d docker.io/library/nginx:latest",
    )


def _podman(server: Server, namespaces: Sequence[str]) -> Snippet:
    insecure = "insecure = true\n" if server.plain else ""
    tables = [
        f"[[registry]]\nprefix = {json.dumps(name)}\nlocation = {json.dumps(name)}\n\n"
        f"[[registry.mirror]]\nlocation = {json.dumps(f'{server.host}/{name}')}\n{insecure}"
        for name in namespaces
    ]
    return Snippet(
        "podman",
        "Podman, Buildah, skopeo, CRI-O",
        "/etc/containers/registries.conf.d/50-nora.conf",
        "\n".join(tables),
        "podman pull docker.io/library/nginx:latest",
    )


def _kubernetes(server: Server) -> Snippet:
    directory = "/etc/containerd/certs.d/_default"
    text = (
        "# On every node; pods keep the names of their images.\n"
        f"sudo mkdir -p {directory}\n"
        f"sudo tee {directory}/hosts.toml <<'END'\n"
        f"{_containerd(server).text}"
        "END\n"
    )
    return Snippet(
        "kubernetes",
        "Kubernetes",
        "In a shell on each node, where containerd's config_path is /etc/containerd/certs.d",
        text,
        "crictl pull docker.io/library/nginx:latest",
    )


def _compose(server: Server, namespaces: Sequence[str]) -> Snippet:
    registry = _HUB if _HUB in namespaces else namespaces[0]
    image = "library/nginx:latest" if registry == _HUB else "owner/image:latest"
    text = f"services:\n  web:\n    image: {server.host}/{registry}/{image}\n"
    return Snippet("compose", "Compose, by name", "compose.yaml", text, "docker compose up --pull always")
