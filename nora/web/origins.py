"""Origins: whether a page of this server made a browser send a request, or another site did.

Browsers send a user's password by themselves, whoever makes them ask. What they cannot be made to lie about is
`Sec-Fetch-Site` and `Origin` (Fetch Metadata; Fetch section 3.2): a request that would change something comes from our
own pages, or from no page at all. Programs send neither.
"""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

from nora.web.requests import RegistryRequest
from nora.web.visitors import Visitor, visitor

_OURS = frozenset({b"same-origin", b"none"})


def is_foreign(request: RegistryRequest, public_url: str | None = None) -> bool:
    """Tell whether another origin's page made a browser send the request.

    Our own pages are those of the host that is asked, and of `public_url`. A proxy before us may speak TLS without our
    knowledge, so an origin of https is ours by its host alone; the other way round it is not.
    """
    site = request.requestHeaders.getRawHeaders(b"Sec-Fetch-Site") or [b"none"]
    if len(site) > 1 or site[0].strip() not in _OURS:
        return True
    origins = request.requestHeaders.getRawHeaders(b"Origin")
    if not origins:
        return False
    seen = visitor(request)
    ours = {f"{seen.scheme}://{seen.host}", f"https://{seen.host}"} if seen.host else set()
    return len(origins) > 1 or origins[0].decode("latin-1").strip() not in ours | {public_url}


def is_at(request: RegistryRequest, seen: Visitor) -> bool:
    """Tell whether the request comes from no page, or from one of exactly the scheme and host that `seen` tells."""
    origins = request.requestHeaders.getRawHeaders(b"Origin")
    return not origins or [origin.decode("latin-1") for origin in origins] == [f"{seen.scheme}://{seen.host}"]
