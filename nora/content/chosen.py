"""Hosted or proxied: which of the two answers for a name.

Hosted is closed: a name that something was pushed to, or that the configuration keeps, is never asked for upstream, not
for a missing tag either. Only unqualified names can be hosted: who names a registry, by `ns` or in the name, means that
one. The record is looked at on each request, so a first push counts at once in every worker.
"""

from __future__ import annotations

from nora.access import Action, Rights
from nora.oci import Digest, Reference
from nora.oci.errors import BlobUnknown, Denied, ManifestUnknown
from nora.oci.listing import TagPage
from nora.pull.interfaces import Answer, Content, Discovery, Pull, Served
from nora.storage.interfaces import Hosted
from nora.upstream.interfaces import Route


def is_hosted(route: Route, hosted: Hosted) -> bool:
    """Tell whether what was pushed here answers for `route`, and nothing else."""
    return not route.qualified and (route.hosted or hosted.known(route.name))


class ChosenPull:
    """A `Pull` of everything."""

    def __init__(self, hosted: Hosted, here: Pull, proxied: Pull) -> None:
        self._hosted = hosted
        self._here = here
        self._proxied = proxied

    async def manifest(self, route: Route, reference: Reference, rights: Rights) -> Served[Answer]:
        """GET of a manifest."""
        return await self._choose(route).manifest(route, reference, rights)

    async def describe(self, route: Route, reference: Reference, rights: Rights) -> Served[Answer]:
        """HEAD of a manifest. What is refused is absent: so a client asks before its first push."""
        try:
            return await self._choose(route).describe(route, reference, rights)
        except _Refused as error:
            rights.require(Action.PULL, route.name)
            raise ManifestUnknown(error.message, error.detail) from None

    async def blob(self, route: Route, digest: Digest, rights: Rights) -> Served[Content]:
        """GET of a blob."""
        return await self._choose(route).blob(route, digest, rights)

    async def describe_blob(self, route: Route, digest: Digest, rights: Rights) -> Served[int]:
        """HEAD of a blob. What is refused is absent: so a client asks before its first push."""
        try:
            return await self._choose(route).describe_blob(route, digest, rights)
        except _Refused as error:
            rights.require(Action.PULL, route.name)
            raise BlobUnknown(error.message, error.detail) from None

    def _choose(self, route: Route) -> Pull:
        if is_hosted(route, self._hosted):
            return self._here
        _check(route)
        return self._proxied


class ChosenDiscovery:
    """A `Discovery` of everything."""

    def __init__(self, hosted: Hosted, here: Discovery, proxied: Discovery) -> None:
        self._hosted = hosted
        self._here = here
        self._proxied = proxied

    async def tags(self, route: Route, last: bytes, limit: int, rights: Rights) -> Served[TagPage]:
        """List tags."""
        return await self._choose(route).tags(route, last, limit, rights)

    async def referrers(
        self, route: Route, digest: Digest, artifact_type: str | None, rights: Rights, last: str = ""
    ) -> Served[bytes]:
        """List what refers to a manifest."""
        return await self._choose(route).referrers(route, digest, artifact_type, rights, last)

    def _choose(self, route: Route) -> Discovery:
        if is_hosted(route, self._hosted):
            return self._here
        _check(route)
        return self._proxied


class _Refused(Denied):
    """The configuration lets nobody pull by this name."""


def _check(route: Route) -> None:
    if route.refused is not None:
        raise _Refused(route.refused, {"name": route.name})
