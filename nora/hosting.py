"""Hosting, put together: pushing, and reading, listing and removing what was pushed.

Of `nora.daemon`'s work this is the part about repositories that are hosted here.
"""

from __future__ import annotations

import time

import attrs

from nora.concurrency import Background
from nora.config.docker import DockerConfig
from nora.content.catalog import IndexedCatalog
from nora.content.chosen import ChosenDiscovery, ChosenPull
from nora.content.hosted import HostedDiscovery, HostedPull
from nora.content.purge import Purge
from nora.content.removal import HostedRemoval
from nora.pull.interfaces import Discovery, Pull
from nora.pull.manifests import Manifests
from nora.pull.privacy import Privacy
from nora.push.everything import EveryPush
from nora.push.immutable import ImmutableTags
from nora.push.manifests import ManifestPush
from nora.push.mounts import Mounts
from nora.push.sessions import Sessions
from nora.push.targets import HostedTargets
from nora.push.turns import Turns
from nora.storage.inventory import Inventory
from nora.storage.store import Store
from nora.upstream.routing import Routing


@attrs.frozen
class Hosting:
    """What `web` is handed: everything that can be pulled, hosted or proxied, pushed, listed and removed."""

    pull: Pull
    discovery: Discovery
    push: EveryPush
    removal: HostedRemoval
    catalog: IndexedCatalog


def build_hosting(
    store: Store,
    docker: DockerConfig,
    routing: Routing,
    manifests: Manifests,
    proxied: Pull,
    lists: Discovery,
    privacy: Privacy,
    turns: Turns,
    background: Background,
) -> Hosting:
    """Put hosting together, beside the `proxied` pull and `lists`.

    `turns` and `background` outlive a reload: both must be idle before the store is closed, and are never cancelled.
    """
    immutable = ImmutableTags(docker.immutable_tags)
    targets = HostedTargets(routing, store.names, store.holdings)
    mounts = Mounts(
        routing,
        targets,
        store.blobs,
        store.repositories,
        store.records,
        store.names,
        store.index,
        store.locks,
    )
    sessions = Sessions(
        store.uploads,
        store.repositories,
        store.locks,
        targets,
        mounts,
        background,
        docker.max_upload_size,
    )
    pushed = ManifestPush(
        targets,
        store.repositories,
        store.holdings,
        store.blobs,
        store.index,
        store.disk,
        store.locks,
        turns,
        immutable,
        time.time,
        sparse=docker.push_sparse,
    )
    here = HostedPull(manifests, store.repositories, store.blobs, store.index, store.disk)
    removal = HostedRemoval(
        routing,
        store.names,
        store.repositories,
        store.holdings,
        store.blobs,
        store.index,
        turns,
        immutable,
        Purge(store.repositories, store.holdings, Inventory(store.records), store.lists, store.index),
    )
    return Hosting(
        ChosenPull(store.names, here, proxied),
        ChosenDiscovery(store.names, HostedDiscovery(store.holdings, store.names), lists),
        EveryPush(sessions, pushed),
        removal,
        IndexedCatalog(store.index, privacy),
    )
