"""A site whose pages show a real store."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import json
from typing import Any

from tests.support.contents import Stocked
from tests.support.openapi import Description
from tests.support.ui_site import UiTestCase


class ContentsTestCase(UiTestCase):
    """A test with `self.stocked`."""

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.stocked = Stocked(self.mktemp())
        await self.stocked.start()
        self.addCleanup(self.stocked.stop)
        self.backend.contents = self.stocked.contents

    async def tell(self, path: str, *headers: str, status: int = 200) -> Any:
        """Ask the API, and hold the answer to its description."""
        reply = await self.ask("GET", f"/api/v1{path}", *headers)
        self.assertEqual(reply.status, status, reply.body)
        told = json.loads(reply.body)
        description = Description(json.loads((await self.ask("GET", "/api/v1/openapi.json")).body))
        description.check(path.partition("?")[0], reply.status, reply.headers["content-type"], told)
        return told
