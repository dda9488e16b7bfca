"""Facts: what the pages show and the API tells, put together once for both, as values that JSON can hold.

Moments are ISO 8601 in UTC, sizes bytes, times seconds.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import attrs

import nora
from nora.telemetry import Exchanges, Sums
from nora.telemetry.sums import HOUR, MINUTE
from nora.telemetry.tail import AuditTail
from nora.web import challenges
from nora.web.pages import Health
from nora.web.requests import RegistryRequest
from nora.web.ui import words
from nora.web.ui.now import NowSources
from nora.web.ui.periods import Period, Series, hit_rate
from nora.web.ui.snippets import Server, snippets
from nora.web.visitors import visitor

Facts = dict[str, Any]
History = Callable[[int, int], Awaitable[list[tuple[int, Sums]]]]
"""Tells the sums of the spans of so many seconds that begin at a moment or later; see `SqliteIndex.sums`."""


@attrs.frozen(kw_only=True)
class Sources:
    """Where the facts come from."""

    health: Health
    history: History
    exchanges: Exchanges
    public_url: Callable[[], str | None]
    key: Callable[[], bytes]
    """The store's key: all its processes have the same."""
    audit: AuditTail | None = None
    """The audit log; None where none is written."""
    happening: NowSources
    now: Callable[[], float] = time.time
    """Seconds since the epoch."""


class Telling:
    """Tells the facts."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return self._sources.now()

    async def dashboard(self, everything: Sequence[Series]) -> Facts:
        """Tell how the server is, and what it did: the series of all periods."""
        health = cast(Facts, await self._sources.health())
        return {
            "version": nora.__version__,
            "now": words.iso(self.now),
            "started_at": words.iso(self.now - health["uptime"]),
            "uptime": health["uptime"],
            "store": health["store"],
            "warnings": health["warnings"],
            "periods": {series.period.name: _summary(series) for series in everything},
        }

    async def history(self, period: Period) -> Facts:
        """Tell what was done in each step of a period."""
        (series,) = await self.series(period)
        return {
            "period": period.name,
            "step": period.step,
            "points": [
                {"at": words.iso(series.begins + place * period.step), **_counts(each)}
                for place, each in enumerate(series.steps)
            ],
        }

    async def series(self, *periods: Period) -> list[Series]:
        """Give the steps of each of the periods."""
        now = self.now
        sums = {}
        for span in (MINUTE, HOUR):
            begins = [period.begins(now) for period in periods if period.span == span]
            sums[span] = await self._sources.history(span, min(begins)) if begins else []
        return [period.series(sums[period.span], now) for period in periods]

    async def upstreams(self) -> Facts:
        """Tell how each upstream is."""
        health = cast(Facts, await self._sources.health())
        return {
            "now": words.iso(self.now),
            "upstreams": [self._upstream(each) for each in health["upstreams"]],
        }

    async def client(self, request: RegistryRequest) -> Facts:
        """Tell how a client is set up, and when the machine that asks pulled last."""
        server = self.server(request)
        health = cast(Facts, await self._sources.health())
        address = visitor(request).address
        last = request.site.last_pulls.last(address)
        return {
            "server": {"url": server.url, "scheme": server.scheme, "host": server.host},
            "you": {
                "address": address,
                "last_pull_at": words.iso(last),
                "seconds_ago": None if last is None else max(0, round(self.now - last)),
            },
            "snippets": [
                attrs.asdict(each)
                for each in snippets(server, [upstream["namespace"] for upstream in health["upstreams"]])
            ],
        }

    def server(self, request: RegistryRequest) -> Server:
        """Tell what the client of `request` knows this server as."""
        return Server(*challenges.known_as(request, self._sources.public_url()))

    def _upstream(self, told: Facts) -> Facts:
        asked = self._sources.exchanges.told(told["name"])
        return {
            **{key: told[key] for key in ("name", "namespace", "url", "circuit", "warnings")},
            **{key: told[key] for key in ("last_success", "last_error", "last_error_at")},
            "latency": {"p50": _rounded(asked.p50), "p95": _rounded(asked.p95)},
            "requests": dict(asked.outcomes),
            "quota": {"pulls_left": told["pulls_left"], "resets_at": told["pulls_reset_at"]},
        }


def _summary(series: Series) -> Facts:
    total = series.total
    return {**_counts(total), "hit_rate": _rounded(hit_rate(total)), "since": words.iso(series.begins)}


def _counts(sums: Sums) -> Facts:
    return {
        "requests": sums.requests,
        "pulls": sums.pulls,
        "hits": sums.hits,
        "served_bytes": sums.served,
        "fetched_bytes": sums.fetched,
        "pushed_bytes": sums.pushed,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
