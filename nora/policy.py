"""What a configuration can change in a running daemon, for the composition root: built anew and exchanged as a whole.

The store, the fills and the work of pushes under way stay; everything here is made over them.
"""

from __future__ import annotations

import time
from typing import Any

from nora.accounts import shared_namespaces, strangers
from nora.concurrency import Background
from nora.config import Config, DockerConfig
from nora.content.administration import StoreAdministration
from nora.content.contents import Contents
from nora.content.shelves import Shelves
from nora.hosting import build_hosting
from nora.pull.absences import Absences
from nora.pull.blobs import BlobPull
from nora.pull.discovery import DiscoveryThrough
from nora.pull.fills import Fills
from nora.pull.freshness import Freshness, Rule
from nora.pull.manifests import Manifests
from nora.pull.owners import Owners
from nora.pull.permitted import PermittedDiscovery, PermittedPull
from nora.pull.privacy import Privacy, PrivateDiscovery, PrivatePull
from nora.pull.tags import Tags
from nora.pull.through import PullThrough
from nora.push.turns import Turns
from nora.storage.overview import Overview
from nora.storage.store import Store
from nora.telemetry import Metrics
from nora.upstream.routing import Routing
from nora.upstreams import Configured
from nora.web.doorkeeper import Doorkeeper
from nora.web.registry import Backend


class Policy:
    """What a request meets, by the rules of one configuration. `owners` is also asked for how certain names are."""

    def __init__(
        self,
        config: Config,
        configured: Configured,
        doorkeeper: Doorkeeper,
        *,
        reactor: Any,
        store: Store,
        fills: Fills,
        background: Background,
        pushing: Background,
        turns: Turns,
        metrics: Metrics,
    ) -> None:
        """`pushing` runs what pushes began; unlike what runs in `background` it is never cancelled."""
        self._reactor = reactor
        self._store = store
        self._background = background
        self._metrics = metrics
        docker = config.docker
        routing = Routing(
            configured.routed,
            own_hosts=config.server.own_names,
            default_action=docker.default_action,
            hosted=docker.hosted,
        )
        self.owners = Owners(store.repositories, store.names, time.time, docker.fallback, metrics)
        anonymous = strangers(configured.registries.values(), offline=docker.offline)
        everyone = shared_namespaces(docker.upstreams, anonymous)
        privacy = Privacy(store.records, self.owners, anonymous, everyone, background, time.time)
        freshness = _freshness(docker)
        absences = Absences(reactor, docker.negative_ttl, metrics)
        manifests = Manifests(store.blobs, store.repositories, store.index, store.locks, background, absences)
        pull = self._pull(docker, freshness, manifests, absences, fills)
        discovery = self._discovery(docker, manifests, absences)
        hosting = build_hosting(
            store,
            docker,
            routing,
            manifests,
            PermittedPull(PrivatePull(pull, privacy)),
            PermittedDiscovery(PrivateDiscovery(discovery, privacy)),
            privacy,
            turns,
            pushing,
        )
        self.backend = Backend(
            routing,
            hosting.pull,
            hosting.discovery,
            push=hosting.push,
            removal=hosting.removal,
            administration=StoreAdministration(routing, hosting.removal, pull),
            catalog=hosting.catalog,
            doorkeeper=doorkeeper,
            contents=Contents(
                store.index,
                Overview(store.index),
                Shelves(store.layout, store.disk),
                store.holdings,
                store.repositories,
                store.lists,
                privacy,
                freshness,
            ),
        )

    def _pull(
        self,
        docker: DockerConfig,
        freshness: Freshness,
        manifests: Manifests,
        absences: Absences,
        fills: Fills,
    ) -> PullThrough:
        store, owners = self._store, self.owners
        tags = Tags(
            store.repositories,
            manifests,
            owners,
            store.locks,
            self._background,
            self._reactor,
            time.time,
            freshness,
        )
        blobs = BlobPull(
            store.blobs,
            store.repositories,
            store.index,
            store.disk,
            fills,
            owners,
            self._background,
            absences,
        )
        return PullThrough(manifests, tags, blobs, owners, self._metrics)

    def _discovery(self, docker: DockerConfig, manifests: Manifests, absences: Absences) -> DiscoveryThrough:
        store = self._store
        return DiscoveryThrough(
            store.lists,
            store.disk,
            manifests,
            self.owners,
            store.locks,
            absences,
            self._background,
            self._reactor,
            time.time,
            self._metrics,
            list_ttl=docker.list_ttl,
            revalidate_timeout=docker.revalidate_timeout,
        )


def _freshness(docker: DockerConfig) -> Freshness:
    return Freshness(
        docker.metadata_ttl,
        docker.revalidate_timeout,
        rules=tuple(Rule(rule.match, rule.ttl) for rule in docker.freshness),
        max_stale=docker.max_stale,
        forgets=docker.forgets,
        quota_reserve=docker.quota_reserve,
        offline=docker.offline,
    )
