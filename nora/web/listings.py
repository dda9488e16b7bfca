"""Lists as they go out: tags and repositories in pages, and the index of referrers.

They are the distribution-spec's ("Content Discovery").
"""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

import json
import re
from urllib.parse import urlencode

from nora.content.interfaces import CatalogPage
from nora.oci import Digest
from nora.oci.errors import InvalidRequest, Unsupported
from nora.oci.listing import TagPage
from nora.oci.manifest import OCI_INDEX
from nora.pull.interfaces import Served
from nora.upstream.interfaces import Route
from nora.web import answers
from nora.web.asked import argument
from nora.web.requests import RegistryRequest

MAX_PAGE = 10_000
"""Tags or repositories in one answer; the `Link` with it leads to the rest."""
_MAX_LAST = 512
_NUMBER = re.compile(rb"[0-9]{1,18}\Z")


def require(request: RegistryRequest) -> None:
    """Refuse what is not a GET."""
    if request.method != b"GET":
        raise Unsupported("a list is read by GET")


def span(request: RegistryRequest) -> tuple[bytes, int]:
    """Read which names of a list are asked for: those after `last`, and how many at most; raises `InvalidRequest`."""
    require(request)
    number, last = argument(request, b"n"), argument(request, b"last")
    if number is not None and not _NUMBER.match(number):
        raise InvalidRequest("n is not a number")
    if last is not None and len(last) > _MAX_LAST:
        raise InvalidRequest("last is longer than any name")
    return last or b"", MAX_PAGE if number is None else min(int(number), MAX_PAGE)


def tags(request: RegistryRequest, served: Served[TagPage], route: Route, limit: int) -> bytes:
    """Answer a page of tags. Its `Link` leads on by the name and the `ns` that the client itself used."""
    page = served.content
    if page.more and page.tags:
        asked = [("n", str(limit)), ("last", page.tags[-1])]
        told = argument(request, b"ns")
        if told is not None:
            asked.append(("ns", told.decode("ascii")))
        link = f'</v2/{route.name}/tags/list?{urlencode(asked)}>; rel="next"'
        request.setHeader(b"Link", link.encode("ascii"))
    body = json.dumps({"name": route.name, "tags": page.tags}, separators=(",", ":")).encode("ascii")
    return answers.listing(request, served, "application/json", body, route.namespace)


def catalog(request: RegistryRequest, page: CatalogPage, limit: int) -> bytes:
    """Answer a page of the list of repositories; its `Link` leads on."""
    if page.more and page.names:
        asked = urlencode([("n", str(limit)), ("last", page.names[-1])])
        request.setHeader(b"Link", f'</v2/_catalog?{asked}>; rel="next"'.encode("ascii"))
    body = json.dumps({"repositories": page.names}, separators=(",", ":")).encode("ascii")
    request.setHeader(b"Content-Type", b"application/json")
    request.setHeader(b"Content-Length", b"%d" % len(body))
    return body


def artifact_type(request: RegistryRequest) -> str | None:
    """Read which type of artifact the client wants; None for all.

    A plus in a query means a space, and no media type has one: who writes `application/x+json` as it is means the plus.
    """
    require(request)
    wanted = argument(request, b"artifactType")
    return wanted.decode("utf-8", "replace").replace(" ", "+") if wanted else None


def referrers(request: RegistryRequest, served: Served[bytes], route: Route, digest: Digest) -> bytes:
    """Answer the index of referrers; it says so where it was filtered, and its `Link` leads on where there are more."""
    kind = artifact_type(request)
    if kind is not None:
        request.setHeader(b"OCI-Filters-Applied", b"artifactType")
    if served.following is not None:
        asked = [("last", served.following)] + ([] if kind is None else [("artifactType", kind)])
        link = f'</v2/{route.name}/referrers/{digest}?{urlencode(asked)}>; rel="next"'
        request.setHeader(b"Link", link.encode("ascii"))
    return answers.listing(request, served, OCI_INDEX, served.content, route.namespace)
