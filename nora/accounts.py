"""What the configuration says about our accounts at upstreams, for the composition root."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

from nora.config import UpstreamConfig
from nora.upstream.credentials import Source
from nora.upstream.interfaces import Upstream
from nora.upstream.offline import Offline
from nora.upstream.registry import Registry
from nora.upstream.sources import make_source


def credential_of(reactor: Any, upstream: UpstreamConfig) -> Source | None:
    """Make the source of the upstream's credential; None where it has none."""
    return make_source(
        reactor,
        upstream.url,
        auth=None if upstream.auth is None else upstream.auth.reveal(),
        username=upstream.username,
        password_file=upstream.password_file,
        token_file=upstream.token_file,
        docker_config=upstream.docker_config,
        lifetime=upstream.credential_ttl,
    )


def shared_namespaces(upstreams: Iterable[UpstreamConfig], credentialed: Container[str]) -> set[str]:
    """Tell the namespaces that are shared with everyone: each upstream there that has a credential says so."""
    shared = {upstream.namespace for upstream in upstreams if upstream.share == "everyone"}
    kept = {
        upstream.namespace
        for upstream in upstreams
        if upstream.share != "everyone" and upstream.name in credentialed
    }
    return shared - kept


def strangers(registries: Iterable[Registry], *, offline: bool) -> dict[str, Upstream]:
    """Give, by name, each upstream that has a credential as it is asked without one; offline, not at all."""
    return {
        each.name: Offline(each.name, each.namespace) if offline else each.anonymous
        for each in registries
        if each.anonymous is not None
    }
