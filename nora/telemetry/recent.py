"""Recent pulls: what clients were given lately, for the page that shows it.

What is served counts with a few tenths of a microsecond: a tuple goes into a ring. A client asks many times for one
pull, and with several processes it asks now this one, now that one; so only when somebody looks is made of the rings of
all processes what a person calls a pull.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import attrs

from nora.oci import Repository

KEPT = 400
"""Answers that one process remembers."""
GAP = 60.0
"""Seconds of silence after which the same client begins another pull of the same repository."""
_STORED = frozenset({"hit", "stale", "quota"})
"""How the cache did, in the words of the audit log, where no body moved from an upstream."""


class Given(NamedTuple):
    """What was given by an answer with content, or to the HEAD of a manifest."""

    client: str
    user: str | None
    namespace: str
    name: str
    """What the client's name for the repository came to mean, with the namespace."""
    endpoint: str
    """`manifest` or `blob`."""
    method: str
    reference: str
    cache: str
    sent: int
    """Bytes of the body."""
    aborted: bool


Entry = tuple[float, float, Given]
"""When a request began, in seconds since the epoch; how many seconds its answer took; and what was given."""
Recent = deque[Entry]


def make_ring() -> Recent:
    """Make the ring of one process."""
    return deque(maxlen=KEPT)


@attrs.frozen
class Pull:
    """What one client asked of one repository in one go."""

    at: float
    """When it began, in seconds since the epoch."""
    seconds: float
    """From its first request to the end of its last answer."""
    client: str
    user: str | None
    repository: Repository
    reference: str
    """The tag, or the digest that it began with."""
    hit: bool
    """No body moved from an upstream."""
    sent: int
    aborted: bool
    """An answer did not reach its end."""


class _Open:
    """A pull as it is put together."""

    def __init__(self, began: float, first: Given) -> None:
        self.began = self.ended = began
        self.first = first
        self.hit = True
        self.sent = 0
        self.aborted = False
        self.counts = False
        """Something but heads was given."""
        self.manifest = ""
        """The manifest that was asked for last by its digest."""

    def takes(self, began: float, given: Given) -> bool:
        """Tell whether `given` belongs to it."""
        if began - self.ended > GAP:
            return False
        if given.endpoint == "blob":
            return True
        if ":" in given.reference:
            return given.reference != self.manifest
        return not self.counts and given.reference == self.first.reference and given.method == "GET"

    def add(self, ended: float, given: Given) -> None:
        self.ended = max(self.ended, ended)
        if given.method == "HEAD":
            return
        self.counts = True
        self.hit = self.hit and given.cache in _STORED
        self.sent += given.sent
        self.aborted = self.aborted or given.aborted
        if given.endpoint == "manifest" and ":" in given.reference:
            self.manifest = given.reference

    def told(self) -> Pull:
        first = self.first
        return Pull(
            self.began,
            self.ended - self.began,
            first.client,
            first.user,
            Repository(first.namespace, first.name),
            first.reference,
            self.hit,
            self.sent,
            self.aborted,
        )


def pulls(entries: Iterable[Entry]) -> list[Pull]:
    """Make pulls of the entries of all processes, the one that began last first.

    A tag begins one, by GET or by a HEAD that a GET follows; manifests by digest and blobs belong to what the same
    client began in the same repository, unless it was silent for `GAP` seconds or asks for the same manifest again.
    """
    found: list[_Open] = []
    last: dict[tuple[str, str | None, str, str], _Open] = {}
    for began, seconds, given in sorted(entries, key=lambda entry: entry[0]):
        if given.method == "HEAD" and ":" in given.reference:
            continue
        key = (given.client, given.user, given.namespace, given.name)
        pull = last.get(key)
        if pull is None or not pull.takes(began, given):
            pull = last[key] = _Open(began, given)
            found.append(pull)
        pull.add(began + seconds, given)
    return [pull.told() for pull in reversed(found) if pull.counts]
