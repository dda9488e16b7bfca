"""The configuration of pulling through: the upstreams, and the times and bounds of asking them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import attrs

from nora.config import hosts, kinds, texts
from nora.config.freshness import FreshnessConfig, repeated
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


@attrs.frozen
class DockerConfig:
    """`[docker]`: the registries to pull from, and how."""

    upstreams: tuple[UpstreamConfig, ...] = attrs.field(
        default=(DOCKER_HUB,),
        metadata=key(
            kinds.Several(texts.Origin()),
            "The registries to pull from, in the order they are asked. In a file each is a table "
            "`[[docker.upstreams]]` with the keys below, and `upstreams = []` means none; the variable is a "
            "comma-separated list of URLs that replaces the file's, and empty means none.",
            example="https://registry-1.docker.io,https://ghcr.io",
            tables=UpstreamConfig,
            conflicts=lambda upstreams: conflicts(upstreams),  # noqa: PLW0108  # defined below
        ),
    )
    proxy_timeout: float = attrs.field(
        default=60,
        metadata=key(
            kinds.seconds(1, 86400),
            "How many seconds one upstream may take for a whole exchange up to the headers of its response, "
            "with challenge, token and redirects.",
            example=30,
        ),
    )
    connect_timeout: float = attrs.field(
        default=5,
        metadata=key(
            kinds.seconds(0.1, 3600),
            "How many seconds a connection to an upstream may take to be made.",
            example=2,
        ),
    )
    read_timeout: float = attrs.field(
        default=60,
        metadata=key(
            kinds.seconds(0.1, 86400),
            "After how many seconds of silence in a body an upstream's transfer is given up, to be resumed later. "
            "Nothing bounds the time of a whole transfer.",
            example=20,
        ),
    )
    answer_timeout: float = attrs.field(
        default=25,
        metadata=key(
            kinds.seconds(0.1, 86400),
            "Within how many seconds a client gets an answer, while the work goes on behind for its next try. "
            "containerd gives up after 30.",
            example=50,
        ),
    )
    revalidate_timeout: float = attrs.field(
        default=2,
        metadata=key(
            kinds.seconds(0.1, 3600),
            "How many seconds a client waits for an upstream to confirm a tag that is in the cache, before it "
            "gets the cached image.",
            example=5,
        ),
    )
    metadata_ttl: float = attrs.field(
        default=300,
        metadata=key(
            kinds.Lifetime(),
            'For how many seconds a tag is served without asking upstream. 0 always asks, "never" never asks '
            "again.",
            example="never",
        ),
    )
    negative_ttl: float = attrs.field(
        default=5,
        metadata=key(
            kinds.seconds(0, 3600),
            "For how many seconds a manifest or blob that every upstream said it has not is answered 404 without "
            "asking again. 0 always asks.",
            example=30,
        ),
    )
    freshness: tuple[FreshnessConfig, ...] = attrs.field(
        default=(),
        metadata=key(
            kinds.Several(texts.TagPattern()),
            "Tags that have a time of their own in place of `metadata_ttl`; the first that matches counts. In a file "
            "each is a table `[[docker.freshness]]` with the keys below; the variable is a comma-separated list of "
            "what they match, which replaces the file's.",
            example="*:latest,ghcr.io/team/*",
            tables=FreshnessConfig,
            conflicts=repeated,
        ),
    )
    max_stale: float = attrs.field(
        default=math.inf,
        metadata=key(
            kinds.Lifetime(),
            "For how many seconds past its time a tag that no upstream can confirm is still served from the cache. "
            'Then the client hears the upstream\'s error. With "never" a cached image never becomes too old.',
            example=86400,
        ),
    )
    on_upstream_delete: str = attrs.field(
        default="keep",
        metadata=key(
            kinds.Choice(("keep", "forget")),
            'What becomes of a cached tag that the upstream has no more: "keep" goes on serving it, "forget" removes '
            "the tag and answers 404. What was pulled stays readable by its digest.",
            example="forget",
        ),
    )
    on_upstream_denied: str = attrs.field(
        default="keep",
        metadata=key(
            kinds.Choice(("keep", "forget")),
            'What becomes of a cached tag that the upstream shows to nobody unknown any more: "keep" goes on serving '
            'it, "forget" removes the tag and answers 404.',
            example="forget",
        ),
    )
    quota_reserve: int = attrs.field(
        default=10,
        metadata=key(
            kinds.count(0, 1_000_000),
            "How many pulls of an upstream's rate limit are kept for images that are not in the cache. With no more "
            "left, as the upstream last said, a cached image whose tag moved is served as it is, and `Cache-Status` "
            "says `quota`. 0 spends them all.",
            example=50,
        ),
    )
    offline: bool = attrs.field(
        default=False,
        metadata=key(
            kinds.Flag(),
            "Whether no upstream is ever asked. What is stored is served as it is, tags of any age too; what is not "
            "stored is answered 404 at once.",
            example=True,
        ),
    )
    list_ttl: float = attrs.field(
        default=60,
        metadata=key(
            kinds.Lifetime(),
            "For how many seconds a list of a repository's tags, or of what refers to an image, is served without "
            'asking upstream. 0 always asks, "never" never asks again.',
            example=600,
        ),
    )
    default_action: str = attrs.field(
        default="allow",
        metadata=key(
            kinds.Choice(("allow", "deny")),
            'What becomes of a name without a registry in it: "allow" looks for it at the upstreams in order, '
            '"deny" refuses what is not hosted here.',
            example="deny",
        ),
    )
    fallback: str = attrs.field(
        default="image",
        metadata=key(
            kinds.Choice(("image", "repository")),
            'What becomes of a tag that the upstream which owns its repository lacks: "image" asks the next '
            'upstream, "repository" answers 404.',
            example="repository",
        ),
    )
    hosted: tuple[str, ...] = attrs.field(
        default=(),
        metadata=key(
            kinds.Several(texts.Pattern()),
            "Repositories that are hosted here and never asked for upstream, pushed yet or not. `*` stands for "
            "any characters.",
            example=["team/*", "tools"],
        ),
    )
    max_blob_size: int = attrs.field(
        default=100 << 30,
        metadata=key(
            kinds.Size(),
            "The largest blob, in bytes or with a unit (KiB, MiB, GiB, TiB), that is fetched from an upstream.",
            example="20GiB",
        ),
    )
    max_fills: int = attrs.field(
        default=64,
        metadata=key(
            kinds.count(1, 4096),
            "How many transfers from upstreams may run at once. More wait for their turn.",
            example=32,
        ),
    )
    max_fills_per_upstream: int = attrs.field(
        default=16,
        metadata=key(
            kinds.count(1, 4096),
            "How many of these transfers may run at one upstream.",
            example=8,
        ),
    )

    @property
    def forgets(self) -> frozenset[str]:
        """The outcomes, of `absent` and `denied`, on which a cached tag is forgotten."""
        ends = {"absent": self.on_upstream_delete, "denied": self.on_upstream_denied}
        return frozenset(outcome for outcome, end in ends.items() if end == "forget")


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
