"""The page of what happens now: what of it a visitor may see, as page, as JSON, and as streams of both.

Who may not pull a repository sees nothing of it. Who a client is, is shown to itself and to who administers the
repository, where there are logins; where there are none, to everybody, as everything else.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime

from nora.access import Action, Rights
from nora.access.rights import full_name
from nora.oci import Repository
from nora.pull.progress import Progress
from nora.storage.interfaces import OpenUpload
from nora.telemetry.recent import Pull
from nora.web.doorkeeper import Doorkeeper
from nora.web.guarded import GuardedDoor
from nora.web.happening import Happening
from nora.web.requests import RegistryRequest
from nora.web.ui import words
from nora.web.ui.endpoints import EVENTS, HTML, JSON, Answer
from nora.web.ui.rendering import Templates
from nora.web.ui.streams import Facts, Stream, Streams
from nora.web.visitors import visitor

PULLS = 50
"""Recent pulls that are shown."""

_FILLED = 8
"""Texts of the page that are kept."""

Shows = Callable[[Repository, Rights], Awaitable[bool]]
"""Tells whether who has these rights may know of a repository."""


@attrs.frozen(kw_only=True)
class NowSources:
    """Where the facts come from."""

    look: Callable[[], Awaitable[Happening]]
    shows: Shows
    now: Callable[[], float]
    """Seconds since the epoch."""


@attrs.frozen
class Viewer:
    """Who looks."""

    rights: Rights
    address: str
    sees_all: bool
    """There are no logins: who others are is shown to everybody."""

    def knows(
        self, client: str | None, user: str | None, repository: Repository
    ) -> tuple[str | None, str | None]:
        """Give address and user of who did something to `repository`, as far as the viewer is to know them."""
        if self.sees_all or self.rights.allows(Action.ADMIN, repository):
            return client, user
        if user is not None and user == self.rights.user:
            return client, user
        return (client if client == self.address and user is None else None), None


class NowPage:
    """The page, its JSON, and their streams."""

    def __init__(
        self,
        sources: NowSources,
        templates: Templates,
        doorkeeper: Callable[[], Doorkeeper],
        clock: IReactorTime,
    ) -> None:
        self._sources = sources
        self._templates = templates
        self._doorkeeper = doorkeeper
        self._filled: OrderedDict[str, str] = OrderedDict()
        self.streams = Streams(sources.look, clock)

    async def page(self, request: RegistryRequest) -> Answer:
        """Give the page."""
        facts = await self._facts(request)
        return Answer(self._templates.fill("now", here="now", **facts), HTML)

    async def api(self, request: RegistryRequest) -> Answer:
        """Give the JSON."""
        return Answer(_json(await self._facts(request)).encode("ascii") + b"\n", JSON)

    async def page_events(self, request: RegistryRequest) -> Answer:
        """Give a stream of what changes on the page."""
        return await self._stream(request, self._parts)

    async def api_events(self, request: RegistryRequest) -> Answer:
        """Give a stream of what the JSON becomes."""
        return await self._stream(request, _json)

    def _parts(self, facts: Facts) -> str:
        """Fill the parts of the page that change: once for all who see the same."""
        key = _json({**facts, "now": None})
        text = self._filled.pop(key, None)
        if text is None:
            text = self._templates.fill("now_parts", **facts).decode()
        self._filled[key] = text
        if len(self._filled) > _FILLED:
            self._filled.popitem(last=False)
        return text

    async def _facts(self, request: RegistryRequest) -> Facts:
        return await self._told(self._viewer(request), await self._sources.look())

    async def _stream(self, request: RegistryRequest, write: Callable[[Facts], str]) -> Answer:
        self.streams.make_room()
        door, viewer = self._doorkeeper(), self._viewer(request)
        first = await self._told(viewer, await self._sources.look())
        self.streams.make_room()
        request.endpoint = "events"

        def begin(request: RegistryRequest) -> None:
            self.streams.add(
                Stream(
                    request,
                    self.streams.clock,
                    lambda happening: self._told(viewer, happening),
                    write,
                    lambda: self._doorkeeper() is door,
                    first,
                )
            )

        return Answer(b"", EVENTS, begin=begin)

    def _viewer(self, request: RegistryRequest) -> Viewer:
        sees_all = not isinstance(self._doorkeeper(), GuardedDoor)
        return Viewer(request.rights, visitor(request).address, sees_all)

    async def _told(self, viewer: Viewer, happening: Happening) -> Facts:
        """Tell what of it `viewer` may see."""
        seen: dict[Repository, bool] = {}

        async def sees(repository: Repository) -> bool:
            if repository not in seen:
                seen[repository] = await self._sees(viewer.rights, repository)
            return seen[repository]

        fills = []
        for fill in happening.fills:
            places = [place for place in fill.places if await sees(place.repository)]
            if places:
                fills.append(_fill(attrs.evolve(fill, places=tuple(places))))
        pushes = [_push(each, viewer) for each in happening.pushes if await sees(each.repository)]
        pulls: list[Facts] = []
        for pull in happening.pulls:
            if len(pulls) < PULLS and await sees(pull.repository):
                pulls.append(_pull(pull, viewer))
        return {
            "now": words.iso(self._sources.now()),
            "fills": fills,
            "pushes": pushes,
            "pulls": pulls,
            "silent_workers": list(happening.silent),
        }

    async def _sees(self, rights: Rights, repository: Repository) -> bool:
        if rights.scopes is not None and (full_name(repository), Action.PULL) not in rights.scopes:
            return False
        return await self._sources.shows(repository, rights)


def _fill(fill: Progress) -> Facts:
    left = fill.seconds_left
    return {
        "digest": fill.digest,
        "repositories": list(dict.fromkeys(full_name(place.repository) for place in fill.places)),
        "upstream": fill.places[0].upstream,
        "state": "fetching" if fill.confirmed else "waiting",
        "stored_bytes": fill.written,
        "total_bytes": fill.size,
        "bytes_per_second": None if fill.rate is None else round(fill.rate),
        "seconds_left": None if left is None else round(left, 1),
        "followers": fill.followers,
    }


def _push(upload: OpenUpload, viewer: Viewer) -> Facts:
    return {
        "repository": full_name(upload.repository),
        "bytes": upload.size,
        "began_at": words.iso(upload.began),
        "written_at": words.iso(upload.written_at),
        "user": viewer.knows(None, upload.user, upload.repository)[1],
    }


def _pull(pull: Pull, viewer: Viewer) -> Facts:
    client, user = viewer.knows(pull.client, pull.user, pull.repository)
    return {
        "at": words.iso(pull.at),
        "client": client,
        "user": user,
        "repository": full_name(pull.repository),
        "reference": pull.reference,
        "hit": pull.hit,
        "bytes": pull.sent,
        "seconds": round(pull.seconds, 3),
        "aborted": pull.aborted,
    }


def _json(facts: dict[str, Any]) -> str:
    return json.dumps(facts, separators=(",", ":"))
