"""The configuration of one upstream: which registry it is, how it is reached, and who we are to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from nora.config import hosts, kinds, texts
from nora.config.keys import key
from nora.config.secret import Secret


def _own_name(upstream: UpstreamConfig) -> str:
    return hosts.parse_origin(upstream.url).authority


def _own_namespace(upstream: UpstreamConfig) -> str:
    return hosts.parse_origin(upstream.url).namespace


@attrs.frozen
class UpstreamConfig:
    """`[[docker.upstreams]]`: one registry to pull from."""

    url: str = attrs.field(
        metadata=key(
            texts.Origin(),
            "The URL of the registry, without a path, a user name or a password.",
            example="https://ghcr.io",
            shown="none: it must be given",
        ),
    )
    name: str = attrs.field(
        default=attrs.Factory(_own_name, takes_self=True),
        metadata=key(
            texts.Label(),
            "What this upstream is called in logs, metrics and records. No two may have the same name.",
            example="github",
            shown="host and port of the URL",
        ),
    )
    namespace: str = attrs.field(
        default=attrs.Factory(_own_namespace, takes_self=True),
        metadata=key(
            texts.Namespace(),
            "The registry's name in image references. Upstreams with the same namespace form a chain: they hold the "
            "same images and are asked in the order of this list. `local` is reserved.",
            example="docker.io",
            shown="host and port of the URL, `docker.io` for Docker Hub",
        ),
    )
    prefix: str | None = attrs.field(
        default=None,
        metadata=key(
            kinds.Maybe(texts.Prefix()),
            "A first component of repository names that means this upstream's namespace: with `hub`, a client may "
            "pull `hub/library/nginx`. No two upstreams may have the same, nor one the namespace of another.",
            example="hub",
        ),
    )
    ca_file: str | None = attrs.field(
        default=None,
        metadata=key(
            kinds.Maybe(texts.Path()),
            "A file of PEM certificates that this upstream's certificate is verified with, in place of the "
            "system's.",
            example="/etc/nora/registry-ca.pem",
        ),
    )
    proxy: str | Secret | None = attrs.field(
        default=None,
        metadata=key(
            kinds.Maybe(texts.ProxyURL()),
            "The HTTP proxy that this upstream, and whatever it redirects to, is asked through. Without it "
            'HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the environment count; "none" forbids those too.',
            example="http://proxy.internal:3128",
        ),
    )
    auth: Secret | None = attrs.field(
        default=None,
        metadata=key(
            kinds.Maybe(texts.UserAndPassword()),
            "The user and the password that are sent to this upstream, or to its token service. Of `auth`, "
            "`username`, `token_file` and `docker_config` an upstream has one at most.",
            example="puller:a-long-secret",
        ),
    )
    username: str | None = attrs.field(
        default=None,
        metadata=key(
            kinds.Maybe(texts.User()),
            "The user whose password is in `password_file`.",
            example="puller",
        ),
    )
    password_file: str | None = attrs.field(
        default=None,
        metadata=key(
            kinds.Maybe(texts.Path()),
            "A file with the password of `username`. It is read again when it changes, and when the password is "
            "refused.",
            example="/etc/nora/puller.password",
        ),
    )
    token_file: str | None = attrs.field(
        default=None,
        metadata=key(
            kinds.Maybe(texts.Path()),
            "A file with a bearer token that this upstream itself takes. It is read again when it changes, and "
            "when the token is refused.",
            example="/run/secrets/registry-token",
        ),
    )
    docker_config: str | None = attrs.field(
        default=None,
        metadata=key(
            kinds.Maybe(texts.Path()),
            "A config.json as `docker login` and credential helpers leave it. The helper programs that it names "
            "are run as this server's user.",
            example="/var/lib/nora/.docker/config.json",
        ),
    )
    credential_ttl: float = attrs.field(
        default=3600,
        metadata=key(
            kinds.seconds(1, 86400),
            "For how many seconds the password that a credential helper gave is used before the helper is run "
            "again. A refusal has it run at once.",
            example=600,
        ),
    )
    realms: tuple[str, ...] = attrs.field(
        default=(),
        metadata=key(
            kinds.Several(texts.HostName()),
            "Hosts of token services, with their port unless it is the usual one, that this upstream's "
            "credential may go to. Those on the upstream's own host, Docker Hub's and GitLab's are known.",
            example=["auth.example.org"],
        ),
    )
    share: str = attrs.field(
        default="private",
        metadata=key(
            kinds.Choice(("private", "everyone")),
            'Who may pull what this upstream gives only with our credential: "everyone" who can reach this '
            'server, or, with "private", only clients that are allowed to. An anonymous client is not.',
            example="everyone",
        ),
    )
    include: tuple[str, ...] = attrs.field(
        default=(),
        metadata=key(
            kinds.Several(texts.Pattern()),
            "The only repositories that this upstream is asked for, by their names there; `*` stands for any "
            "characters. Docker Hub's own images are `library/*`. Empty means all.",
            example=["library/*", "team/*"],
        ),
    )
    exclude: tuple[str, ...] = attrs.field(
        default=(),
        metadata=key(
            kinds.Several(texts.Pattern()),
            "Repositories that this upstream is never asked for, whatever `include` says, by their names there.",
            example=["internal/*"],
        ),
    )


DOCKER_HUB = UpstreamConfig("https://registry-1.docker.io")


def conflicts(upstreams: Sequence[UpstreamConfig | None]) -> Iterator[tuple[int, str, str, str]]:
    """Tell what of several upstreams does not go together: position from 1, key, value and reason.

    None stands for an upstream that could not be read.
    """
    names: dict[str, int] = {}
    prefixes: dict[str, int] = {}
    for position, upstream in enumerate(upstreams, 1):
        if upstream is None:
            continue
        if upstream.namespace == texts.LOCAL:  # the URL's own host; one that is written the kind refuses
            yield position, "namespace", upstream.namespace, "must be given, since local is reserved"
        if names.setdefault(upstream.name, position) != position:
            yield position, "name", upstream.name, f"must not be that of upstream {names[upstream.name]} too"
        yield from _credential_conflicts(position, upstream)
        if upstream.prefix is None:
            continue
        if prefixes.setdefault(upstream.prefix, position) != position:
            yield (
                position,
                "prefix",
                upstream.prefix,
                f"must not be that of upstream {prefixes[upstream.prefix]} too",
            )
        meant = hosts.canonical_namespace(upstream.prefix)
        if any(other is not None and other.namespace == meant != upstream.namespace for other in upstreams):
            yield position, "prefix", upstream.prefix, "must not be the namespace of another upstream"


def _credential_conflicts(position: int, upstream: UpstreamConfig) -> Iterator[tuple[int, str, str, str]]:
    """Tell what of an upstream's credential does not go together."""
    given = {
        name: str(value)
        for name in ("auth", "username", "token_file", "docker_config")
        if (value := getattr(upstream, name)) is not None
    }
    for other in list(given)[1:]:
        yield (
            position,
            other,
            given[other],
            f"must not be given beside {next(iter(given))}: one credential only",
        )
    if upstream.username is not None and upstream.password_file is None:
        yield position, "username", upstream.username, "must come with password_file"
    if upstream.password_file is not None and upstream.username is None:
        yield position, "password_file", upstream.password_file, "must come with username"
