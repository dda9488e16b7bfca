"""Pages beside the registry: metrics, health, readiness, and a word to whoever comes by."""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

import nora
from nora.oci.errors import Unsupported
from nora.telemetry import Metrics
from nora.telemetry.metrics import CONTENT_TYPE
from nora.web import errors
from nora.web.requests import RegistryRequest

Health = Callable[[], Coroutine[Any, Any, Mapping[str, object]]]
"""Tells what `/health` shows: `uptime`, `store`, `upstreams` and `warnings`."""


class Page(Resource):
    """A page that is read with GET or HEAD. `endpoint` is its name among metrics."""

    endpoint = "page"
    content_type = b"application/json"

    def render(self, request: Any) -> Any:
        """Answer with what `page` gives."""
        request.endpoint = self.endpoint
        if request.method not in (b"GET", b"HEAD"):
            return errors.answer(request, Unsupported("this page takes GET and HEAD"))
        return self.page(request)

    def page(self, request: RegistryRequest) -> Any:
        """Give the body, after setting the status if it is not 200."""
        raise NotImplementedError

    def show(self, request: RegistryRequest, body: bytes) -> bytes:
        """Set the headers of `body`, and give what of it goes out."""
        request.setHeader(b"Content-Type", self.content_type)
        request.setHeader(b"Content-Length", b"%d" % len(body))
        request.setHeader(b"Cache-Control", b"no-store")
        return b"" if request.method == b"HEAD" else body


class Root(Page):
    """`/`, which leads to `home` where there is such a page, and 404 for what is nowhere."""

    def __init__(self, home: bytes | None = None) -> None:
        super().__init__()
        self._home = home

    def getChild(self, path: bytes, request: Any) -> Resource:
        """Give `/` itself, or the page of what is not there."""
        return self if path == b"" and not request.postpath else _Nowhere()

    def page(self, request: RegistryRequest) -> bytes:
        """Tell a person what this is, or lead them to where more is told."""
        if self._home is not None:
            request.setResponseCode(302)
            request.setHeader(b"Location", self._home)
        pages = ["/v2/", "/health", "/ready", "/metrics"]
        return self.show(request, _json({"name": "nora", "version": nora.__version__, "pages": pages}))


class _Nowhere(Page):
    isLeaf = True

    def page(self, request: RegistryRequest) -> bytes:
        """Answer 404."""
        return errors.answer(request, errors.NotOffered("there is nothing at this path"))


class MetricsPage(Page):
    """`/metrics`, in Prometheus' text format."""

    isLeaf = True
    endpoint = "metrics"
    content_type = CONTENT_TYPE.encode("ascii")

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def page(self, request: RegistryRequest) -> bytes:
        """Tell all metrics."""
        return self.show(request, self._metrics.text())


class HealthPage(Page):
    """`/health`: 200 as long as the daemon can answer; what is wrong stands in the body."""

    isLeaf = True
    endpoint = "health"

    def __init__(self, health: Health) -> None:
        super().__init__()
        self._health = health

    def page(self, request: RegistryRequest) -> int:
        """Ask, and answer when it is known."""
        asked = Deferred.fromCoroutine(self._health())
        request.notifyFinish().addErrback(lambda _: asked.cancel())
        asked.addCallback(self._tell, request).addErrback(self._failed, request)
        return NOT_DONE_YET

    def _tell(self, health: Mapping[str, object], request: RegistryRequest) -> None:
        body = _json({"status": "ok", "version": nora.__version__, **health})
        request.write(self.show(request, body))
        request.finish()

    def _failed(self, failure: Failure, request: RegistryRequest) -> None:
        if not request.gone:
            request.processingFailed(failure)


class ReadyPage(Page):
    """`/ready`: 200 while new requests are welcome, 503 while the daemon starts or drains."""

    isLeaf = True
    endpoint = "ready"

    def __init__(self, ready: Callable[[], bool]) -> None:
        super().__init__()
        self._ready = ready

    def page(self, request: RegistryRequest) -> bytes:
        """Tell."""
        ready = self._ready() and not request.site.draining
        request.setResponseCode(200 if ready else 503)
        return self.show(request, _json({"ready": ready}))


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"
