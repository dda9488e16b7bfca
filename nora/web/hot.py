"""Hot answers: what was just served is served again without asking any room below.

The argument. An answer from the store was made from records alone, and a witness noted each of them with its stamp,
those that were not there too. While all stamps are what they were, asking again would read the same records and come
to the same answer; each comparison is a `stat`. What time changes, the witness knows as well. So what a push, a removal
or a refresh by any process changes is seen by the next request, and nobody has to be told.

A prepared answer is the headers and the body as bytes, or the headers alone where the body is a large blob, whose file
is opened each time; date and request id are added. It belongs to the client's rights as well as to what it asked for.
What could make the answer another one (a condition, a range, a loop of servers) takes the long way, and so does the
first request of each minute, which keeps the times of last use true.

Clients repeat themselves: the same program asks for the same in the same bytes, whichever machine it runs on. What a
request means, and what its client may do, is a function of its bytes, of the address it comes from and of the rules. So
a request that is byte for byte one that was answered so before need not be parsed. One that names a user does (what it
may do changes with time), and so does one with an id of its own, which comes once.

Known requests that came together are answered by one look at the stamps: each of them was there, in part at least,
before the turn of the reactor began, and so before the look. It ends with the turn, before anything that was queued
later, such as the end of this process's own writes.

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
from typing import TYPE_CHECKING

import attrs
from twisted.web.http import datetimeToString

from nora.access import Rights
from nora.storage.interfaces import Stamp
from nora.storage.witness import Witness, present
from nora.telemetry import Repeated
from nora.telemetry.pulls import Key as PullKey
from nora.telemetry.recent import Given
from nora.web.requests import RegistryRequest
from nora.web.shelf import MAX_BYTES, Key, Prepared, Shelf, Streamed

if TYPE_CHECKING:
    from nora.web.channel import RegistryChannel

MAX_ANSWER = 256 * 1024
"""Bytes of a manifest that is kept."""
MAX_BLOB = 128 * 1024
"""Bytes of a blob that is kept: configurations and the like. Of larger ones the headers are, and the kernel sends the
body from its cache."""
MAX_KNOWN = 2048
"""Requests that are known by their bytes."""
MAX_HEAD = 2048
"""Bytes of such a request."""
_LONGEST = 60.0
"""Seconds that a prepared answer lives at most."""
_SETTLED_NS = 10_000_000
"""A record younger than this, in nanoseconds, could change once more within a tick of the file system's clock."""
_MAX_URI = 1024
"""Bytes of a request's target, at most: with longer ones, of which there are endlessly many for one answer, memory
would be taken and nothing served."""
_OWN = frozenset({b"date", b"x-request-id", b"connection"})
_CONDITIONS = (b"If-None-Match", b"Via", b"Range")
_ITS_OWN = (b"Authorization", b"X-Request-ID", b"Connection")


@attrs.frozen(eq=False)
class Known:
    """A request that is known by its bytes and its client's address."""

    prepared: Prepared
    body: bytes = attrs.field(repr=False)
    told: Repeated
    """What the audit log is told of each such request."""
    given: Given | None
    """What the page of recent pulls is told."""


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
    a request may do, or None when that takes longer; `soon` calls what it is given in the reactor's next turn, before
    all that is queued after it (`callFromThread`), and without it each request looks for itself.
    """

    def __init__(
        self,
        stamp: Callable[[str], Stamp | None],
        rights: Callable[[RegistryRequest], Rights | None],
        now: Callable[[], float] = time.time,
        limit: int = MAX_BYTES,
        soon: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        self._stamp = stamp
        self._rights = rights
        self._now = now
        # Many small blobs must not push the manifests out.
        self._shelves = {"manifest": Shelf(limit), "blob": Shelf(limit // 2)}
        self._known: OrderedDict[tuple[bytes, str], Known] = OrderedDict()
        self._soon = soon
        self._held: set[Prepared] = set()
        """Those that were found to hold in this turn."""
        self._ending = False
        self._rules = 0
        self._date = (0, b"")

    def __len__(self) -> int:
        return sum(len(shelf) for shelf in self._shelves.values())

    def again(self, channel: RegistryChannel, data: bytes) -> bool:
        """Answer `data`, all that came on a connection without a request, if it is a known one; else False."""
        key = (data, channel.peer)
        known = self._known.get(key)
        if known is None:
            return False
        prepared = known.prepared
        site = channel.site
        shelf = self._shelves[prepared.endpoint]
        if site.draining or shelf.get(prepared.key) is not prepared or not self._held_now(prepared):
            # What is dropped from the shelf by this is dropped there as well by the long way, which is next.
            del self._known[key]
            return False
        self._known.move_to_end(key)
        began = site.clock.seconds()
        id = site.new_id()
        channel.send(self._head(prepared, id, began, b"") + known.body)
        seconds = max(0.0, site.clock.seconds() - began)
        sent = len(known.body)
        metrics = site.metrics
        if prepared.pull:
            metrics.pulled(True)
        if prepared.pulled is not None:
            metrics.pulls.pulled(prepared.pulled)
        metrics.requested(known.told.event.method, prepared.endpoint, 200, seconds, sent)
        if prepared.endpoint == "manifest":
            site.last_pulls.pulled(known.told.event.client, began)
        if known.given is not None:
            metrics.recent.append((began, seconds, known.given))
        if site.audit is not None:
            site.audit.repeat(known.told, began, id, seconds)
        return True

    def answer(self, request: RegistryRequest) -> bool:
        """Answer `request` if that was prepared; False when the long way must be gone."""
        if not len(self) or request.clientproto != b"HTTP/1.1":
            return False
        rights = self._rights(request)
        if rights is None:
            return False
        prepared = self._find((request.method, request.uri, rights), request)
        if prepared is None:
            return False
        if isinstance(prepared.body, Streamed):
            return self._stream(request, prepared, prepared.body, rights)
        self._send(request, prepared, prepared.body, rights)
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
        body: bytes | Streamed,
        *,
        pull: bool = False,
        pulled: PullKey | None = None,
    ) -> None:
        """Prepare what is about to go out as a 200, if it may be served again.

        `pull`: it counts as one; `pulled` is the manifest that is given out, None for a HEAD or a blob.
        """
        visit, witness = request.visit, watch.witness
        since = self._now()
        if visit is None or not witness.reliable or watch.rules != self._rules:
            return
        if witness.until <= since or len(request.uri) > _MAX_URI:
            return
        if isinstance(body, bytes) and len(body) > MAX_ANSWER:
            return
        settled = int(min(watch.began, since) * 1e9) - _SETTLED_NS
        if any(stamp is not None and stamp[1] > settled for stamp in witness.seen.values()):
            return
        self._shelves[request.endpoint].put(
            Prepared(
                key=(request.method, request.uri, rights),
                endpoint=request.endpoint,
                head=_head(request),
                body=body,
                stamps=tuple(witness.seen.items()),
                since=since,
                until=min(witness.until, since + _LONGEST),
                visit=visit,
                pull=pull,
                pulled=pulled,
            )
        )

    def clear(self) -> None:
        """Forget everything: the rules have changed."""
        for shelf in self._shelves.values():
            shelf.clear()
        self._known.clear()
        self._rules += 1

    def _find(self, key: Key, request: RegistryRequest) -> Prepared | None:
        for shelf in self._shelves.values():
            prepared = shelf.get(key)
            if prepared is None:
                continue
            if any(map(request.requestHeaders.hasHeader, _CONDITIONS)):
                return None
            if self._holds(prepared):
                return prepared
            shelf.drop(key)
        return None

    def _held_now(self, prepared: Prepared) -> bool:
        """Tell whether it holds, by the look of this turn if there was one."""
        if self._soon is None:
            return self._holds(prepared)
        if not self._ending:
            # Before the first look: a write that ends after it is told after this.
            self._ending = True
            self._soon(self._end_turn)
        if prepared not in self._held:
            if not self._holds(prepared):
                return False
            self._held.add(prepared)
        return True

    def _holds(self, prepared: Prepared) -> bool:
        if not prepared.since <= self._now() < prepared.until:
            return False
        stamp = self._stamp
        try:
            for record, seen in prepared.stamps:
                if stamp(record) != seen:
                    return False
        except OSError:  # the long way has an answer to that
            return False
        return True

    def _end_turn(self) -> None:
        self._ending = False
        self._held.clear()

    def _stream(self, request: RegistryRequest, prepared: Prepared, body: Streamed, rights: Rights) -> bool:
        """Write the headers, and let the body be sent; False when its file cannot be opened."""
        try:
            reader = body.open()
        except OSError:
            reader = None
        if reader is None:
            return False
        head = self._begin(request, prepared, rights)
        request.under_way()
        request.channel.write(head)
        body.send(request, reader)
        return True

    def _begin(self, request: RegistryRequest, prepared: Prepared, rights: Rights) -> bytes:
        """Begin the answer, and give its headers."""
        channel = request.channel
        request.begin()
        request.endpoint = prepared.endpoint
        request.visit = attrs.evolve(prepared.visit, user=rights.user)
        if request.site.draining:
            channel.persistent = False
        last = b"" if channel.persistent else b"\r\nConnection: close"
        request.code = 200
        request.startedWriting = True
        return self._head(prepared, request.id, request.began, last)

    def _send(self, request: RegistryRequest, prepared: Prepared, body: bytes, rights: Rights) -> None:
        """Write the answer and tell metrics and audit log, as `RegistryRequest` does at a request's end."""
        site, channel = request.site, request.channel
        channel.send(self._begin(request, prepared, rights) + body)
        request.sentLength = len(body)
        if prepared.pull:
            site.metrics.pulled(True)
        if prepared.pulled is not None:
            site.metrics.pulls.pulled(prepared.pulled)
        event = request.tell(aborted=False)
        if event is not None and not any(map(request.requestHeaders.hasHeader, _ITS_OWN)):
            self._learn(channel, Known(prepared, body, Repeated(event), request.given))
        request.finish()

    def _learn(self, channel: RegistryChannel, known: Known) -> None:
        data, peer = channel.whole(), channel.peer
        if peer and 0 < len(data) <= MAX_HEAD:
            self._known[data, peer] = known
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)

    def _head(self, prepared: Prepared, id: str, seconds: float, last: bytes) -> bytes:
        date = self._today(seconds)
        return b"%b\r\nDate: %b\r\nX-Request-ID: %b%b\r\n\r\n" % (
            *(prepared.head, date, id.encode("ascii"), last),
        )

    def _today(self, seconds: float) -> bytes:
        if self._date[0] != int(seconds):
            self._date = (int(seconds), datetimeToString(seconds))
        return self._date[1]


def _head(request: RegistryRequest) -> bytes:
    lines = [b"HTTP/1.1 200 OK"]
    for name, values in request.responseHeaders.getAllRawHeaders():
        if name.lower() not in _OWN:
            lines += [b"%s: %s" % (name, value) for value in values]
    return b"\r\n".join(lines)
