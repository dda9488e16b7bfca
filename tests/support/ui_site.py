"""A site with pages, standing on facts that a test sets."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from nora.access import Action, Rights
from nora.oci import Repository
from nora.storage.interfaces import Space, Totals
from nora.telemetry import Sums
from nora.telemetry.tail import AuditTail
from nora.web import RegistrySite, build_site, health
from nora.web.happening import Happening
from nora.web.ui import NowSources, Sources
from tests.support.doors import Threads
from tests.support.web_site import SiteTestCase

NOW = 1_700_000_000.0
HOSTILE = (
    "</code></script><script>alert(1)</script>",
    "\"'><img src=x onerror=alert(2)>",
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.live\N{HEBREW LETTER ALEF}",
    "{{ 7 * 7 }}{% raw %}",
    "x" * 10_240,
)


def upstream(**told: object) -> dict[str, object]:
    """Make what `/health` tells of an upstream that does well."""
    return {
        "name": "hub",
        "namespace": "docker.io",
        "url": "https://registry-1.docker.io",
        "last_success": "2023-11-14T22:13:00Z",
        "last_error": None,
        "last_error_at": None,
        "pulls_left": None,
        "pulls_reset_at": None,
        "warnings": [],
        "circuit": {"state": "closed", "since": None, "next_probe": None},
        **told,
    }


class UiTestCase(SiteTestCase):
    """A test with pages: `self.upstreams`, `self.warnings`, `self.sums`, `self.public_url`, `self.happening`.

    What is in `self.hidden` is private; `self.looks` counts how often anybody looked at what happens.
    """

    def build(self) -> RegistrySite:
        """Build the site."""
        self.upstreams: list[dict[str, object]] = [upstream()]
        self.warnings: list[str] = []
        self.sums: dict[int, list[tuple[int, Sums]]] = {}
        self.public_url: str | None = None
        self.defect: Exception | None = None
        self.log = Path(self.mktemp())
        self.log.write_bytes(b"")
        self.happening = Happening((), (), ())
        self.hidden: set[Repository] = set()
        self.looks = 0
        return build_site(
            clock=self.clock,
            backend=self.backend,
            metrics=self.metrics,
            audit=self.events,  # type: ignore[arg-type]
            health=self._told,
            ready=lambda: True,
            instance="nora-0123456789abcdef",
            ui=Sources(
                health=self._told,
                history=self._history,
                exchanges=self.metrics.exchanges,
                public_url=lambda: self.public_url,
                key=lambda: b"k" * 32,
                audit=AuditTail(str(self.log), Threads()),
                happening=NowSources(look=self._look, shows=self._shows, now=lambda: NOW),
                now=lambda: NOW,
            ),
        )

    async def _look(self) -> Happening:
        self.looks += 1
        if self.defect is not None:
            raise self.defect
        return self.happening

    async def _shows(self, repository: Repository, rights: Rights) -> bool:
        return rights.allows(Action.PULL, repository) and repository not in self.hidden

    async def _told(self) -> Mapping[str, object]:
        if self.defect is not None:
            raise self.defect
        space = Space(free=60 << 30, total=100 << 30)
        told = health.tell(90_061.0, Totals(12, 20 << 30), space, 0, [], 0, 0, self.warnings)
        return {**told, "upstreams": self.upstreams}

    async def _history(self, span: int, since: int) -> list[tuple[int, Sums]]:
        return [(start, sums) for start, sums in self.sums.get(span, []) if start >= since]

    async def page(self, path: str, *headers: str, method: str = "GET") -> Any:
        """Ask for a page, and give its reply with `text`."""
        reply = await self.ask(method, path, *headers)
        return Shown(reply.status, reply.headers, reply.body.decode())


@attrs.frozen
class Shown:
    """A page as it came."""

    status: int
    headers: dict[str, str]
    text: str
