"""What became of asking: one outcome an upstream, and what a whole chain's outcomes mean to a client."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from nora.oci.errors import Limited, NoraError, TimedOut, Unavailable, Unknown


class Absent(Unknown):
    """The upstream definitely has not got it: 404, or 401/403 to an anonymous request after the token flow.

    The latter is `denied`: whether it exists is the upstream's secret.
    """

    def __init__(self, message: str, *, denied: bool = False) -> None:
        super().__init__(message)
        self.denied = denied


@attrs.frozen
class Attempt:
    """One upstream's answer that ended nothing."""

    upstream: str
    error: NoraError

    @property
    def outcome(self) -> str:
        """The word for it: `absent`, `denied`, `limited` or `unavailable`."""
        if isinstance(self.error, Absent):
            return "denied" if self.error.denied else "absent"
        return "limited" if isinstance(self.error, Limited) else "unavailable"

    @property
    def definite(self) -> bool:
        """The upstream surely has not got it; a later upstream's answer is then more than provisional."""
        return isinstance(self.error, Absent)

    def as_detail(self) -> dict[str, str]:
        """Tell it to a client."""
        return {"upstream": self.upstream, "outcome": self.outcome, "reason": self.error.message}


def conclude(attempts: Sequence[Attempt], unknown: type[Unknown]) -> NoraError:
    """Tell what a chain's outcomes come to when none found anything.

    All absent (or no upstream at all): `unknown`. Any limited: `Limited`, with the longest time told. Else
    `Unavailable`, or `TimedOut` when time was all that failed.
    """
    detail = [attempt.as_detail() for attempt in attempts]
    failed = [attempt.error for attempt in attempts if not attempt.definite]
    if not failed:
        return unknown("no upstream has it" if attempts else "not stored, and no upstream to ask", detail)
    limited = [error for error in failed if isinstance(error, Limited)]
    if limited:
        told = [error.retry_after for error in limited if error.retry_after is not None]
        return Limited("an upstream limits its requests", max(told, default=None), detail)
    kind = TimedOut if all(isinstance(error, TimedOut) for error in failed) else Unavailable
    return kind("no upstream could answer", detail)


def outcomes_of(error: Unknown) -> frozenset[str]:
    """Tell the words for the attempts that `conclude` made `error` of; none for an error of another making."""
    detail = error.detail if isinstance(error.detail, list) else []
    return frozenset(each["outcome"] for each in detail if isinstance(each, dict) and "outcome" in each)


def is_clean(error: Unknown) -> bool:
    """Tell whether `error` is a no of upstreams that were asked, each saying that it has it not.

    One that denies access says something else.
    """
    return outcomes_of(error) == {"absent"}
