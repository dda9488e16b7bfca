"""The operator's rules hold for what is pulled through: what they close to a client is neither asked for nor served.

A name may stand for repositories of several upstreams. Those that the rules do not allow are left out before anything
is looked up, stored or not; what came out at the end is looked at again, because work is shared with clients whom the
rules allow more. Whoever is refused learns of the name that it used, and of nothing behind it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs

from nora.access import Action, Rights
from nora.oci import Digest, Reference
from nora.oci.errors import NotAllowed
from nora.oci.listing import TagPage
from nora.pull.interfaces import Answer, Content, Discovery, Pull, Served
from nora.upstream.interfaces import Route

T = TypeVar("T")


class PermittedPull:
    """A `Pull` within the rules."""

    def __init__(self, pull: Pull) -> None:
        self._pull = pull

    async def manifest(self, route: Route, reference: Reference, rights: Rights) -> Served[Answer]:
        """GET of a manifest."""
        return await _serve(route, rights, lambda left: self._pull.manifest(left, reference, rights))

    async def describe(self, route: Route, reference: Reference, rights: Rights) -> Served[Answer]:
        """HEAD of a manifest."""
        return await _serve(route, rights, lambda left: self._pull.describe(left, reference, rights))

    async def blob(self, route: Route, digest: Digest, rights: Rights) -> Served[Content]:
        """GET of a blob."""
        return await _serve(route, rights, lambda left: self._pull.blob(left, digest, rights))

    async def describe_blob(self, route: Route, digest: Digest, rights: Rights) -> Served[int]:
        """HEAD of a blob."""
        return await _serve(route, rights, lambda left: self._pull.describe_blob(left, digest, rights))


class PermittedDiscovery:
    """A `Discovery` within the rules."""

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery

    async def tags(self, route: Route, last: bytes, limit: int, rights: Rights) -> Served[TagPage]:
        """List tags."""
        return await _serve(route, rights, lambda left: self._discovery.tags(left, last, limit, rights))

    async def referrers(
        self, route: Route, digest: Digest, artifact_type: str | None, rights: Rights, last: str = ""
    ) -> Served[bytes]:
        """List what refers to a manifest."""
        return await _serve(
            route, rights, lambda left: self._discovery.referrers(left, digest, artifact_type, rights, last)
        )


async def _serve(route: Route, rights: Rights, pull: Callable[[Route], Awaitable[Served[T]]]) -> Served[T]:
    served = await pull(permitted(route, rights))
    if not rights.allows(Action.PULL, served.repository):
        close = getattr(served.content, "close", None)
        if close is not None:
            close()
        raise _refused(route)
    return served


def permitted(route: Route, rights: Rights) -> Route:
    """Leave of `route` what `rights` allow to be pulled; raises `NotAllowed` when that is nothing."""
    rights.require(Action.PULL, route.name)
    left = tuple(each for each in route.candidates if rights.allows(Action.PULL, each.repository))
    if len(left) == len(route.candidates):
        return route
    if not left:
        raise _refused(route)
    return attrs.evolve(route, candidates=left, partial=True)


def _refused(route: Route) -> NotAllowed:
    return NotAllowed(f"pull is not allowed on {route.name}")
