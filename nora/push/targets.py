"""What a name means for a push: a repository hosted here, or a refusal that says why.

Hosted is closed: a hosted repository never asks an upstream. So whoever may push must not be able to take a name away
from the images that everybody pulls by it. A name that resolved to an upstream, or one under `library/`, can be pushed
to only where the configuration's `hosted` covers it; one that is hosted already stays so.
"""

from __future__ import annotations

from typing import Protocol

from nora.access import Action, Rights
from nora.oci import Repository
from nora.oci.errors import Denied
from nora.push.interfaces import Target
from nora.storage.interfaces import Hosted

_LIBRARY = "library/"


class PushRules(Protocol):
    """What the configuration says of names; see `nora.upstream.routing.Routing`."""

    def pushed(self, name: str, ns: str | None = None) -> Repository:
        """Tell the hosted repository that the name means by the rules alone; raises `InvalidName`, `Denied`."""

    def is_hosted(self, name: str) -> bool:
        """Tell whether the configuration's `hosted` covers the name."""


class HostedTargets:
    """See `nora.push.interfaces.Targets`."""

    def __init__(self, rules: PushRules, hosted: Hosted) -> None:
        self._rules = rules
        self._hosted = hosted

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
        if await self._hosted.owned(name):
            raise _taken(name)
        return repository

    async def host(self, repository: Repository) -> None:
        """Make the repository hosted, before its first link.

        Raises `Denied` where the name came to mean an upstream's repository meanwhile, `Overloaded`, `NoSpace`.
        """
        name = repository.name
        if not await self._hosted.mark(name, covered=self._rules.is_hosted(name)):
            raise _taken(name)


def _taken(name: str) -> Denied:
    return Denied(
        f"{name} is cached from an upstream, and a push would hide that image from everyone: "
        "it can be pushed to only where docker.hosted covers it",
        {"name": name, "key": "docker.hosted"},
    )
