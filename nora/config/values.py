"""The configuration, as frozen values: each key with its default, its check and its meaning, written once.

A key is an attribute; what its metadata holds is where reading, `nora config show`, the suggestions for
misspelt keys and the tests of the documentation take theirs from. Its environment variable follows from its
place: `NORA_<KEY>` in `[server]`, else `NORA_<SECTION>_<KEY>`.
"""

from __future__ import annotations

import os
from typing import Any

import attrs

from nora.config import hosts, kinds, texts
from nora.config.access import AccessConfig
from nora.config.auth import AuthConfig
from nora.config.docker import DockerConfig
from nora.config.keys import key


@attrs.frozen
class ServerConfig:
    """`[server]`: where clients reach this server, and what it allows them."""

    host: str = attrs.field(
        default="127.0.0.1",
        metadata=key(texts.Host(), "The address to listen on.", example="0.0.0.0"),  # noqa: S104
    )
    port: int = attrs.field(
        default=4000,
        metadata=key(
            kinds.count(0, 65535),
            "The TCP port to listen on. 0 lets the system choose a free one.",
            example=5000,
        ),
    )
    public_url: str | None = attrs.field(
        default=None,
        metadata=key(
            kinds.Maybe(texts.Origin()),
            "The URL under which clients reach this server, where it differs from the address it listens on, as "
            "behind a proxy that ends TLS. Its host counts as a name of this server.",
            example="https://nora.internal",
        ),
    )
    aliases: tuple[str, ...] = attrs.field(
        default=(),
        metadata=key(
            kinds.Several(texts.HostName()),
            "Other names, host or host:port, under which clients reach this server. A request whose `ns` parameter "
            "is one of them names no other registry.",
            example=["nora:4000", "mirror.internal"],
        ),
    )
    workers: int = attrs.field(
        default=1,
        metadata=key(
            kinds.count(0, 64),
            "How many processes serve the store together. 0 means one for each processor core that this server may "
            "use. Of several each has its share of `max_connections`, `max_fills` and `max_fills_per_upstream`.",
            example=2,
        ),
    )
    tls_certificate: str | None = attrs.field(
        default=None,
        metadata=key(
            kinds.Maybe(texts.Path()),
            "A PEM file with the certificate that this server shows its clients, and after it those that lead to "
            "their authority, if any. With it, TCP ports speak HTTPS alone.",
            example="/etc/nora/tls.pem",
        ),
    )
    tls_key: str | None = attrs.field(
        default=None,
        metadata=key(
            kinds.Maybe(texts.Path()),
            "A PEM file with the private key of `tls_certificate`, without a password. It may be the same file.",
            example="/etc/nora/tls.key",
        ),
    )
    trusted_proxies: tuple[str, ...] = attrs.field(
        default=(),
        metadata=key(
            kinds.Several(texts.Network()),
            "The proxies before this server whose `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host` and "
            "`Forwarded` are believed, as addresses or networks; `unix` is whoever comes through a UNIX socket. What "
            "others send in these headers does not tell who they are.",
            example=["10.0.0.0/8", "2001:db8::7", "unix"],
        ),
    )
    max_connections: int = attrs.field(
        default=4096,
        metadata=key(
            kinds.count(1, 1_000_000),
            "How many client connections may be open at once. One more is closed at once.",
            example=1024,
        ),
    )
    header_timeout: float = attrs.field(
        default=30,
        metadata=key(
            kinds.seconds(0.1, 3600),
            "How many seconds a client may take to send a whole request, or the headers of one that pushes, counted "
            "from its first byte.",
            example=10,
        ),
    )
    stall_timeout: float = attrs.field(
        default=60,
        metadata=key(
            kinds.seconds(0.1, 86400),
            "After how many seconds in which a client took none of its response, or sent less than 16 KiB of what it "
            "pushes, the connection is closed.",
            example=120,
        ),
    )
    drain_timeout: float = attrs.field(
        default=30,
        metadata=key(
            kinds.seconds(0, 86400),
            "How many seconds running responses may still take when the server is told to stop.",
            example=300,
        ),
    )

    @property
    def own_names(self) -> frozenset[str]:
        """The names, `host[:port]` in lower case without a default port, that mean this server."""
        names = set(self.aliases)
        if self.public_url is not None:
            names.add(hosts.parse_origin(self.public_url).authority)
        return frozenset(names)


def halves(server: ServerConfig) -> tuple[str, str] | None:
    """Tell which of the two keys of TLS is given without the other: the missing one first; None when that is none."""
    if (server.tls_certificate is None) == (server.tls_key is None):
        return None
    missing = "tls_key" if server.tls_key is None else "tls_certificate"
    return missing, "tls_certificate" if missing == "tls_key" else "tls_key"


def _absolute(path: str) -> str:
    return os.path.abspath(path) if path else ""  # an empty one is still to be placed


@attrs.frozen
class StorageConfig:
    """`[storage]`: where the bytes are."""

    path: str = attrs.field(
        default="./data",
        converter=_absolute,
        metadata=key(
            texts.Path(),
            "The directory of the store; it is made when it is missing. All of it must be on one file system. A "
            "relative path counts from the directory that the server is started in.",
            example="/var/lib/nora",
        ),
    )


@attrs.frozen
class UiConfig:
    """`[ui]`: the pages for people."""

    enabled: bool = attrs.field(
        default=True,
        metadata=key(
            kinds.Flag(),
            "Whether there are pages under `/ui`, to which `/` leads, and their JSON under `/api`.",
            example=False,
        ),
    )


@attrs.frozen
class AuditConfig:
    """`[audit]`: the log of what was pulled, one JSON object a line."""

    path: str = attrs.field(
        default="",
        converter=_absolute,
        metadata=key(
            texts.Path(),
            "The file of the audit log.",
            example="/var/log/nora/audit.jsonl",
            shown="`audit.jsonl` in the directory of the store",
        ),
    )
    enabled: bool = attrs.field(
        default=True,
        metadata=key(kinds.Flag(), "Whether the audit log is written.", example=False),
    )


@attrs.frozen
class LogConfig:
    """`[log]`: the daemon's own log."""

    level: str = attrs.field(
        default="info",
        metadata=key(
            kinds.Choice(("debug", "info", "warn", "error", "critical")),
            "The least important messages that are logged.",
            example="debug",
        ),
    )
    format: str = attrs.field(
        default="text",
        metadata=key(
            kinds.Choice(("text", "json")),
            "Whether messages are lines of text or one JSON object each.",
            example="json",
        ),
    )


def _placed(audit: AuditConfig, config: Any) -> AuditConfig:
    return audit if audit.path else attrs.evolve(audit, path=os.path.join(config.storage.path, "audit.jsonl"))


@attrs.frozen
class Config:
    """The whole configuration. `audit.path` is always set here: by default under `storage.path`."""

    server: ServerConfig = attrs.field(factory=ServerConfig)
    storage: StorageConfig = attrs.field(factory=StorageConfig)
    docker: DockerConfig = attrs.field(factory=DockerConfig)
    auth: AuthConfig = attrs.field(factory=AuthConfig)
    access: AccessConfig = attrs.field(factory=AccessConfig)
    ui: UiConfig = attrs.field(factory=UiConfig)
    audit: AuditConfig = attrs.field(factory=AuditConfig, converter=attrs.Converter(_placed, takes_self=True))  # type: ignore[misc]
    log: LogConfig = attrs.field(factory=LogConfig)


def sections() -> dict[str, type]:
    """Tell the tables of a configuration file, and the value class of each."""
    return {attribute.name: attribute.default.factory for attribute in attrs.fields(Config)}  # type: ignore[union-attr]
