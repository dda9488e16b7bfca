"""The configuration of pulling through: the upstreams, and the times and bounds of asking them."""

from __future__ import annotations

import math

import attrs

from nora.config import kinds, texts
from nora.config.freshness import FreshnessConfig, repeated
from nora.config.keys import key
from nora.config.upstream import DOCKER_HUB, UpstreamConfig, conflicts


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
            conflicts=conflicts,
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
            "For how many seconds a manifest, blob or list that every upstream said it has not is answered 404 without "
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
            "any characters. Other names can be pushed to as well, but not those under `library/`, nor those by which "
            "something can be pulled that is cached from an upstream: a push would hide it from everyone.",
            example=["team/*", "tools"],
        ),
    )
    push_sparse: bool = attrs.field(
        default=False,
        metadata=key(
            kinds.Flag(),
            "Whether a manifest may be pushed that lists images or layers which its repository does not have. "
            "Such an image can be pulled only in part.",
            example=True,
        ),
    )
    immutable_tags: tuple[str, ...] = attrs.field(
        default=(),
        metadata=key(
            kinds.Several(texts.TagPattern()),
            "Tags of hosted repositories that can be pushed once, and then neither be moved nor deleted, as "
            "`name:tag`. `*` stands for any characters, `?` for one.",
            example=["team/*:v*", "*:release-*"],
        ),
    )
    push: str = attrs.field(
        default="loopback",
        metadata=key(
            kinds.Choice(("loopback", "always", "never")),
            'Who may push while nobody can log in, that is without `[auth]`: "loopback" programs on this machine that '
            'reach it by a loopback name, over HTTP/1.1 and through no proxy, "always" everybody, "never" nobody. A '
            "proxy on this machine that says nothing of itself and speaks HTTP/1.1 cannot be told from such a program: "
            'with one before NORA, set `[auth]`, or "never". With `[auth]` the rules of `[[access]]` say who may, and '
            "this key says nothing.",
            example="never",
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

    max_upload_size: int = attrs.field(
        default=100 << 30,
        metadata=key(
            kinds.Size(),
            "The largest blob, in bytes or with a unit (KiB, MiB, GiB, TiB), that a client may push.",
            example="20GiB",
        ),
    )
    max_uploads: int = attrs.field(
        default=1000,
        metadata=key(
            kinds.count(1, 100_000),
            "How many uploads may be open at once. When there are more, those that nobody sent a byte for in a minute "
            "are ended; then the next one is answered 503.",
            example=200,
        ),
    )
    upload_idle_timeout: float = attrs.field(
        default=3600,
        metadata=key(
            kinds.seconds(60, 86400),
            "After how many seconds without a new byte an upload is ended, and what was sent of it forgotten. That is "
            "looked for once an hour. An upload that is a day old is ended in any case.",
            example=600,
        ),
    )

    @property
    def forgets(self) -> frozenset[str]:
        """The outcomes, of `absent` and `denied`, on which a cached tag is forgotten."""
        ends = {"absent": self.on_upstream_delete, "denied": self.on_upstream_denied}
        return frozenset(outcome for outcome, end in ends.items() if end == "forget")
