"""Users of a site: one looks after everything, one after the team's, one after nothing."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode

from nora.access import Action
from nora.access.rules import Rule
from nora.web import RegistrySite
from tests.support.doors import PASSWORD, House, basic, write_users
from tests.support.http_client import Reply
from tests.support.ui_site import UiTestCase

CACHED = "docker.io/library/nginx"
HOSTED = "team/app"
RULES = (
    Rule("bob", "team/*", [Action.ADMIN]),
    Rule("alice", "secret/*", []),
    Rule("alice", "*", [Action.ADMIN]),
    Rule("everyone", "*", [Action.PULL]),
)


class AdministeredTestCase(UiTestCase):
    """Pages with `self.administration`, and with `[auth]`: alice administers, bob the team's, carol nothing."""

    def build(self) -> RegistrySite:
        """Build the site."""
        site = super().build()
        folder = Path(self.mktemp())
        folder.mkdir()
        self.house = House(folder, self.clock, self.metrics)
        write_users(self.house.users, "alice", "bob", "carol")
        self.backend.doorkeeper = self.house.door(*RULES)
        return site

    async def form(self, path: str, fields: dict[str, str], *headers: str, user: str = "alice") -> Reply:
        """Send a form as a browser does that `user` logged in with."""
        told = f"Authorization: {basic(user, PASSWORD)}"
        kind = "Content-Type: application/x-www-form-urlencoded"
        return await self.ask("POST", path, told, kind, *headers, body=urlencode(fields).encode())

    async def seen(self, path: str, user: str = "alice") -> tuple[int, str]:
        """Look at a page as `user`."""
        reply = await self.page(path, f"Authorization: {basic(user, PASSWORD)}")
        return reply.status, reply.text

    def audited(self) -> list[tuple[str, str | None, str, str, int | None]]:
        """Tell what the audit log tells: who tried what on what, and how it ended."""
        return [
            (each.action, each.user, each.repository, each.reference, each.status)
            for each in self.events.list
        ]
