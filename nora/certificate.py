"""This server's certificate: what the configuration says of TLS, for the process that listens with it."""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from twisted.logger import Logger

from nora.config import ServerConfig
from nora.process import Pair, TLSFactory, load_pair
from nora.web import health


class Certificate:
    """What `server` configures, put before `inner`. Raises `CannotStart` when it cannot be used."""

    _log = Logger()

    def __init__(self, server: ServerConfig, inner: IProtocolFactory, reactor: IReactorTime) -> None:
        pair = _pair(server)
        self.factory = None if pair is None else TLSFactory(pair, inner, reactor)
        """What listens in the place of `inner`; None when no certificate is configured."""
        self._warn()

    def renewed(self, server: ServerConfig) -> Callable[[], None]:
        """Read the pair of another configuration; what comes back puts it in place, and cannot fail.

        Raises `CannotStart`, and then nothing has changed. A listener does not begin or end to speak TLS.
        """
        factory, pair = self.factory, None if self.factory is None else _pair(server)

        def exchange() -> None:
            if factory is not None and pair is not None:
                factory.use(pair)
                self._warn()

        return exchange

    def warnings(self) -> list[str]:
        """Tell people that it ends soon, or has ended."""
        return health.certificate_warnings(
            None if self.factory is None else self.factory.pair.ends, time.time()
        )

    def _warn(self) -> None:
        for warning in self.warnings():
            self._log.warn("{warning}", warning=warning)


def _pair(server: ServerConfig) -> Pair | None:
    certificate, key = server.tls_certificate, server.tls_key
    return None if certificate is None or key is None else load_pair(certificate, key)
