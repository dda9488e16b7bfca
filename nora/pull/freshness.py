"""Freshness: for how long a tag is believed, and what its stored copy is still good for after that.

A policy alone: it looks nothing up and asks nobody.
"""

from __future__ import annotations

import fnmatch
import math
import re

import attrs

from nora.oci import Repository
from nora.oci.errors import ManifestUnknown
from nora.storage.interfaces import TagRecord
from nora.upstream.outcomes import outcomes_of

_SKEW = 60.0
"""A record from further in the future than this, in seconds, is not fresh: the clock was wrong."""
_OFFICIAL = ("docker.io", "library/")
"""Docker Hub's own images go by names without this."""


class Forgotten(ManifestUnknown):
    """The upstream surely has the tag no more, and so its record is gone from here too."""


@attrs.frozen
class Rule:
    """A `ttl` in seconds for the tags that `pattern` matches whole; `*` is any run of characters, `?` any one."""

    pattern: str
    ttl: float
    _expression: re.Pattern[str] = attrs.field(
        init=False,
        eq=False,
        repr=False,
        default=attrs.Factory(lambda rule: re.compile(fnmatch.translate(rule.pattern)), takes_self=True),
    )

    def matches(self, text: str) -> bool:
        """Tell whether the pattern matches all of `text`; upper and lower case differ."""
        return self._expression.match(text) is not None


@attrs.frozen
class Freshness:
    """For how long a tag is believed without asking, in seconds (infinite: for ever), and how long asking may take.

    The first of `rules` that matches has precedence over `metadata_ttl`.
    """

    metadata_ttl: float
    revalidate_timeout: float
    rules: tuple[Rule, ...] = ()
    max_stale: float = math.inf
    """For how long past its time, in seconds, a copy may be served that no upstream confirmed."""
    forgets: frozenset[str] = frozenset()
    """The definite outcomes, of `absent` and `denied`, on which a tag is forgotten."""
    quota_reserve: int = 0
    """How many pulls of an upstream's rate limit are kept for what is not stored at all."""
    offline: bool = False
    """No upstream is asked, so what is stored is as good as it can be."""

    def ttl(self, repository: Repository, tag: str) -> float:
        """Give the time to live of a tag, in seconds."""
        if not self.rules:
            return self.metadata_ttl
        texts = [f"{name}:{tag}" for name in _names(repository)]
        for rule in self.rules:
            if any(rule.matches(text) for text in texts):
                return rule.ttl
        return self.metadata_ttl

    def is_fresh(self, repository: Repository, tag: str, record: TagRecord, now: float) -> bool:
        """Tell whether the record may be believed at `now`, in seconds since the epoch."""
        return self.offline or -_SKEW <= now - record.checked_at < self.ttl(repository, tag)

    def until(self, repository: Repository, tag: str, record: TagRecord) -> float:
        """Tell until when a fresh record may be believed, in seconds since the epoch."""
        return math.inf if self.offline else record.checked_at + self.ttl(repository, tag)

    def is_bearable(self, repository: Repository, tag: str, record: TagRecord, now: float) -> bool:
        """Tell whether the stored copy may be served though nobody confirmed it."""
        return now - record.checked_at - self.ttl(repository, tag) <= self.max_stale

    def is_spent(self, left: int | None) -> bool:
        """Tell whether no pull should be spent on renewing a copy, with `left` pulls left (None: no limit is known)."""
        return left is not None and 0 < self.quota_reserve >= left

    def is_forgotten(self, error: ManifestUnknown) -> bool:
        """Tell whether what all upstreams answered about a tag, each of them definitely, ends its record."""
        outcomes = outcomes_of(error)
        return bool(outcomes) and outcomes <= self.forgets


def _names(repository: Repository) -> list[str]:
    """List the names that a pattern may mean the repository by."""
    names = [f"{repository.namespace}/{repository.name}", repository.name]
    namespace, official = _OFFICIAL
    if repository.namespace == namespace and repository.name.startswith(official):
        familiar = repository.name.removeprefix(official)
        names += [f"{namespace}/{familiar}", familiar]
    return names
