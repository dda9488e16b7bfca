"""What a parent and its worker say to each other: words with a value, over a socket pair that nobody else has.

The socket is the worker's lifeline too: the kernel closes the parent's end with the parent, however it ends, and
the worker then knows. The values are pickled: both ends are this program, and the socket has no name by which
anyone else could reach it.
"""

from __future__ import annotations

import pickle
import socket
import struct
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure

from nora.process.place import Place

CONTROL = 3
"""The worker's descriptor of the socket."""
LOCK = 4
"""The worker's descriptor of the store's lock."""
FIRST_SOCKET = 5
"""The worker's first descriptor of a socket to listen on; the others follow."""

_MAX_LENGTH = 64 << 20
_PREFIX = struct.Struct("!I")


@attrs.frozen
class Setup:
    """What a worker is told first: who it is, and the parent's configuration."""

    place: Place
    config: Any
    sockets: tuple[int, ...]
    """Its descriptors to listen on."""
    sockets_shared: bool
    """The other workers listen on the same ones."""
    log_path: str | None
    """The file of the log; None for standard output."""


def pack(word: str, value: object) -> bytes:
    """Write one message, without its length before it."""
    return pickle.dumps((word, value))


def tell(control: socket.socket, word: str, value: object) -> None:
    """Send a message, blocking: for a worker whose reactor does not run yet. Raises `OSError`."""
    message = pack(word, value)
    control.sendall(_PREFIX.pack(len(message)) + message)


def hear_setup(control: socket.socket) -> Setup | None:
    """Wait, blocking, for the first message, which is the `Setup`; None when the parent is gone."""
    prefix = _exactly(control, _PREFIX.size)
    message = None if prefix is None else _exactly(control, _PREFIX.unpack(prefix)[0])
    if message is None:
        return None
    setup: Setup = pickle.loads(message)[1]  # noqa: S301  (from our own parent)
    return setup


def _exactly(control: socket.socket, count: int) -> bytes | None:
    parts = []
    while count:
        part = control.recv(min(count, 1 << 16))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


class Wire(Int32StringReceiver):
    """One end. `heard` is called with each word and its value, `lost` once when the other end is gone."""

    MAX_LENGTH = _MAX_LENGTH

    def __init__(self, heard: Callable[[str, Any], None], lost: Callable[[], None]) -> None:
        self._heard = heard
        self._lost = lost

    def say(self, word: str, value: object = None) -> None:
        """Send a message; what is said to one who is gone is dropped."""
        if self.connected:
            self.sendString(pack(word, value))  # type: ignore[no-untyped-call]

    def stringReceived(self, string: bytes) -> None:
        """Take a message."""
        word, value = pickle.loads(string)  # noqa: S301  (from our own parent or worker)
        self._heard(word, value)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell that the other end is gone."""
        self._lost()


class WireFactory(Factory):
    """Gives the one `wire` to the one connection that a reactor adopts."""

    noisy = False

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """Give it."""
        return self._wire


def connect(reactor: Any, control: socket.socket, wire: Wire) -> None:
    """Let `reactor` drive `wire` on `control`, which is closed: the reactor has a duplicate."""
    with control:
        control.setblocking(False)
        reactor.adoptStreamConnection(control.fileno(), socket.AF_UNIX, WireFactory(wire))
