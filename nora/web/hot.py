"""Hot answers: manifests that were just served are served again without asking any room below.

The argument. An answer from the store was made from records alone, and a witness noted each of them with its stamp,
those that were not there too. While all stamps are what they were, asking again would read the same records and come
to the same answer; each comparison is a `stat`. What time changes, the witness knows as well. So what a push, a removal
or a refresh by any process changes is seen by the next request, and nobody has to be told.

A prepared answer is the headers and the body as one byte string; date and request id go in front. It belongs to the
client's rights as well as to what it asked for. What could make the answer another one (a condition, a loop of servers)
takes the long way, and so does the first request of each minute, which keeps the times of last use true.

Two things no stamp tells. What the configuration says is exchanged at a reload, so an answer that was begun before one
is not prepared after it. And a record that was replaced twice within a tick of the file system's clock may bear its old
stamp again, so one that was that young when the answer began is not taken for settled.
"""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

import attrs
from twisted.web.http import datetimeToString

from nora.access import Rights
from nora.storage.interfaces import Stamp
from nora.storage.witness import Witness, present
from nora.telemetry.pulls import Key as PullKey
from nora.web.requests import RegistryRequest, Visit

MAX_BYTES = 32 * 1024 * 1024
"""Bytes of all prepared answers together."""
MAX_ANSWER = 256 * 1024
_LONGEST = 60.0
"""Seconds that a prepared answer lives at most."""
_SETTLED_NS = 10_000_000
"""A record younger than this, in nanoseconds, could change once more within a tick of the file system's clock."""
_OVERHEAD = 1024
_MAX_URI = 1024
"""Bytes of a request's target, at most: with longer ones, of which there are endlessly many for one answer, memory
would be taken and nothing served."""
_OWN = frozenset({b"date", b"x-request-id", b"connection"})

Key = tuple[bytes, bytes, Rights]


@attrs.frozen
class Prepared:
    """An answer that is ready to go out."""

    head: bytes = attrs.field(repr=False)
    """Status line and headers, without the end of them."""
    body: bytes = attrs.field(repr=False)
    stamps: tuple[tuple[str, Stamp | None], ...]
    since: float
    until: float
    """Seconds since the epoch, both: before `since` the clock was set back, and nobody knows how old it is."""
    visit: Visit
    """What the audit log is told, but for the user."""
    pull: bool
    """Whether it counts as a pull: the GET of an image manifest."""
    pulled: PullKey | None
    """What is counted as given out, of an index too; None for a HEAD."""

    @property
    def size(self) -> int:
        """What it takes in memory, in bytes, about."""
        return len(self.head) + len(self.body) + sum(len(key) + 100 for key, _ in self.stamps) + _OVERHEAD


@attrs.frozen
class Watch:
    """What is noted from the beginning of an answer that may be prepared."""

    witness: Witness
    began: float
    """Seconds since the epoch."""
    rules: int
    """Which rules it is made by: how often they had changed."""


class Hot:
    """The prepared answers of one process.

    `stamp` tells a record's stamp now; `now` is in seconds since the epoch; `rights` tells at once what the client of
    a request may do, or None when that takes longer.
    """

    def __init__(
        self,
        stamp: Callable[[str], Stamp | None],
        rights: Callable[[RegistryRequest], Rights | None],
        now: Callable[[], float] = time.time,
        limit: int = MAX_BYTES,
    ) -> None:
        self._stamp = stamp
        self._rights = rights
        self._now = now
        self._limit = limit
        self._prepared: OrderedDict[Key, Prepared] = OrderedDict()
        self._bytes = 0
        self._rules = 0
        self._date = (0, b"")

    def __len__(self) -> int:
        return len(self._prepared)

    def answer(self, request: RegistryRequest) -> bool:
        """Answer `request` if that was prepared; False when the long way must be gone."""
        if not self._prepared or request.clientproto != b"HTTP/1.1":
            return False
        rights = self._rights(request)
        if rights is None:
            return False
        prepared = self._find((request.method, request.uri, rights), request)
        if prepared is None:
            return False
        self._send(request, prepared, rights)
        return True

    def watch(self) -> Watch:
        """Begin an answer that `keep` may be told of; its witness sees what the caller reads from here on."""
        watch = Watch(Witness(), self._now(), self._rules)
        present.set(watch.witness)
        return watch

    def keep(
        self,
        request: RegistryRequest,
        rights: Rights,
        watch: Watch,
        body: bytes,
        *,
        pull: bool,
        pulled: PullKey | None,
    ) -> None:
        """Prepare what is about to go out as a 200, if it may be served again.

        `pull`: it counts as one; `pulled` is the manifest that is given out, None for a HEAD.
        """
        visit, witness = request.visit, watch.witness
        since = self._now()
        if visit is None or not witness.reliable or watch.rules != self._rules:
            return
        if witness.until <= since or len(body) > MAX_ANSWER or len(request.uri) > _MAX_URI:
            return
        settled = int(min(watch.began, since) * 1e9) - _SETTLED_NS
        if any(stamp is not None and stamp[1] > settled for stamp in witness.seen.values()):
            return
        until = min(witness.until, since + _LONGEST)
        stamps = tuple(witness.seen.items())
        prepared = Prepared(_head(request), body, stamps, since, until, visit, pull, pulled)
        key = (request.method, request.uri, rights)
        self._drop(key)
        self._prepared[key] = prepared
        self._bytes += prepared.size
        while self._bytes > self._limit:
            self._drop(next(iter(self._prepared)))

    def clear(self) -> None:
        """Forget everything: the rules have changed."""
        self._prepared.clear()
        self._bytes = 0
        self._rules += 1

    def _find(self, key: Key, request: RegistryRequest) -> Prepared | None:
        prepared = self._prepared.get(key)
        if prepared is None:
            return None
        headers = request.requestHeaders
        if headers.hasHeader(b"If-None-Match") or headers.hasHeader(b"Via"):
            return None
        if not self._holds(prepared):
            self._drop(key)
            return None
        self._prepared.move_to_end(key)
        return prepared

    def _holds(self, prepared: Prepared) -> bool:
        stamp = self._stamp
        try:
            return prepared.since <= self._now() < prepared.until and all(
                stamp(record) == seen for record, seen in prepared.stamps
            )
        except OSError:  # the long way has an answer to that
            return False

    def _send(self, request: RegistryRequest, prepared: Prepared, rights: Rights) -> None:
        """Write the answer and tell metrics and audit log, as `RegistryRequest` does at a request's end."""
        site = request.site
        request.begin()
        request.endpoint = "manifest"
        if site.draining:
            request.channel.persistent = False
        last = b"" if request.channel.persistent else b"\r\nConnection: close"
        parts = (prepared.head, b"\r\nDate: ", self._today(request.began), b"\r\nX-Request-ID: ")
        block = b"".join((*parts, request.id.encode("ascii"), last, b"\r\n\r\n", prepared.body))
        request.code = 200
        request.startedWriting = True
        request.sentLength = len(prepared.body)
        request.channel.send(block)
        if prepared.pull:
            site.metrics.pulled(True)
        if prepared.pulled is not None:
            site.metrics.pulls.pulled(prepared.pulled)
        request.visit = attrs.evolve(prepared.visit, user=rights.user)
        request.tell(aborted=False)
        request.finish()

    def _today(self, seconds: float) -> bytes:
        if self._date[0] != int(seconds):
            self._date = (int(seconds), datetimeToString(seconds))
        return self._date[1]

    def _drop(self, key: Key) -> None:
        dropped = self._prepared.pop(key, None)
        if dropped is not None:
            self._bytes -= dropped.size


def _head(request: RegistryRequest) -> bytes:
    lines = [b"HTTP/1.1 200 OK"]
    for name, values in request.responseHeaders.getAllRawHeaders():
        if name.lower() not in _OWN:
            lines += [b"%s: %s" % (name, value) for value in values]
    return b"\r\n".join(lines)
