"""A credential: a value whose secret no `repr` shows."""

from __future__ import annotations

import base64
import enum

import attrs

MAX_SECRET = 64 * 1024
"""The longest password or token, in characters."""


class Kind(enum.Enum):
    """How a credential is shown to whom it is for."""

    BASIC = "basic"
    """User and password: to the upstream itself, or to its token service."""
    IDENTITY = "identity"
    """A token that the token service exchanges for others, and nobody else takes."""
    BEARER = "bearer"
    """A token that the upstream itself takes."""


@attrs.frozen(repr=False, str=False)
class Credential:
    """One credential; `user` is empty unless it is a Basic one. Shown as its kind alone."""

    kind: Kind
    user: str
    secret: str

    def header(self) -> str:
        """Give the value of `Authorization`; not for an identity token."""
        if self.kind is Kind.BASIC:
            pair = f"{self.user}:{self.secret}".encode()
            return f"Basic {base64.b64encode(pair).decode('ascii')}"
        return f"Bearer {self.secret}"

    def __repr__(self) -> str:
        return f"<{self.kind.value} credential>"

    __str__ = __repr__
