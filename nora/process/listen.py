"""Listening sockets: inherited from systemd, by its protocol of socket activation, or bound here.

An inherited socket is there before the daemon and stays after it, so a restart loses no connection. Source:
sd_listen_fds(3).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Protocol

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger

from nora.process.adopted import ACCEPTS, InheritedPort
from nora.process.interfaces import CannotStart

BACKLOG = 1024
"""Connections that may wait to be accepted. Twisted's own 50 is what one node starting its pods fills."""

_FIRST_DESCRIPTOR = 3
_MAX_DESCRIPTORS = 64


class ListeningReactor(Protocol):
    """What is used of a reactor here."""

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int, interface: str) -> IListeningPort:
        """Bind and listen."""

    def adoptStreamPort(
        self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory
    ) -> IListeningPort:
        """Listen on a duplicate of a socket that exists."""


def initial_environment() -> dict[str, str]:
    """Read the environment that this process began with.

    Twisted takes `LISTEN_FDS` out of `os.environ` when it looks through its plugins, which `twistd` makes it do.
    """
    try:
        with open("/proc/self/environ", "rb") as file:
            pairs = os.fsdecode(file.read()).split("\0")
    except OSError:
        return dict(os.environ)
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def inherited(initial: Mapping[str, str], environ: MutableMapping[str, str]) -> tuple[int, ...]:
    """Take over the descriptors that `LISTEN_PID` and `LISTEN_FDS` of `initial` hand to this process; () if none.

    The variables are removed from `environ` and the descriptors closed on exec, so that no child takes them for
    its own.
    """
    process, count = initial.get("LISTEN_PID", ""), initial.get("LISTEN_FDS", "")
    if process != str(os.getpid()) or not (count.isascii() and count.isdigit() and len(count) < 4):
        return ()
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environ.pop(name, None)
    descriptors = tuple(range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + min(int(count), _MAX_DESCRIPTORS)))
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # one that is not open at all is told by `listen`
            os.set_inheritable(descriptor, False)
    return descriptors


class Sockets:
    """Where the daemon listens: on `descriptors` that it inherited, else on an address that it binds.

    Those that are `shared` with other processes are emptied one connection at a time, so that each gets some. Those
    that are `ours` may still have to be told to listen.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: ListeningReactor,
        descriptors: Sequence[int] = (),
        *,
        shared: bool = False,
        ours: bool = False,
    ) -> None:
        self._reactor = reactor
        self._descriptors = tuple(descriptors)
        self._shared = shared
        self._ours = ours

    def listen(
        self, factory: IProtocolFactory, host: str, port: int, tls: IProtocolFactory | None = None
    ) -> list[IListeningPort]:
        """Listen with `factory`: on all inherited sockets (then `host` and `port` count for nothing), or there.

        With `tls`, TCP sockets have that one in its place. Who can open a UNIX socket is on this machine, and
        usually a proxy: TLS would protect nothing there. Raises `CannotStart` when a socket cannot be had; then none is
        left open.
        """
        if not self._descriptors:
            return [self._bind(tls or factory, host, port)]
        descriptors, self._descriptors = self._descriptors, ()
        ports: list[IListeningPort] = []
        try:
            for descriptor in descriptors:
                ports.append(self._adopt(factory, tls or factory, descriptor))
        except CannotStart:
            for adopted in ports:
                adopted.stopListening()
            raise
        return ports

    def _bind(self, factory: IProtocolFactory, host: str, port: int) -> IListeningPort:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            return self._reactor.listenTCP(port, factory, backlog=BACKLOG, interface=host)
        except CannotListenError as error:
            reason: object = error.socketError
            raise CannotStart(f"cannot listen on {where}: {_words(reason)}") from error
        except OSError as error:
            raise CannotStart(f"cannot listen on {where}: {_words(error)}") from error

    def _adopt(self, factory: IProtocolFactory, tcp: IProtocolFactory, descriptor: int) -> IListeningPort:
        try:
            with socket.socket(fileno=descriptor) as inherited_socket:
                if self._ours:
                    inherited_socket.listen(BACKLOG)
                if not _listens(inherited_socket):
                    raise CannotStart(f"inherited descriptor {descriptor} is no listening stream socket")
                inherited_socket.setblocking(False)
                # Both ways duplicate it; ours closes at the end of the block.
                adopted: IListeningPort
                if self._shared or inherited_socket.family == socket.AF_UNIX:
                    accepts = 1 if self._shared else ACCEPTS
                    served = factory if inherited_socket.family == socket.AF_UNIX else tcp
                    adopted = InheritedPort(self._reactor, inherited_socket, served, accepts)
                    adopted.startListening()
                else:
                    adopted = self._reactor.adoptStreamPort(descriptor, inherited_socket.family, tcp)
                self._log.info(
                    "listening on an inherited socket: {name!r}", name=inherited_socket.getsockname()
                )
                return adopted
        except OSError as error:
            raise CannotStart(f"inherited descriptor {descriptor} cannot be used: {_words(error)}") from error


def _listens(candidate: socket.socket) -> bool:
    return (
        candidate.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
        and candidate.type == socket.SOCK_STREAM
        and candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) != 0
    )


def _words(error: object) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
