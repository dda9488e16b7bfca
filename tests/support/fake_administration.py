"""An administration in memory."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed

from nora.access import Action, Rights
from nora.content.interfaces import Done, Outcome, Standing
from nora.oci import Digest, Reference, Repository, Tag
from nora.oci.errors import ManifestUnknown, NotAllowed
from nora.oci.reference import LOCAL
from nora.push.interfaces import Target

OLD, NEW = Digest.of(b"old"), Digest.of(b"new")


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
