"""The pages and the API: which path shows what."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping

from twisted.internet.interfaces import IReactorTime

from nora.content.contents import Contents
from nora.oci.errors import InvalidRequest
from nora.web import asked, errors, ranges
from nora.web.doorkeeper import Doorkeeper
from nora.web.requests import RegistryRequest
from nora.web.ui import charts
from nora.web.ui.actions import Actions
from nora.web.ui.activity import Activity
from nora.web.ui.administered import Administered
from nora.web.ui.contents import ContentsFacts
from nora.web.ui.endpoints import HTML, JSON, Answer, Endpoint, Endpoints, as_json
from nora.web.ui.facts import Facts, Sources, Telling
from nora.web.ui.now import NowPage
from nora.web.ui.periods import PERIODS, Period
from nora.web.ui.rendering import StaticFile, Templates, openapi, static_files

_TITLES = {
    400: "This has no meaning",
    401: "A login is needed",
    403: "This is not allowed",
    404: "There is nothing here",
    405: "That cannot be done here",
    429: "Too many logins failed",
    502: "No upstream answers",
    504: "This takes longer",
}


class UiSite:
    """Makes the resources of `/ui` and `/api`. `doorkeeper` gives the door that stands now."""

    def __init__(
        self,
        sources: Sources,
        doorkeeper: Callable[[], Doorkeeper],
        contents: Callable[[], Contents | None],
        actions: Actions,
        clock: IReactorTime,
    ) -> None:
        self._telling = Telling(sources)
        self._contents = ContentsFacts(contents, self._telling)
        self._administered = Administered(actions, Activity(sources.audit), self._page)
        self._templates = Templates()
        self._doorkeeper = doorkeeper
        self._now = NowPage(sources.happening, self._templates, doorkeeper, clock)
        self._openapi = openapi()

    def pages(self) -> Endpoints:
        """Give what belongs under `/ui`."""
        endpoints = {
            (): Endpoint(_home, free=True),
            (b"",): Endpoint(self._dashboard),
            (b"now",): Endpoint(self._now.page),
            (b"now", b"events"): Endpoint(self._now.page_events),
            (b"upstreams",): Endpoint(self._upstreams),
            (b"client",): Endpoint(self._client, public=True),
            **self._administered.pages(),
            (b"contents",): Endpoint(self._contents_page, deep=True),
        }
        for name, file in static_files().items():
            endpoints[b"static", name] = Endpoint(_sender(file), free=True)
        return Endpoints(endpoints, self._doorkeeper, self._refuse)

    def api(self) -> Endpoints:
        """Give what belongs under `/api`."""
        endpoints: Mapping[tuple[bytes, ...], Endpoint] = {
            (b"v1", b"openapi.json"): Endpoint(self._describe, free=True),
            (b"v1", b"dashboard"): Endpoint(self._api_dashboard),
            (b"v1", b"history"): Endpoint(self._api_history),
            (b"v1", b"now"): Endpoint(self._now.api),
            (b"v1", b"now", b"events"): Endpoint(self._now.api_events),
            (b"v1", b"upstreams"): Endpoint(self._api_upstreams),
            (b"v1", b"client"): Endpoint(self._api_client, public=True),
            **self._administered.api(),
            (b"v1", b"repositories"): Endpoint(self._api_repositories),
            (b"v1", b"repositories", b"tags"): Endpoint(self._api_tags),
            (b"v1", b"repositories", b"image"): Endpoint(self._api_image),
        }
        return Endpoints(endpoints, self._doorkeeper)

    async def _dashboard(self, request: RegistryRequest) -> Answer:
        period = _period(request)
        everything = await self._telling.series(*PERIODS.values())
        facts = await self._telling.dashboard(everything)
        (series,) = (each for each in everything if each.period is period)
        return self._page(
            "dashboard",
            facts,
            period=period,
            all_periods=PERIODS.values(),
            pulls=charts.pulls(series),
            traffic=charts.traffic(series),
            series=series,
        )

    async def _upstreams(self, request: RegistryRequest) -> Answer:
        return self._page("upstreams", await self._telling.upstreams())

    async def _client(self, request: RegistryRequest) -> Answer:
        return self._page("client", await self._telling.client(request))

    async def _contents_page(self, request: RegistryRequest) -> Answer:
        name, facts = await self._contents.page(request)
        return self._page(name, facts, here="contents")

    def _page(self, name: str, facts: Facts, **more: object) -> Answer:
        return Answer(self._templates.fill(name, **{"here": name, **facts, **more}), HTML)

    def _refuse(self, request: RegistryRequest, error: BaseException) -> Answer:
        told = errors.tell(error, allow=request.allow)
        message = json.loads(told.body)["errors"][0]["message"]
        title = _TITLES.get(told.status, "This did not work")
        body = self._templates.fill("error", here="", status=told.status, title=title, message=message)
        kept = tuple(pair for pair in told.headers if pair[0] not in (b"Content-Type", b"Content-Length"))
        return Answer(body, HTML, told.status, (*kept, (b"Cache-Control", b"no-store")))

    async def _describe(self, request: RegistryRequest) -> Answer:
        return Answer(self._openapi, JSON)

    async def _api_dashboard(self, request: RegistryRequest) -> Answer:
        everything = await self._telling.series(*PERIODS.values())
        return as_json(await self._telling.dashboard(everything))

    async def _api_history(self, request: RegistryRequest) -> Answer:
        return as_json(await self._telling.history(_period(request)))

    async def _api_upstreams(self, request: RegistryRequest) -> Answer:
        return as_json(await self._telling.upstreams())

    async def _api_client(self, request: RegistryRequest) -> Answer:
        return as_json(await self._telling.client(request))

    async def _api_repositories(self, request: RegistryRequest) -> Answer:
        return as_json(await self._contents.repositories(request))

    async def _api_tags(self, request: RegistryRequest) -> Answer:
        return as_json(await self._contents.tags(request))

    async def _api_image(self, request: RegistryRequest) -> Answer:
        return as_json(await self._contents.image(request))


async def _home(request: RegistryRequest) -> Answer:
    return Answer(b"", HTML, 302, ((b"Location", b"/ui/"),))


def _sender(file: StaticFile) -> Callable[[RegistryRequest], Awaitable[Answer]]:
    async def send(request: RegistryRequest) -> Answer:
        headers = ((b"ETag", file.etag.encode("ascii")), (b"Cache-Control", b"no-cache"))
        if ranges.none_match(request.text(b"If-None-Match"), file.etag):
            return Answer(b"", file.content_type, 304, headers)
        return Answer(file.body, file.content_type, 200, headers)

    return send


def _period(request: RegistryRequest) -> Period:
    told = asked.argument(request, b"period")
    if told is None:
        return PERIODS["hour"]
    try:
        return PERIODS[told[:16].decode("latin-1")]
    except KeyError:
        raise InvalidRequest(f"period must be one of {', '.join(PERIODS)}") from None
