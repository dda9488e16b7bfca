"""The composition root of a parent: what its workers share, made from the configuration before any of them starts.

It imports nothing that serves: a parent is small, and starts fast.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.logger import Logger

from nora.config import Config, needs_restart, taken_over
from nora.process import Place, take_store
from nora.process.bind import bind_beside, bind_each
from nora.process.launch import Launched
from nora.process.runtime import forget, make_runtime, remove
from nora.process.supervisor import Supervisor
from nora.process.wire import FIRST_SOCKET, LOCK, Setup
from nora.storage import Layout, StoreLock
from nora.upstream.via import make_pseudonym


def build_parent(
    config: Config,
    reactor: Any,
    descriptors: Sequence[int],
    reread: Callable[[], Config],
    environ: Mapping[str, str],
    workers: int,
    log_path: str | None,
) -> Supervisor:
    """Build the parent of so many `workers`; nothing is opened before its `start`.

    They listen on the inherited `descriptors`, else where `config` says. `reread` reads the configuration again,
    raising `CannotReload`; `log_path` is the file of the log, None for standard output.
    """
    ground = StoreGround(config, reactor, descriptors, reread, environ, workers, log_path)
    return Supervisor(ground, reactor, workers)


class StoreGround:
    """See `nora.process.supervisor.Ground`."""

    _log = Logger()

    def __init__(
        self,
        config: Config,
        reactor: Any,
        descriptors: Sequence[int],
        reread: Callable[[], Config],
        environ: Mapping[str, str],
        workers: int,
        log_path: str | None,
    ) -> None:
        self._config = config
        self._reactor = reactor
        self._inherited = tuple(descriptors)
        self._reread = reread
        self._environ = environ
        self._workers = workers
        self._log_path = log_path
        self._layout = Layout(config.storage.path)
        self._lock = StoreLock(self._layout.daemon_lock)
        self._sockets: list[socket.socket] = []
        self._directory = ""
        self._pseudonym = make_pseudonym()
        self._started_at = time.time()

    async def open(self) -> None:
        """Prepare the store, take it, bind the sockets. Raises `CannotStart` and `OSError`."""
        self._layout.prepare()
        await take_store(self._lock, self._reactor, self._config.server.drain_timeout)
        self._layout.clear_temporaries()
        self._directory = make_runtime(self._layout.root, self._environ)
        if self._inherited:
            self._sockets = [socket.socket(fileno=descriptor) for descriptor in self._inherited]
        else:
            server = self._config.server
            self._sockets = bind_each(server.host, server.port, self._workers)
            name = self._sockets[0].getsockname()
            self._log.info(
                "{count} workers listen on {host}:{port}", count=self._workers, host=name[0], port=name[1]
            )

    def launch(
        self,
        number: int,
        again: bool,
        heard: Callable[[str, Any], None],
        ended: Callable[[str, int | None], None],
    ) -> Launched:
        """Start a worker with the configuration in force: on all inherited sockets, or on one of its own."""
        theirs = self._sockets if self._inherited else [self._socket_of(number)]
        place = Place(number, self._workers, self._pseudonym, self._started_at, self._directory, LOCK, again)
        setup = Setup(
            place,
            self._config,
            tuple(range(FIRST_SOCKET, FIRST_SOCKET + len(theirs))),
            bool(self._inherited),
            self._log_path,
        )
        descriptors = [each.fileno() for each in theirs]
        return Launched(self._reactor, self._environ, setup, descriptors, self._lock.descriptor, heard, ended)

    def _socket_of(self, number: int) -> socket.socket:
        own = self._sockets[number - 1]
        if own.fileno() < 0:
            own = bind_beside(next(each for each in self._sockets if each.fileno() >= 0))
            self._sockets[number - 1] = own
        return own

    def withdraw(self, number: int) -> None:
        """Close the socket of a worker that will be away for longer, unless it is the last one that listens."""
        if self._inherited:
            return
        option = (socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        others = [
            each for index, each in enumerate(self._sockets, 1) if index != number and each.fileno() >= 0
        ]
        if any(each.getsockopt(*option) for each in others):
            self._sockets[number - 1].close()

    def forget(self, number: int) -> None:
        """Clear away what a dead worker said of the present."""
        forget(self._directory, number)

    def reread(self) -> Config:
        """Give what is in force after the configuration was read again. Raises `CannotReload`."""
        new = self._reread()
        for key in needs_restart(self._config, new):
            self._log.warn("{key} changed; it is taken over at the next start", key=key)
        return taken_over(self._config, new)

    def take_over(self, config: object) -> None:
        """Have workers that are started from now on begin with `config`."""
        assert isinstance(config, Config)  # noqa: S101  (what `reread` gave)
        self._config = config

    def stop_listening(self) -> None:
        """Close the parent's own copies of the sockets."""
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            each.close()

    def close(self) -> None:
        """Let the store and everything else go."""
        if self._directory:
            remove(self._directory)
        self._lock.close()
