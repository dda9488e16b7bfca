"""A site whose answers are prepared, and that sees who asks for what."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nora.access import ANONYMOUS, Rights
from nora.oci import Digest, Reference
from nora.oci.manifest import OCI_MANIFEST
from nora.pull.interfaces import Answer, Content, Served
from nora.storage import witness
from nora.storage.interfaces import Stamp
from nora.upstream.interfaces import Route
from nora.web.hot import Hot
from tests.support.pull_fakes import FakePull
from tests.support.web_site import SiteTestCase

BODY = b'{"schemaVersion":2,  "config":{}, "layers":[]}\n'
KEY = "repositories/docker.io/library/x/_tags/1"
OLD: Stamp = (1, 1, 1)


class WitnessedPull(FakePull):
    """A pull that counts what it is asked, and tells a witness what it read."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.stamps: dict[str, Stamp | None] = {KEY: OLD, "names/x/_owner": None}
        self.until = float("inf")
        self.meanwhile: Callable[[], None] = lambda: None
        """Called after the records were read and before the answer is there."""

    async def manifest(self, route: Route, reference: Reference, rights: Rights) -> Served[Answer]:
        """GET, as told."""
        self._look()
        return await super().manifest(route, reference, rights)

    async def describe(self, route: Route, reference: Reference, rights: Rights) -> Served[Answer]:
        """HEAD, as told."""
        self._look()
        return await super().describe(route, reference, rights)

    async def blob(self, route: Route, digest: Digest, rights: Rights) -> Served[Content]:
        """GET, as told."""
        self._look()
        return await super().blob(route, digest, rights)

    def _look(self) -> None:
        self.asked += 1
        watching = witness.present.get()
        assert watching is not None
        for key, stamp in self.stamps.items():
            watching.saw(key, stamp)
        watching.expires(self.until)
        self.meanwhile()


class HotCase(SiteTestCase):
    """A site over a `WitnessedPull` that has a manifest at `path`."""

    pull: WitnessedPull
    path = "/v2/library/x/manifests/1"

    def setUp(self) -> None:
        super().setUp()
        self.pull = WitnessedPull()
        self.backend.pull = self.pull
        self.pull.add_manifest(BODY, OCI_MANIFEST, "1")
        self.time = 1_000_000.0
        self.rights: Rights | None = ANONYMOUS
        self.readable = True
        self.hot = Hot(self.stamp, lambda _: self.rights, lambda: self.time)
        self.site.hot = self.hot

    def stamp(self, key: str) -> Stamp | None:
        """Tell a record's stamp now."""
        if not self.readable:
            raise PermissionError(13, "no", key)
        return self.pull.stamps[key]

    async def twice(self, method: str, path: str, *headers: str) -> tuple[Any, Any]:
        """Ask for the same twice."""
        return await self.ask(method, path, *headers), await self.ask(method, path, *headers)
