"""Metrics: what the daemon counts, told in the words of the rooms that count it.

Every label value comes from a small fixed set or from the configuration (the names of upstreams); a
repository, a tag or a client never becomes one, so that the number of time series stays bounded. The children
of labelled metrics are kept, because looking one up costs three times what counting does.

`docs/metrics.md` documents each; a test compares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from nora.telemetry.exchanges import Exchanges
from nora.telemetry.pulls import Pulls
from nora.telemetry.recent import make_ring
from nora.telemetry.shared import shared_text
from nora.telemetry.sums import Tally

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ENDPOINTS = (
    *("base", "catalog", "manifest", "blob", "upload", "tags", "referrers"),
    *("metrics", "health", "ready", "page", "events", "token", "other"),
)
_KINDS = frozenset({"manifest", "head", "blob", "list", "token"})
_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120, 600)
_UPSTREAM_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


OfAll = Literal["livesum", "livemax", "mostrecent"]
"""What the values that several processes have of one gauge come to; `live`: the dead do not count."""


class Metrics:
    """All metrics of one process, in `registry`. No method of it may be called from a signal handler.

    Where several processes count in one `directory` (`nora.telemetry.shared`), it tells those of all of them.
    What the pages of NORA itself show is counted along, of this process alone: `tally`, `exchanges`, `pulls`, `recent`.
    """

    def __init__(self, registry: CollectorRegistry, version: str = "", directory: str = "") -> None:
        # Without this every counter is accompanied by a `_created` gauge that nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry
        self.tally = Tally()
        self.exchanges = Exchanges()
        self.recent = make_ring()
        self.pulls = Pulls()
        self._directory = directory
        self._watched: list[tuple[Gauge, Callable[[], float]]] = []
        self._pulls()
        self._answers()
        self._upstreams()
        self._fills()
        self._process(version)

    def _pulls(self) -> None:
        self._downloads = self._counter("nora_docker_downloads_total", "Pulls: GETs of one image manifest.")
        self._hits = self._counter("nora_cache_hits_total", "Pulls for which no body moved from upstream.")
        self._misses = self._counter("nora_cache_misses_total", "Pulls for which a body moved from upstream.")

    def _answers(self) -> None:
        self._requests = self._counter(
            "nora_requests_total", "Requests answered or aborted.", "method", "endpoint", "status"
        )
        self._request_children: dict[tuple[str, str, int | None], Counter] = {}
        seconds = Histogram(
            "nora_request_seconds",
            "Seconds from a request's last header to the end of its answer.",
            ("endpoint",),
            registry=self._registry,
            buckets=_REQUEST_BUCKETS,
        )
        self._request_seconds = {name: seconds.labels(name) for name in _ENDPOINTS}
        self._sent = self._counter("nora_sent_bytes_total", "Bytes of bodies sent to clients.")
        self._uploaded = self._counter("nora_uploaded_bytes_total", "Bytes of bodies received from clients.")
        self._logins = self._counter("nora_logins_total", "Logins by user and password.", "outcome")
        self._connections = self._gauge("nora_connections", "Open connections of clients.")
        self._refused = self._counter(
            "nora_connections_refused_total", "Connections closed at once, past max_connections."
        )

    def _upstreams(self) -> None:
        self._received = self._counter(
            "nora_received_bytes_total", "Bytes of bodies received from upstreams.", "upstream"
        )
        self._received_children: dict[str, Counter] = {}
        self._asked = self._counter(
            "nora_upstream_requests_total", "Exchanges with upstreams.", "upstream", "kind", "outcome"
        )
        self._asked_children: dict[tuple[str, str, str], Counter] = {}
        self._asked_seconds = Histogram(
            "nora_upstream_seconds",
            "Seconds up to an upstream's response headers, token and redirects included.",
            ("upstream", "kind"),
            registry=self._registry,
            buckets=_UPSTREAM_BUCKETS,
        )
        self._seconds_children: dict[tuple[str, str], Histogram] = {}
        self._tokens = self._counter("nora_upstream_tokens_total", "Tokens fetched.", "upstream")
        self._quota = self._gauge(
            "nora_upstream_quota_remaining",
            "Pulls that the upstream's rate limit leaves.",
            "upstream",
            of_all="mostrecent",
        )
        self._credential_refused = self._counter(
            "nora_upstream_credential_refused_total", "Exchanges whose credential was refused.", "upstream"
        )
        self._circuits = self._gauge(
            "nora_upstream_circuit_open",
            "1 while the upstream is taken for dead, else 0.",
            "upstream",
            of_all="livemax",
        )

    def _fills(self) -> None:
        self._fills_running = self._gauge("nora_fills_running", "Transfers into the store that run now.")
        self._fills_ended = self._counter(
            "nora_fills_total", "Transfers into the store that ended.", "result"
        )
        self._fills_resumed = self._counter(
            "nora_fill_resumes_total", "Transfers resumed at the last good byte.", "upstream"
        )
        self._stale = self._counter("nora_stale_total", "Answers from the cache that could not be confirmed.")
        self._negative = self._counter(
            "nora_negative_hits_total", "Answers of 404 from the memory of what no upstream has."
        )
        self._spared = self._counter(
            "nora_spared_total",
            "Answers from the cache though the tag moved, to spare an upstream's rate limit.",
        )
        self._provisional = self._counter(
            "nora_provisional_total", "Names resolved while an earlier upstream could not answer."
        )
        self._audit_dropped = self._counter("nora_audit_dropped_total", "Lines that the audit log lost.")

    def _process(self, version: str) -> None:
        stored: OfAll = "mostrecent"
        self._uploads = self._gauge(
            "nora_uploads", "Upload sessions that are open in the store.", of_all=stored
        )
        self._store_blobs = self._gauge("nora_store_blobs", "Published blobs in the store.", of_all=stored)
        self._store_bytes = self._gauge(
            "nora_store_bytes", "Bytes of published blobs in the store.", of_all=stored
        )
        self._store_free = self._gauge(
            "nora_store_free_bytes", "Free bytes on the store's file system.", of_all=stored
        )
        self._gauge("nora_workers", "Processes that serve.").set(1)
        self._restarts = self._counter(
            "nora_worker_restarts_total", "Workers that ended and were started again."
        )
        self._gauge(
            "nora_build_info", "Always 1; the label tells the version.", "version", of_all="livemax"
        ).labels(version).set(1)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _gauge(
        self,
        name: str,
        text: str,
        *labels: str,
        of_all: OfAll = "livesum",
    ) -> Gauge:
        """Make a gauge; `of_all` is what the values of several processes come to."""
        return Gauge(name, text, labels, registry=self._registry, multiprocess_mode=of_all)

    def text(self) -> bytes:
        """Tell all metrics in Prometheus' text format, of the type `CONTENT_TYPE`."""
        for gauge, tell in self._watched:
            gauge.set(tell())
        if self._directory:
            try:
                return shared_text(self._directory)
            except (OSError, ValueError):  # the directory is gone: somebody cleaned up where it is
                pass
        return generate_latest(self._registry)

    # What clients ask.

    def pulled(self, hit: bool) -> None:
        """Count a pull; `hit`: no body moved from upstream for it."""
        self._downloads.inc()
        (self._hits if hit else self._misses).inc()
        self.tally.pulled(hit)

    def requested(
        self, method: str, endpoint: str, status: int | None, seconds: float, sent: int, received: int = 0
    ) -> None:
        """Count a request that ended after `seconds` with `sent` bytes of body, and `received` of its own.

        `status` is None when the client left before it had an answer.
        """
        key = (method, endpoint, status)
        child = self._request_children.get(key)
        if child is None:
            method = method if method in _METHODS else "other"
            endpoint = endpoint if endpoint in _ENDPOINTS else "other"
            told = "none" if status is None else str(status)
            child = self._requests.labels(method, endpoint, told)
            if method != "other":  # else a client could grow the dictionary
                self._request_children[key] = child
        child.inc()
        self._request_seconds.get(endpoint, self._request_seconds["other"]).observe(seconds)
        self.tally.requested(endpoint, sent, received)
        if sent:
            self._sent.inc(sent)
        if received:
            self._uploaded.inc(received)

    def connected(self) -> None:
        """Count a client's connection as open."""
        self._connections.inc()

    def disconnected(self) -> None:
        """Count a client's connection as closed."""
        self._connections.dec()

    def refused(self) -> None:
        """Count a connection that was closed at once because there were too many."""
        self._refused.inc()

    def login(self, outcome: str) -> None:
        """Count a login; `outcome` is one of a few fixed words, such as `accepted` or `refused`."""
        self._logins.labels(outcome).inc()

    def stale(self) -> None:
        """Count an answer from the cache whose freshness could not be confirmed."""
        self._stale.inc()

    def spared(self) -> None:
        """Count a stored copy that was served though its tag moved, since few pulls are left."""
        self._spared.inc()

    # What upstreams answer: the observer of `nora.upstream`.

    def answered(self, upstream: str, kind: str, outcome: str, seconds: float) -> None:
        """Count an exchange with an upstream, `seconds` long up to its response headers."""
        kind = kind if kind in _KINDS else "other"
        key = (upstream, kind, outcome)
        child = self._asked_children.get(key)
        if child is None:
            child = self._asked_children[key] = self._asked.labels(upstream, kind, outcome)
        child.inc()
        timed = self._seconds_children.get((upstream, kind))
        if timed is None:
            timed = self._seconds_children[upstream, kind] = self._asked_seconds.labels(upstream, kind)
        timed.observe(seconds)
        self.exchanges.answered(upstream, outcome, seconds)

    def received(self, upstream: str, count: int) -> None:
        """Count `count` bytes of a body from an upstream."""
        child = self._received_children.get(upstream)
        if child is None:
            child = self._received_children[upstream] = self._received.labels(upstream)
        child.inc(count)
        self.tally.fetched(count)

    def token(self, upstream: str) -> None:
        """Count a token fetched for an upstream."""
        self._tokens.labels(upstream).inc()

    def quota(self, upstream: str, remaining: int) -> None:
        """Tell how many pulls an upstream's rate limit leaves."""
        self._quota.labels(upstream).set(remaining)

    def credential_refused(self, upstream: str) -> None:
        """Count a refusal of our credential at an upstream."""
        self._credential_refused.labels(upstream).inc()

    def circuit(self, upstream: str, opened: bool) -> None:
        """Tell whether an upstream's circuit is open."""
        self._circuits.labels(upstream).set(1 if opened else 0)

    # What pull does.

    def fill_started(self) -> None:
        """Count a transfer into the store as running."""
        self._fills_running.inc()

    def fill_ended(self, result: str) -> None:
        """Count the end of a transfer; `result` is one of a few fixed words, such as `stored` or `failed`."""
        self._fills_running.dec()
        self._fills_ended.labels(result).inc()

    def fill_resumed(self, upstream: str) -> None:
        """Count a transfer that an upstream resumed at its last good byte."""
        self._fills_resumed.labels(upstream).inc()

    def negative_hit(self) -> None:
        """Count a 404 that cost no upstream anything."""
        self._negative.inc()

    def provisional(self) -> None:
        """Count a name resolved while an earlier upstream could not answer."""
        self._provisional.inc()

    def watch_uploads(self, uploads: Callable[[], float]) -> None:
        """Ask this whenever metrics are read: open upload sessions."""
        self._watched.append((self._uploads, uploads))

    # What the daemon is.

    def audit_dropped(self, lines: int) -> None:
        """Count lines that the audit log lost."""
        self._audit_dropped.inc(lines)

    def watch_store(
        self, blobs: Callable[[], float], size: Callable[[], float], free: Callable[[], float]
    ) -> None:
        """Ask these whenever metrics are read: published blobs, their bytes, the file system's free bytes."""
        self._watched += [(self._store_blobs, blobs), (self._store_bytes, size), (self._store_free, free)]

    def restarted(self) -> None:
        """Count this process as one that took a dead one's place."""
        self._restarts.inc()
