"""The whole site: the registry and the pages beside it, as one factory for a listener."""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IReactorTime

from nora.access import Rights
from nora.concurrency import Background
from nora.storage.interfaces import Stamp
from nora.telemetry import AuditLog, Metrics
from nora.web.connections import RegistrySite
from nora.web.forwarded import Trusted
from nora.web.guarded import GuardedDoor
from nora.web.hot import Hot
from nora.web.pages import Health, HealthPage, MetricsPage, ReadyPage, Root
from nora.web.registry import Backend, Registry
from nora.web.requests import RegistryRequest
from nora.web.tokens import TokenPage, WithTokens
from nora.web.ui import Sources, UiSite


@attrs.frozen(kw_only=True)
class Limits:
    """What a client may take; times in seconds."""

    answer_timeout: float = 25.0
    """From a request's arrival to its answer's headers; containerd gives up at 30."""
    stall_timeout: float = 60.0
    """How long a client may take nothing of a body, or send next to nothing of one (`nora.web.incoming`)."""
    header_timeout: float = 30.0
    """From a request's first byte to its last, or to the last of its headers where the body streams."""
    idle_timeout: float = 60.0
    """How long a connection may be kept between requests."""
    max_connections: int = 10_000


def build_site(
    *,
    clock: IReactorTime,
    backend: Backend,
    metrics: Metrics,
    audit: AuditLog | None,
    health: Health,
    ready: Callable[[], bool],
    instance: str,
    background: Background | None = None,
    limits: Limits | None = None,
    trusted: Trusted | None = None,
    stamp: Callable[[str], Stamp | None] | None = None,
    soon: Callable[[Callable[[], None]], object] | None = None,
    ui: Sources | None = None,
) -> RegistrySite:
    """Put the site together.

    `health` tells what `/health` shows beside status and version; `ready` whether the daemon has started;
    `instance` is the pseudonym that this server's own requests carry in `Via`; `trusted` are the proxies before it.
    In `background` run the pushes whose clients have left; `stamp` tells a record's stamp now, and without it no answer
    is prepared; `soon` is as in `Hot`. `ui` is what the pages under `/ui` and `/api` tell; without it there are none.
    """
    limits = limits or Limits()
    registry = Registry(
        backend,
        clock,
        metrics,
        instance,
        Background() if background is None else background,
        answer_timeout=limits.answer_timeout,
        stall_timeout=limits.stall_timeout,
    )
    root = Root(None if ui is None else b"/ui/")
    if ui is not None:
        pages = UiSite(ui, lambda: backend.doorkeeper, lambda: backend.contents)
        root.putChild(b"ui", pages.pages())
        root.putChild(b"api", pages.api())
    tokens = TokenPage(lambda: backend.doorkeeper if isinstance(backend.doorkeeper, GuardedDoor) else None)
    root.putChild(b"v2", WithTokens(tokens, registry.resource()))
    root.putChild(b"metrics", MetricsPage(metrics))
    root.putChild(b"health", HealthPage(health))
    root.putChild(b"ready", ReadyPage(ready))
    site = RegistrySite(
        root,
        clock,
        metrics,
        audit,
        max_connections=limits.max_connections,
        header_timeout=limits.header_timeout,
        idle_timeout=limits.idle_timeout,
        stall_timeout=limits.stall_timeout,
        trusted=trusted,
    )

    def rights(request: RegistryRequest) -> Rights | None:
        return backend.doorkeeper.at_once(request)  # which may be another one after a reload

    if stamp is not None:
        site.hot = Hot(stamp, rights, soon=soon)
    return site
