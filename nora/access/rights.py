"""Rights: a client's identity and the actions it may take, as one frozen value."""

from __future__ import annotations

import enum

import attrs

from nora.oci.errors import Denied


class Action(enum.Enum):
    """What a client may do to a repository; the names are those of the token scopes."""

    PULL = "pull"


@attrs.frozen
class Rights:
    """What one client may do. `user` is None for an anonymous client."""

    user: str | None
    actions: frozenset[Action]

    @property
    def private(self) -> bool:
        """This client may read what only our credential at an upstream opened."""
        return self.user is not None

    def require(self, action: Action, repository: str) -> None:
        """Raise `Denied` unless this client may take `action` on `repository`, named as the client did."""
        if action not in self.actions:
            raise Denied(f"{action.value} is not allowed on {repository}")


ANONYMOUS = Rights(None, frozenset({Action.PULL}))
