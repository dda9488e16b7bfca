"""The upstreams of a configuration, for the composition root: built once, and kept while they stay the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from nora.accounts import credential_of
from nora.concurrency import Background
from nora.config import DockerConfig, UpstreamConfig
from nora.process import CannotStart
from nora.proxies import proxies_of
from nora.telemetry import Metrics
from nora.upstream.building import build_registry
from nora.upstream.offline import Offline
from nora.upstream.registry import Registry
from nora.upstream.routing import RoutedUpstream


@attrs.frozen
class Asked:
    """What makes an upstream the same one after a reload, so that its connections and tokens are kept."""

    upstream: UpstreamConfig
    connect_timeout: float
    proxy_timeout: float
    read_timeout: float


@attrs.frozen
class Configured:
    """The upstreams of one configuration, and their places in the routes."""

    registries: Mapping[Asked, Registry]
    routed: tuple[RoutedUpstream, ...]


class Upstreams:
    """The upstreams that are there now."""

    def __init__(
        self,
        reactor: Any,
        metrics: Metrics,
        pseudonym: str,
        environ: Mapping[str, str],
        background: Background,
    ) -> None:
        self._reactor = reactor
        self._metrics = metrics
        self._pseudonym = pseudonym
        self._environ = environ
        self._background = background
        self._registries: Mapping[Asked, Registry] = {}

    @property
    def registries(self) -> list[Registry]:
        """List them in their order."""
        return list(self._registries.values())

    def configured(self, docker: DockerConfig) -> Configured:
        """Build what a configuration has beyond what is there; nothing is exchanged yet. Raises `CannotStart`."""
        registries: dict[Asked, Registry] = {}
        routed = []
        for upstream in docker.upstreams:
            asked = Asked(upstream, docker.connect_timeout, docker.proxy_timeout, docker.read_timeout)
            try:
                registries[asked] = self._registries.get(asked) or self._build(asked)
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                raise CannotStart(
                    f"docker.upstreams: {upstream.name}: {upstream.ca_file}: {reason}"
                ) from error
            place = Offline(upstream.name, upstream.namespace) if docker.offline else registries[asked]
            routed.append(RoutedUpstream(place, upstream.prefix, upstream.include, upstream.exclude))
        return Configured(registries, tuple(routed))

    def take_over(self, configured: Configured) -> None:
        """Let these be the upstreams; those that are left out are closed, behind what still uses them."""
        dropped = [old for asked, old in self._registries.items() if asked not in configured.registries]
        self._registries = configured.registries
        for old in dropped:
            self._background.start(old.close())
        for registry in self.registries:
            registry.try_again()

    async def close(self) -> None:
        """Close all of them."""
        await _close(self.registries)

    def _build(self, asked: Asked) -> Registry:
        return build_registry(
            self._reactor,
            name=asked.upstream.name,
            namespace=asked.upstream.namespace,
            url=asked.upstream.url,
            connect_timeout=asked.connect_timeout,
            proxy_timeout=asked.proxy_timeout,
            read_timeout=asked.read_timeout,
            ca_file=asked.upstream.ca_file,
            observer=self._metrics,
            pseudonym=self._pseudonym,
            source=credential_of(self._reactor, asked.upstream),
            realms=asked.upstream.realms,
            proxies=proxies_of(asked.upstream, self._environ),
        )


async def _close(registries: Iterable[Registry]) -> None:
    for registry in registries:
        await registry.close()
