"""Activity: what the audit log tells, for those who look after everything.

Who administers all repositories sees it, and of it nothing about one that a narrower rule closes to them.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

import attrs

from nora.access import Action, Rights
from nora.oci import Repository
from nora.oci.errors import InvalidRequest, NotAllowed
from nora.oci.reference import LOCAL
from nora.telemetry.tail import AuditTail, Entry, NotReadable, Place
from nora.web import asked
from nora.web.requests import RegistryRequest

LINES = 100
"""Lines of a page."""
OUTCOMES = {
    "answered": "Answered",
    "refused": "Refused",
    "absent": "Not found",
    "failed": "Failed",
    "aborted": "Broken off",
}
"""How a request can have ended, and what that is called."""
_REFUSED = frozenset({401, 403, 429})
_MAX = 256
_OFF = "No audit log is written: audit.enabled is false."


@attrs.frozen
class Filter:
    """What is looked for; an empty text is anything."""

    repository: str = ""
    """A part of the name, as the client said it, or of the registry's name and it."""
    client: str = ""
    """A part of the address, or the user."""
    outcome: str = ""

    @classmethod
    def read(cls, request: RegistryRequest) -> Filter:
        """Read it from the query. Raises `InvalidRequest`."""
        told = {name: _argument(request, name) for name in ("repository", "client", "outcome")}
        if told["outcome"] and told["outcome"] not in OUTCOMES:
            raise InvalidRequest(f"outcome must be one of {', '.join(OUTCOMES)}")
        return cls(**told)

    def fits(self, entry: Entry) -> bool:
        """Tell whether an entry is looked for."""
        if self.outcome and outcome(entry) != self.outcome:
            return False
        if self.client and self.client not in (entry["client"] or "") and self.client != entry["user"]:
            return False
        return (
            not self.repository
            or self.repository in f"{entry['namespace'] or ''}/{entry['repository'] or ''}"
        )


class Activity:
    """Tells it. `tail` is None where no audit log is written."""

    def __init__(self, tail: AuditTail | None) -> None:
        self._tail = tail

    async def tell(self, request: RegistryRequest) -> dict[str, object]:
        """Tell a page of what was looked for, the newest first. Raises `NotAllowed`, `InvalidRequest`."""
        rights = request.rights
        if not rights.oversees:
            raise NotAllowed("only an administrator of all repositories sees who did what")
        wanted = Filter.read(request)
        before = _before(request)
        empty: dict[str, object] = {"problem": None, "entries": [], "unreadable": 0, "older": None}
        told = {"filter": attrs.asdict(wanted), **empty}
        if self._tail is None:
            return {**told, "problem": _OFF}
        try:
            look = await self._tail.look(_seen_by(rights, wanted), LINES, before)
        except NotReadable as error:
            return {**told, "problem": f"The audit log {error.reason}."}
        return {
            **told,
            "entries": [{**entry, "outcome": outcome(entry)} for entry in look.entries],
            "unreadable": look.unreadable,
            "older": None if look.older is None else str(look.older),
        }


def query(wanted: dict[str, str], older: str) -> str:
    """Write the query of the page that goes on with a filter."""
    return urlencode({**{name: value for name, value in wanted.items() if value}, "before": older})


def outcome(entry: Entry) -> str:
    """Tell how a request ended, in one of the words of `OUTCOMES`."""
    status = entry["status"]
    if entry["aborted"] or status is None:
        return "aborted"
    if status in _REFUSED:
        return "refused"
    return "absent" if status == 404 else "failed" if status >= 400 else "answered"


def _seen_by(rights: Rights, wanted: Filter) -> Callable[[Entry], bool]:
    return lambda entry: (
        wanted.fits(entry) and all(rights.allows(Action.PULL, place) for place in _places(entry))
    )


def _places(entry: Entry) -> list[Repository]:
    """List all repositories that an entry may be about: it has the name as the client said it."""
    name, namespace = entry["repository"] or "", entry["namespace"]
    if not name:
        return []
    if namespace is None or namespace == LOCAL:
        return [Repository(LOCAL, name)]
    names = [name, name.partition("/")[2], f"library/{name}"]
    return [Repository(LOCAL, name), *(Repository(namespace, each) for each in names if each)]


def _before(request: RegistryRequest) -> Place | None:
    told = _argument(request, "before")
    place = Place.parse(told) if told else None
    if told and place is None:
        raise InvalidRequest("before is a place that this server told")
    return place


def _argument(request: RegistryRequest, name: str) -> str:
    told = (asked.argument(request, name.encode()) or b"").strip()
    if len(told) > _MAX:
        raise InvalidRequest(f"{name} has at most {_MAX} bytes")
    return told.decode("utf-8", "replace")
