"""The configuration of how long tags are believed, by pattern."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from nora.config import kinds, texts
from nora.config.keys import key


@attrs.frozen
class FreshnessConfig:
    """`[[docker.freshness]]`: a time for the tags that a pattern matches."""

    match: str = attrs.field(
        metadata=key(
            texts.TagPattern(),
            "The tags that this time is for, as `registry/name:tag` or `name:tag`; upper and lower case differ. "
            "Docker Hub's own images match with `library/` and without.",
            example="*:latest",
            shown="none: it must be given",
        ),
    )
    ttl: float = attrs.field(
        metadata=key(
            kinds.Lifetime(),
            'For how many seconds such a tag is served without asking upstream. 0 always asks, "never" never asks '
            "again.",
            example=60,
            shown="none: it must be given",
        ),
    )


def repeated(rules: Sequence[FreshnessConfig | None]) -> Iterator[tuple[int, str, str, str]]:
    """Tell which rules can never count, because an earlier one has the same pattern; see `keys.Conflicts`."""
    seen: dict[str, int] = {}
    for position, rule in enumerate(rules, 1):
        if rule is not None and seen.setdefault(rule.match, position) != position:
            yield position, "match", rule.match, f"must not be that of rule {seen[rule.match]} too"
