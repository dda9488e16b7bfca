"""The entrance of `/v2`: every request is admitted before the router sees it, at once where that is known at once."""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

import types
from collections.abc import Coroutine, Generator
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from nora.oci.errors import NoraError
from nora.web import asked
from nora.web.requests import RegistryRequest

T = TypeVar("T")


class Door(Protocol):
    """Who admits requests, and answers those that are not."""

    async def admit(self, request: RegistryRequest) -> None:
        """Let a request in, or raise what it is answered with."""

    def failed(self, request: RegistryRequest, error: BaseException) -> bytes | Deferred[None]:
        """Answer an error."""


class Entrance(Resource):
    """What every request under `/v2` passes before the router sees it."""

    isLeaf = True

    def __init__(self, registry: Door, inner: Any) -> None:
        super().__init__()
        self._registry = registry
        self._inner = inner

    def render(self, request: Any) -> Any:
        """Render a request: see `Door.admit`. Where the doorkeeper knows at once, so does this."""
        request.setHeader(b"Docker-Distribution-API-Version", b"registry/2.0")
        asked.classify(request)
        admitting = self._registry.admit(request)
        try:
            waiting = admitting.send(None)
        except StopIteration:
            return self._inner.render(request)
        except NoraError as error:
            return self._registry.failed(request, error)
        self._wait(request, Deferred.fromCoroutine(_resumed(admitting, waiting)))
        return NOT_DONE_YET

    def _wait(self, request: RegistryRequest, admitted: Deferred[None]) -> None:
        request.notifyFinish().addErrback(lambda _: admitted.cancel())
        admitted.addCallbacks(
            lambda _: self._inner.render(request), lambda failure: self._refuse(request, failure)
        )
        admitted.addCallback(lambda body: self._answer(request, body))
        admitted.addErrback(request.processingFailed)
        admitted.addErrback(lambda _: None)

    def _refuse(self, request: RegistryRequest, failure: Failure) -> Any:
        if request.gone:
            return NOT_DONE_YET
        return self._registry.failed(request, failure.value or RuntimeError())

    def _answer(self, request: RegistryRequest, body: Any) -> None:
        if isinstance(body, bytes):
            request.write(body)
            request.finish()


@types.coroutine
def _resumed(begun: Coroutine[Any, Any, T], waiting: Any) -> Generator[Any, Any, T]:
    """Go on with a coroutine that waits for `waiting`.

    Most doors know at once: a Deferred for each request would cost a tenth of a small answer.
    """
    while True:
        try:
            try:
                told = yield waiting
            except BaseException as error:
                waiting = begun.throw(error)
            else:
                waiting = begun.send(told)
        except StopIteration as end:
            result: T = end.value
            return result
