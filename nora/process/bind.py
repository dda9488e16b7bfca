"""Sockets for several workers at one address: one each, between which the kernel shares out the connections.

A socket that is shared is emptied by whoever wakes first; sockets of their own (SO_REUSEPORT, socket(7)) get an even
part each. The parent binds them and keeps them open, so the connections that wait for a worker that died wait for the
next one. SO_REUSEPORT would let a second daemon of the same user join in unseen: the first socket is bound without it
and gets it when it listens already, so an address that is in use is an error as ever.
"""

from __future__ import annotations

import contextlib
import socket

from nora.process.interfaces import CannotStart
from nora.process.listen import BACKLOG


def bind_each(host: str, port: int, count: int) -> list[socket.socket]:
    """Give `count` listening sockets at one address; `port` 0 is one that the system chooses.

    Raises `CannotStart`; then none is left open.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    with contextlib.ExitStack() as opened:
        try:
            first = opened.enter_context(_new(socket.AF_INET6 if ":" in host else socket.AF_INET))
            first.bind((host, port))
            first.listen(BACKLOG)
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sockets = [first, *(opened.enter_context(bind_beside(first)) for _ in range(count - 1))]
            for each in sockets[1:]:
                each.listen(BACKLOG)
        except OSError as error:
            raise CannotStart(f"cannot listen on {where}: {error.strerror or error}") from error
        opened.pop_all()
        return sockets


def bind_beside(other: socket.socket) -> socket.socket:
    """Give one more socket at the address of `other`, which `bind_each` gave. Raises `OSError`.

    It does not listen yet: connections come to it when its worker is there, and listens.
    """
    made = _new(other.family)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(other.getsockname())
    except BaseException:
        made.close()
        raise
    return made


def _new(family: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made
