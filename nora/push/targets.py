"""What a name means for a push: a repository hosted here, or a refusal that says why.

Hosted is closed: a hosted repository never asks an upstream. So whoever may push must not be able to take a name away
from the images that everybody pulls by it. A name that resolved to an upstream, or one under `library/`, can be pushed
to only where the configuration's `hosted` covers it; one that is hosted already stays so. Nor is one free of which
something is cached, though it resolved for nobody: who pulls by digest alone, or whom the rules show only some of the
upstreams, leaves no owner behind.
"""

from __future__ import annotations

from typing import Protocol

from nora.access import Action, Rights
from nora.oci import Repository
from nora.oci.errors import Denied
from nora.push.interfaces import Target
from nora.storage.interfaces import Hosted
from nora.upstream.interfaces import Route

_LIBRARY = "library/"


class PushRules(Protocol):
    """What the configuration says of names; see `nora.upstream.routing.Routing`."""

    def pushed(self, name: str, ns: str | None = None) -> Repository:
        """Tell the hosted repository that the name means by the rules alone; raises `InvalidName`, `Denied`."""

    def is_hosted(self, name: str) -> bool:
        """Tell whether the configuration's `hosted` covers the name."""

    def route(self, name: str, ns: str | None = None) -> Route:
        """Tell what the name may mean at upstreams."""


class Stored(Protocol):
    """What is here of a repository; see `nora.storage.holdings.Holdings`."""

    async def is_empty(self, repository: Repository) -> bool:
        """Tell whether the repository has no manifest."""


class HostedTargets:
    """See `nora.push.interfaces.Targets`."""

    def __init__(self, rules: PushRules, hosted: Hosted, stored: Stored) -> None:
        self._rules = rules
        self._hosted = hosted
        self._stored = stored

    async def resolve(self, target: Target, rights: Rights) -> Repository:
        """Tell the hosted repository that `target` means, which the client may push to.

        Raises `InvalidName`, `NotAllowed`, `Denied`.
        """
        name = target.name
        rights.require(Action.PUSH, name)
        repository = self._rules.pushed(name, target.ns)
        rights.require_on(Action.PUSH, repository, name)
        if self._hosted.known(name) or self._rules.is_hosted(name):
            return repository
        if name.startswith(_LIBRARY):
            raise Denied(
                f"{name} is a name of Docker Hub's own images: it can be pushed to only where docker.hosted covers it",
                {"name": name, "key": "docker.hosted"},
            )
        if await self._hosted.owned(name) or await self._is_cached(name):
            raise _taken(name)
        return repository

    async def host(self, repository: Repository) -> None:
        """Make the repository hosted, before its first link.

        Raises `Denied` where the name came to mean an upstream's repository meanwhile, `Overloaded`, `NoSpace`.
        """
        name = repository.name
        covered = self._rules.is_hosted(name)
        if not covered and not self._hosted.known(name) and await self._is_cached(name):
            raise _taken(name)
        if not await self._hosted.mark(name, covered=covered):
            raise _taken(name)

    async def _is_cached(self, name: str) -> bool:
        """Tell whether an upstream's manifest is here that may be pulled by this name."""
        for candidate in self._rules.route(name).candidates:
            if not await self._stored.is_empty(candidate.repository):
                return True
        return False


def _taken(name: str) -> Denied:
    return Denied(
        f"{name} is cached from an upstream, and a push would hide that image from everyone: "
        "it can be pushed to only where docker.hosted covers it",
        {"name": name, "key": "docker.hosted"},
    )
