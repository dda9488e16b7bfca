"""Rights: a client's identity and what it may do, as one frozen value.

Two questions are apart. `require` asks what the client was granted for the name it used: a token is for certain names.
`allows` asks the operator's rules about the repository that the name came to mean, so that no other name of it gets
round a rule.
"""

from __future__ import annotations

import enum
from typing import Protocol

import attrs

from nora.oci.errors import NotAllowed
from nora.oci.reference import LOCAL, Repository

_EVERYTHING = "*"
"""No repository is called so: of the rules' patterns only those that mean all of them match it."""


class Action(enum.Enum):
    """What a client may do to a repository; the names are those of the token scopes."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    ADMIN = "admin"


class Rules(Protocol):
    """The operator's rules."""

    def allow(self, user: str | None, action: Action, repository: str) -> bool:
        """Tell whether `user`, None for an anonymous client, may take `action` on a repository by its full name."""

    def beginnings(self, user: str | None, action: Action) -> tuple[str, ...]:
        """Tell with what the full names begin of all repositories that `allow` may allow; in order, none twice."""


def full_name(repository: Repository) -> str:
    """Name a repository for the rules: a hosted one by its own name, a cached one `<namespace>/<name>`."""
    return repository.name if repository.namespace == LOCAL else str(repository)


@attrs.frozen
class Rights:
    """What one client may do. `user` is None for an anonymous client."""

    user: str | None
    actions: frozenset[Action]
    """The most that it may do anywhere."""
    rules: Rules | None = None
    """What narrows that down by repository; None where nothing does."""
    scopes: frozenset[tuple[str, Action]] | None = None
    """The names, as the client used them, and actions that its token is for; None where no token narrows it down."""

    @property
    def private(self) -> bool:
        """This client may read what only our credential at an upstream opened."""
        return self.user is not None and Action.PULL in self.actions

    def grants(self, action: Action, name: str) -> bool:
        """Tell whether this client was granted `action` on `name`, as it named the repository."""
        return action in self.actions and (self.scopes is None or (name, action) in self.scopes)

    def require(self, action: Action, name: str) -> None:
        """Raise `NotAllowed` unless this client was granted `action` on `name`, as it named the repository."""
        if not self.grants(action, name):
            raise NotAllowed(f"{action.value} is not allowed on {name}")

    def allows(self, action: Action, repository: Repository) -> bool:
        """Tell whether the rules let this client take `action` on `repository`."""
        if action not in self.actions:
            return False
        return self.rules is None or self.rules.allow(self.user, action, full_name(repository))

    @property
    def oversees(self) -> bool:
        """Tell whether this client is the administrator of everything: what no narrower rule takes from it."""
        if self.scopes is not None or Action.ADMIN not in self.actions:
            return False
        return self.rules is None or self.rules.allow(self.user, Action.ADMIN, _EVERYTHING)

    def beginnings(self, action: Action) -> tuple[str, ...]:
        """Tell with what the full names begin of all repositories that `allows` may allow: `("",)` where any may be."""
        if action not in self.actions:
            return ()
        return ("",) if self.rules is None else self.rules.beginnings(self.user, action)

    def require_on(self, action: Action, repository: Repository, name: str) -> None:
        """Raise `NotAllowed` unless both hold: `require` of the name, `allows` of the repository it means."""
        self.require(action, name)
        if not self.allows(action, repository):
            raise NotAllowed(f"{action.value} is not allowed on {name}")


ANONYMOUS = Rights(None, frozenset({Action.PULL}))
