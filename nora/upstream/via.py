"""Via: which servers of this kind a request came through, so that two of them cannot ask each other for ever.

Each names itself by a pseudonym in the `Via` of what it asks upstream (RFC 9110 section 7.6.3), after those of the
request that it asks for; whoever finds its own in a request refuses it. Work that several requests share goes by
the names of the one that began it. Only our own pseudonyms are passed on: the rest is the client's business.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

MAX_HOPS = 8
"""More than this many servers of this kind in a row are taken for a loop."""

_PSEUDONYM = re.compile(r"nora-[0-9a-f]{16}\Z")
_MAX_LENGTH = 4096

forwarded: ContextVar[tuple[str, ...]] = ContextVar("forwarded", default=())
"""The pseudonyms of the request for which the running coroutine works. Each coroutine that is started inherits it."""


def make_pseudonym() -> str:
    """Make up a name for this server."""
    return f"nora-{secrets.token_hex(8)}"


def pseudonyms(via: str | None) -> tuple[str, ...]:
    """Read the servers of this kind that a `Via` header names, in order; of one past 4 KiB, the first."""
    words = (element.split() for element in (via or "")[:_MAX_LENGTH].split(","))
    return tuple(word[1] for word in words if len(word) > 1 and _PSEUDONYM.match(word[1]))


def header(own: str) -> str:
    """Write the `Via` of a request that the server `own` makes now."""
    return ", ".join(f"1.1 {name}" for name in (*forwarded.get(), own))
