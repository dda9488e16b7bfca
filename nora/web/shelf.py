"""The shelf of prepared answers: bounded in bytes, the one that was not asked for longest goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeAlias

import attrs

from nora.access import Rights
from nora.pull.interfaces import Reader
from nora.storage.interfaces import Stamp
from nora.telemetry.pulls import Key as PullKey
from nora.web.requests import RegistryRequest, Visit

MAX_BYTES = 32 * 1024 * 1024
"""Bytes of all prepared answers of one kind together."""
_OVERHEAD = 1024

Key: TypeAlias = "tuple[bytes, bytes, Rights]"
"""Method and target as they were asked for, and what the client may do."""


@attrs.frozen
class Streamed:
    """A body that is sent from its file each time."""

    open: Callable[[], Reader | None]
    """Gives a reader of all of it at once, or None, or `OSError`: then the long way must be gone."""
    send: Callable[[RegistryRequest, Reader], None]
    """Sends it as the body of a request whose headers are written, and ends that request."""


@attrs.frozen(eq=False)
class Prepared:
    """An answer that is ready to go out."""

    key: Key
    endpoint: str
    """The word that metrics know, `manifest` or `blob`."""
    head: bytes = attrs.field(repr=False)
    """Status line and headers, without the end of them."""
    body: bytes | Streamed = attrs.field(repr=False)
    stamps: tuple[tuple[str, Stamp | None], ...]
    since: float
    until: float
    """Seconds since the epoch, both: before `since` the clock was set back, and nobody knows how old it is."""
    visit: Visit
    """What the audit log is told, but for the user."""
    pull: bool
    """Whether it counts as a pull: the GET of an image manifest."""
    pulled: PullKey | None = None
    """The manifest that is counted as given out, an index too; None for a HEAD, or a blob."""

    @property
    def size(self) -> int:
        """What it takes in memory, in bytes, about."""
        body = len(self.body) if isinstance(self.body, bytes) else 0
        return len(self.head) + body + sum(len(key) + 100 for key, _ in self.stamps) + _OVERHEAD


class Shelf:
    """Prepared answers, of `limit` bytes together at most."""

    def __init__(self, limit: int = MAX_BYTES) -> None:
        self._limit = limit
        self._prepared: OrderedDict[Key, Prepared] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._prepared)

    def get(self, key: Key) -> Prepared | None:
        """Give the answer of that key, which has been asked for now."""
        prepared = self._prepared.get(key)
        if prepared is not None:
            self._prepared.move_to_end(key)
        return prepared

    def put(self, prepared: Prepared) -> None:
        """Put an answer in the place of the one of its key, if there is one."""
        self.drop(prepared.key)
        self._prepared[prepared.key] = prepared
        self._bytes += prepared.size
        while self._bytes > self._limit:
            self.drop(next(iter(self._prepared)))

    def drop(self, key: Key) -> None:
        """Forget an answer, if it is there."""
        dropped = self._prepared.pop(key, None)
        if dropped is not None:
            self._bytes -= dropped.size

    def clear(self) -> None:
        """Forget all."""
        self._prepared.clear()
        self._bytes = 0
