"""Offline: an upstream that is never asked.

It takes an upstream's place in the routes, so that what is stored is found under the name and namespace that it is
stored under, while nothing behind it can be reached: no caller has to know.
"""

from __future__ import annotations

from typing import NoReturn

from nora.oci import Descriptor, Digest, Manifest, Reference
from nora.oci.errors import BlobUnknown, ManifestUnknown
from nora.upstream.interfaces import Incoming

_REASON = "this server is offline: it asks no upstream, and this is not stored here"


class Offline:
    """The `nora.upstream.interfaces.Upstream` called `name` in `namespace`, while nobody may be asked.

    Its answers are no outcomes, which would lead on to the next upstream: they end the chain.
    """

    def __init__(self, name: str, namespace: str) -> None:
        self.name = name
        self.namespace = namespace

    @property
    def circuit(self) -> Offline:
        """It is its own circuit breaker: asking it costs no time."""
        return self

    def objection(self) -> None:
        """Nothing speaks against asking it."""

    def pulls_left(self) -> None:
        """It has no limit to tell of."""

    async def describe(self, repository: str, reference: Reference) -> Descriptor:
        """Raise `ManifestUnknown`."""
        _refuse_manifest()

    async def manifest(self, repository: str, reference: Reference) -> Manifest:
        """Raise `ManifestUnknown`."""
        _refuse_manifest()

    async def describe_blob(self, repository: str, digest: Digest) -> int | None:
        """Raise `BlobUnknown`."""
        _refuse_blob()

    async def blob(self, repository: str, digest: Digest, start: int = 0) -> Incoming:
        """Raise `BlobUnknown`."""
        _refuse_blob()


def _refuse_manifest() -> NoReturn:
    raise ManifestUnknown(_REASON)


def _refuse_blob() -> NoReturn:
    raise BlobUnknown(_REASON)
