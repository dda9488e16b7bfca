"""What is shown to administrators alone, and what they do: pages and API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from nora.web.requests import RegistryRequest
from nora.web.ui import activity
from nora.web.ui.actions import NAMES, Actions
from nora.web.ui.activity import OUTCOMES, Activity
from nora.web.ui.endpoints import HTML, Answer, Answering, Endpoint, as_json

Paths = Mapping[tuple[bytes, ...], Endpoint]
_DONE = b"/ui/actions/done?"


class Page(Protocol):
    """Fills a template."""

    def __call__(self, name: str, facts: dict[str, object], **more: object) -> Answer:
        """Give the page."""


class Administered:
    """The endpoints for administrators."""

    def __init__(self, actions: Actions, activity: Activity, page: Page) -> None:
        self._actions = actions
        self._activity = activity
        self._page = page

    def pages(self) -> Paths:
        """Give those under `/ui`."""
        asking: Paths = {
            (b"actions", name.encode()): Endpoint(self._asks(name), take=self._sent(name)) for name in NAMES
        }
        return {
            (b"activity",): Endpoint(self._activity_page),
            (b"actions", b"done"): Endpoint(self._done),
            **asking,
        }

    def api(self) -> Paths:
        """Give those under `/api`."""
        calls: Paths = {(b"v1", name.encode()): Endpoint(None, take=self._called(name)) for name in NAMES}
        return {(b"v1", b"activity"): Endpoint(self._api_activity), **calls}

    async def _activity_page(self, request: RegistryRequest) -> Answer:
        told = await self._activity.tell(request)
        return self._page(
            "activity", told, outcomes=OUTCOMES, query=activity.query, first=not _goes_on(request)
        )

    async def _api_activity(self, request: RegistryRequest) -> Answer:
        return as_json(await self._activity.tell(request))

    async def _done(self, request: RegistryRequest) -> Answer:
        return self._page("done", dict(self._actions.done(request)))

    def _asks(self, name: str) -> Answering:
        async def ask(request: RegistryRequest) -> Answer:
            wanted, facts = self._actions.asked(request, name)
            return self._page("action", facts, wanted=wanted)

        return ask

    def _sent(self, name: str) -> Answering:
        async def take(request: RegistryRequest) -> Answer:
            query = await self._actions.sent(request, name)
            headers = ((b"Location", _DONE + query.encode("ascii")), (b"Cache-Control", b"no-store"))
            return Answer(b"", HTML, 303, headers)

        return take

    def _called(self, name: str) -> Answering:
        async def take(request: RegistryRequest) -> Answer:
            return as_json(await self._actions.called(request, name))

        return take


def _goes_on(request: RegistryRequest) -> bool:
    return b"before" in (request.args or {})
