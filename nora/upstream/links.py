"""What the answer to a question about a list says of where the rest is, and where such a question may be led.

Of a `Link` only its query is taken: registries behind proxies tell wrong schemes, ports and prefixes, while the path to
the list is known. One that leads to another host is not followed, and neither is a redirect to anything else than the
same kind of list: GHCR sends who asks for referrers to a web page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from nora.oci.errors import Unverified
from nora.upstream.origin import BadURL, Origin, path_of

_MAX_QUERY = 4096
_MAX_LINKS = 16 * 1024
_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_NEXT = re.compile(r";\s*rel\s*=\s*(?:\"(?:[^\"]*\s)?next(?:\s[^\"]*)?\"|next(?=[\s;,]|\Z))", re.IGNORECASE)
_QUERY = re.compile(r"[\x21\x24-\x7e]+\Z")
_LIST = re.compile(r"/(?:[^/]+/)*?v2/.+/(?:tags/list|referrers/[^/]+)\Z")
_SEE_OTHER = 303
_MAX_PATH = 1024


def next_query(links: Iterable[str], host: str) -> str | None:
    """Give the query of the page that follows, by the `Link` lines (RFC 8288) of an answer from `host`.

    None when it is the last one. Raises `Unverified` for a page that cannot be asked for.
    """
    text = ", ".join(links)
    if len(text) > _MAX_LINKS:
        raise Unverified("its list goes on at an address that is too long")
    for found in _LINK.finditer(text):
        target, parameters = found.groups()
        if _NEXT.search(parameters):
            return _query(target.partition("#")[0], host)
    return None


def leads_to_list(status: int, url: str) -> bool:
    """Tell whether a redirect with `status` to `url` is to a registry's list, as far as its path tells."""
    path = path_of(url)
    return status != _SEE_OTHER and len(path) <= _MAX_PATH and _LIST.match(path) is not None


def _query(target: str, host: str) -> str:
    address, _, query = target.partition("?")
    if "://" in address or address.startswith("//"):
        try:
            elsewhere = Origin.of(address if "://" in address else f"https:{address}").host != host
        except BadURL as bad:
            raise Unverified(f"its list goes on at {bad}") from None
        if elsewhere:
            raise Unverified("its list goes on at another host")
    if len(query) > _MAX_QUERY or not _QUERY.match(query):
        raise Unverified("its list goes on at an address that cannot be asked for")
    return query
