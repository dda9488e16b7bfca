"""What the upstream room tells its watchers: words and numbers, never a repository's name or a secret."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Hears of every exchange with an upstream; `nora.telemetry` counts them.

    `upstream` is the upstream's configured name. A method returns at once and raises nothing.
    """

    def answered(self, upstream: str, kind: str, outcome: str, seconds: float) -> None:
        """Tell that one exchange ended.

        `kind` is `manifest`, `head`, `blob`, `list`, or `token` for one with a token service; `outcome` is `found`,
        `absent`, `denied`, `limited`, `unavailable` or `cancelled`; `seconds` ran until the response's headers (for
        a manifest, a list or a token: its last byte).
        """

    def received(self, upstream: str, count: int) -> None:
        """Tell that `count` bytes of a body came in."""

    def token(self, upstream: str) -> None:
        """Tell that a token was asked for at the upstream's token service."""

    def quota(self, upstream: str, remaining: int) -> None:
        """Tell how many pulls the upstream says are left."""

    def credential_refused(self, upstream: str) -> None:
        """Tell that the upstream, or its token service, did not take our credential."""

    def circuit(self, upstream: str, opened: bool) -> None:
        """Tell that the upstream's circuit opened, or that it is closed: told once at the beginning, too."""


class Unobserved:
    """An observer that nobody reads."""

    def answered(self, upstream: str, kind: str, outcome: str, seconds: float) -> None:
        """Do nothing."""

    def received(self, upstream: str, count: int) -> None:
        """Do nothing."""

    def token(self, upstream: str) -> None:
        """Do nothing."""

    def quota(self, upstream: str, remaining: int) -> None:
        """Do nothing."""

    def credential_refused(self, upstream: str) -> None:
        """Do nothing."""

    def circuit(self, upstream: str, opened: bool) -> None:
        """Do nothing."""
