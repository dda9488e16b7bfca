"""Verdicts: what a look at each tag of a repository has shown, for as long as nothing changes there.

The argument. Whether a tag counts depends on its record and on the link to its manifest. Both are replaced, made and
removed by name, so each change of one changes the stamp of its directory, whichever process does it. Verdicts are kept
under the stamps that were read before the look: a change after that gives other stamps, and the verdicts go. As two
changes within a tick of the clock may have one stamp, those of a repository that changed just now are not kept.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import attrs

from nora.oci import Repository
from nora.storage.interfaces import Stamp
from nora.storage.layout import Layout
from nora.storage.records import SETTLED_NS, directory_stamp
from nora.storage.repositories import manifests_keys, tags_key

MOST = 100_000
"""Tags that are remembered, of all repositories: some ten megabytes."""


@attrs.define(eq=False)
class Seen:
    """What is known of one repository's tags now: whether each counts."""

    stamps: tuple[Stamp | None, ...] | None
    """None when it cannot be kept."""
    counts: dict[str, bool] = attrs.Factory(dict)


class Verdicts:
    """The verdicts of one process. Everything here happens on the reactor, and costs three `stat`."""

    def __init__(self, layout: Layout, most: int = MOST, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._layout = layout
        self._most = most
        self._now_ns = now_ns
        self._seen: OrderedDict[Repository, Seen] = OrderedDict()
        self._kept = 0

    def of(self, repository: Repository) -> Seen:
        """Give what is known; to be called before the tags are looked at that it will be told of."""
        stamps = self._stamps(repository)
        seen = self._seen.get(repository)
        if seen is not None and seen.stamps == stamps:
            self._seen.move_to_end(repository)
            return seen
        self._forget(repository)
        return Seen(stamps if self._settled(stamps) else None)

    def add(
        self, repository: Repository, seen: Seen, looked: Sequence[str], live: Mapping[str, object]
    ) -> None:
        """Remember, in what `of` gave, that of the tags in `looked` those in `live` count."""
        new = {tag: tag in live for tag in looked if tag not in seen.counts}
        known = self._seen.get(repository)
        if seen.stamps is None or len(seen.counts) + len(new) > self._most or known not in {None, seen}:
            return
        seen.counts.update(new)
        self._kept += len(new)
        self._seen[repository] = seen
        while self._kept > self._most:
            self._forget(next(iter(self._seen)))

    def _forget(self, repository: Repository) -> None:
        forgotten = self._seen.pop(repository, None)
        if forgotten is not None:
            self._kept -= len(forgotten.counts)
            forgotten.stamps = None

    def _stamps(self, repository: Repository) -> tuple[Stamp | None, ...]:
        keys = (tags_key(repository), *manifests_keys(repository))
        return tuple(directory_stamp(self._layout.record(key)) for key in keys)

    def _settled(self, stamps: tuple[Stamp | None, ...]) -> bool:
        newest = max((stamp[1] for stamp in stamps if stamp is not None), default=0)
        return self._now_ns() - newest >= SETTLED_NS
