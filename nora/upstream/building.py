"""A registry put together: the client with its own connections and guard, and its twin without our credential."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.threads import deferToThreadPool

from nora.upstream.credentials import Source
from nora.upstream.guard import Guard
from nora.upstream.observer import Observer
from nora.upstream.origin import Origin
from nora.upstream.proxy import Proxies
from nora.upstream.registry import Registry
from nora.upstream.transport import build_agent
from nora.upstream.via import make_pseudonym


def build_registry(
    reactor: Any,
    *,
    name: str,
    namespace: str,
    url: str,
    connect_timeout: float = 5.0,
    proxy_timeout: float = 60.0,
    read_timeout: float = 30.0,
    ca_file: str | None = None,
    observer: Observer | None = None,
    pseudonym: str | None = None,
    source: Source | None = None,
    realms: Iterable[str] = (),
    proxies: Proxies | None = None,
) -> Registry:
    """Build a registry on `reactor` with a guarded agent of its own.

    `ca_file` is a PEM file whose certificates are trusted instead of the system's; `source` and `realms` are those of
    `Registry`, which then has an `anonymous` twin on the same connections. Raises `ValueError` for a bad URL or file
    and `OSError` when the file cannot be read.
    """
    guard = Guard(Origin.of(url).host)
    agent, pool = build_agent(
        reactor, guard, connect_timeout, ca_file, pseudonym or make_pseudonym(), proxies or Proxies()
    )

    def build(source: Source | None, twin_of: Registry | None = None) -> Registry:
        return Registry(
            name=name,
            namespace=namespace,
            url=url,
            agent=agent,
            clock=reactor,
            proxy_timeout=proxy_timeout,
            read_timeout=read_timeout,
            guard=guard,
            pool=pool,
            observer=observer,
            offload=lambda work: deferToThreadPool(reactor, reactor.getThreadPool(), work),
            source=source,
            realms=realms,
            twin_of=twin_of,
        )

    registry = build(source)
    if source is not None:
        registry.anonymous = build(None, registry)
    return registry
