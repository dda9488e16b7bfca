"""Fake upstreams beside a test that blocks: they run in a reactor of their own, in a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.threads import blockingCallFromThread

from tests.support.connect_proxy import ConnectProxy
from tests.support.fake_upstream import FakeUpstream

T = TypeVar("T")


class Guarded(FakeUpstream):
    """A fake upstream whose tokens are its own alone, so that one that was sent to another is known by its text."""

    def __init__(self, reactor: Any, label: str, **options: Any) -> None:
        super().__init__(reactor, **options)
        self.label = label
        self.given: set[str] = set()
        """All tokens that it ever gave."""
        self.passwords: set[str] = set()
        """The values of `Authorization` with our password at it, which are for it alone."""

    def issue(self, scope: str) -> dict[str, object]:
        """Make a token's answer."""
        answer = super().issue(scope)
        plain = str(answer[self.token_member])
        token = f"{self.label}-{plain}"
        self.valid.discard((plain, scope))
        self.valid.add((token, scope))
        self.given.add(token)
        return {**answer, self.token_member: token}

    def foreign_credentials(self) -> list[str]:
        """List the `Authorization` headers it was sent that hold something else than a token or password of its own."""
        own = self.passwords | {f"Bearer {token}" for token in self.given}
        return [
            f"{seen.method} {seen.path}: {sent}"
            for seen in self.requests
            if (sent := seen.headers.get("authorization")) is not None and sent not in own
        ]


class Stage:
    """Where fake upstreams play. It is started and stopped; `call` reaches into its thread."""

    def __init__(self) -> None:
        self.reactor: Any = EPollReactor()
        self.players: list[Guarded] = []
        self.proxies: list[ConnectProxy] = []
        self._thread = threading.Thread(target=self.reactor.run, args=(False,), daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop every upstream, then the reactor."""
        for proxy in self.proxies:
            self.wait(proxy.stop)
        for player in self.players:
            self.wait(player.stop)
        self.reactor.callFromThread(self.reactor.stop)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the stage's reactor did not stop"

    def upstream(self, label: str, **options: Any) -> Guarded:
        """Start an upstream; `options` as for `FakeUpstream`."""
        player = Guarded(self.reactor, label, **options)
        self.wait(player.start)
        self.players.append(player)
        return player

    def proxy(self, target: int) -> ConnectProxy:
        """Start a proxy that leads every tunnel to the port `target`."""
        proxy = ConnectProxy(self.reactor, target)
        self.call(proxy.start)
        self.proxies.append(proxy)
        return proxy

    def call(self, work: Callable[..., T], *arguments: Any) -> T:
        """Call `work(*arguments)` in the reactor's thread, and give its result."""
        return blockingCallFromThread(self.reactor, work, *arguments)

    def wait(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """As `call`, for a coroutine function."""

        def begin() -> Any:
            return Deferred.fromCoroutine(work())

        self.call(begin)
