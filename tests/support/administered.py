"""An administration in memory, and users: one looks after everything, one after the team's, one after nothing."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

from twisted.internet.defer import Deferred, succeed

from nora.access import Action, Rights
from nora.access.rules import Rule
from nora.content.interfaces import Done, Outcome, Standing
from nora.oci import Digest, Reference, Repository, Tag
from nora.oci.errors import ManifestUnknown, NotAllowed
from nora.oci.reference import LOCAL
from nora.push.interfaces import Target
from nora.web import RegistrySite
from tests.support.doors import PASSWORD, House, basic, write_users
from tests.support.http_client import Reply
from tests.support.ui_site import UiTestCase

OLD, NEW = Digest.of(b"old"), Digest.of(b"new")
CACHED = "docker.io/library/nginx"
HOSTED = "team/app"
RULES = (
    Rule("bob", "team/*", [Action.ADMIN]),
    Rule("alice", "secret/*", []),
    Rule("alice", "*", [Action.ADMIN]),
    Rule("everyone", "*", [Action.PULL]),
)


class FakeAdministration:
    """Has one cached and one hosted repository, each with the tag `1`."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str | None, str | None]] = []
        self.gate: Callable[[], Deferred[None]] = lambda: succeed(None)
        self.refreshed = Done(Outcome.MOVED, OLD, NEW, "hub")

    def standing(self, target: Target, rights: Rights) -> Standing:
        """Tell what a name stands for."""
        hosted = not target.name.startswith("docker.io/")
        place = Repository(LOCAL, target.name) if hosted else Repository("docker.io", target.name[10:])
        if not rights.allows(Action.ADMIN, place):
            raise NotAllowed(f"only an administrator of {target.name} may do this")
        return Standing(hosted, (place,), True)

    async def purge(self, target: Target, reference: Reference | None, rights: Rights) -> Done:
        """Purge."""
        await self._did("purge", target, reference, rights)
        return Done(Outcome.PURGED)

    async def delete(self, target: Target, reference: Reference, rights: Rights) -> Done:
        """Delete."""
        await self._did("delete", target, reference, rights)
        return Done(Outcome.DELETED)

    async def refresh(self, target: Target, tag: Tag, rights: Rights) -> Done:
        """Refresh."""
        await self._did("refresh", target, tag, rights)
        return self.refreshed

    async def _did(self, what: str, target: Target, reference: Reference | None, rights: Rights) -> None:
        self.standing(target, rights)
        await self.gate()
        if reference == Tag("none"):
            raise ManifestUnknown(f"no such tag of {target.name} is cached", {"reference": "none"})
        self.calls.append((what, target.name, None if reference is None else str(reference), rights.user))


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
        self.administration = FakeAdministration()
        self.backend.administration = self.administration
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
