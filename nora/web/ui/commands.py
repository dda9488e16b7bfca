"""Commands that pull one image from this server, ready to be copied into a shell."""

from __future__ import annotations

import attrs

from nora.web.ui.snippets import Server


@attrs.frozen
class Command:
    """One command."""

    name: str
    """A word for the API, and for links to it."""
    title: str
    text: str


def pull_commands(server: Server, repository: str, reference: str) -> list[Command]:
    """Write all of them, for a tag or digest of a repository by its full name."""
    image = f"{_host(server)}/{repository}{'@' if ':' in reference else ':'}{reference}"
    return [
        Command("docker", "Docker", f"docker pull {image}"),
        Command("podman", "Podman", f"podman pull {'--tls-verify=false ' if server.plain else ''}{image}"),
        Command(
            "containerd", "containerd", f"ctr images pull {'--plain-http ' if server.plain else ''}{image}"
        ),
    ]


def _host(server: Server) -> str:
    """Give the host so that engines take it for one: a word alone they would look for on Docker Hub."""
    host = server.host
    if "." in host or ":" in host or host == "localhost":
        return host
    return f"{host}:{80 if server.plain else 443}"
