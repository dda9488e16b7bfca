"""`python -m nora.worker`: one of several processes that serve a store. Its parent starts it; see `nora.parent`.

Nothing of its configuration is read here: the parent sends what is in force, so that all workers have the same.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from typing import Any

from nora.process.wire import CONTROL, FIRST_SOCKET, Setup, connect, hear_setup, tell

EX_CONFIG = 78
_OF_THE_PARENT = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
"""Signals that whoever sends them to a whole group means for the parent, which passes on what is to be done."""


def main() -> None:
    """Serve until the parent says stop, or is gone."""
    for number in _OF_THE_PARENT:
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=CONTROL)
    setup = hear_setup(control)
    if setup is None:
        return
    for descriptor in (CONTROL, *range(FIRST_SOCKET, FIRST_SOCKET + len(setup.sockets))):
        os.set_inheritable(descriptor, False)
    _serve(setup, control)


def _serve(setup: Setup, control: socket.socket) -> None:
    from nora.telemetry.shared import share_metrics  # noqa: PLC0415

    share_metrics(setup.place.directory, setup.place.number)

    from twisted.internet import reactor as installed  # noqa: PLC0415
    from twisted.logger import globalLogBeginner  # noqa: PLC0415

    from nora.daemon import build  # noqa: PLC0415
    from nora.process import CannotStart, Crew, Logs, NoraService, Sockets  # noqa: PLC0415
    from nora.process.link import ParentLink  # noqa: PLC0415

    reactor: Any = installed
    config, place = setup.config, setup.place
    logs = Logs(config.log.format, config.log.level, sys.stdout, setup.log_path, place.number)
    globalLogBeginner.beginLoggingTo([logs.observer])
    link = ParentLink(config, reactor.stop, reactor)
    crew = Crew(place, neighbours=link.neighbours)
    sockets = Sockets(reactor, setup.sockets, shared=setup.sockets_shared, ours=not setup.sockets_shared)
    try:
        daemon = build(config, reactor, sockets, lambda: link.config, os.environ, crew)
    except CannotStart as error:
        with contextlib.suppress(OSError):
            tell(control, "status", f"cannot start: {error}")
        sys.exit(EX_CONFIG)
    service = NoraService(
        daemon, reactor, link, drain_timeout=config.server.drain_timeout, logs=logs, led=True
    )
    link.drive(daemon, service.reopen_logs)
    connect(reactor, control, link.wire)
    reactor.callWhenRunning(service.startService)
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()


if __name__ == "__main__":
    main()
