"""A body's socket, read by the thread that stores what it brings.

Through the reactor each read of a socket becomes a byte string, walks through Twisted's HTTP client, waits in a queue
and is joined with others before a thread hashes and writes it. Where a body is plain bytes of a known number on a
cleartext connection there is nothing to parse any more: the thread may read the socket into a buffer of its own, which
it hashes and writes while it is warm.

The argument. Twisted's transport is paused while a tap is open, so it never reads beside the thread; the tap has a
duplicate of the socket, so a transport that closes does not give the number to another file under the thread. What was
drawn is taken off what the decoder expects, and the last byte of a body is never drawn: Twisted reads it, ends the
response and keeps the connection as it does for any body. An end or an error that the thread meets is left to Twisted
as well, which meets it again and ends the response as broken.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from twisted.web.http import _IdentityTransferDecoder
from zope.interface import implementer

WORTH = 256 * 1024
"""Bytes from which on a body is worth a tap."""


@implementer(IReadDescriptor)
class SocketTap:
    """The rest of one body, as `nora.concurrency.Tap`."""

    def __init__(
        self, connection: Connection, decoder: _IdentityTransferDecoder, drew: Callable[[int], None]
    ) -> None:
        """`decoder` expects the rest of the body; `drew` hears how many bytes each draw brought."""
        self._connection: Any = connection
        self._decoder: Any = decoder
        self._drew = drew
        self._left = self._decoder.contentLength - 1
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        self._socket.setblocking(False)
        self._dry = self._ended = self._closed = False
        self._waiting: Deferred[bool] | None = None
        self.drawing = False
        """A thread reads: between a `ready` that said so and `drew`."""
        self._connection.pauseProducing()

    def ready(self) -> Deferred[bool]:
        """As `Tap.ready`."""
        if self._closed or self._ended or not self._left:
            self._release()
            return succeed(False)
        if self._dry:
            self._waiting = Deferred()
            self._connection.reactor.addReader(self)
            return self._waiting
        self.drawing = True
        return succeed(True)

    def read(self, into: memoryview) -> int:
        """As `Tap.read`."""
        try:
            count = self._socket.recv_into(into, min(len(into), self._left)) if self._left else 0
        except BlockingIOError:
            self._dry = True
            return 0
        except OSError:
            count = 0
        if count == 0:
            self._ended = True
        self._left -= count
        return count

    def drew(self, count: int) -> None:
        """As `Tap.drew`."""
        self.drawing = False
        if self._closed:
            self._socket.close()
            return
        self._decoder.contentLength -= count
        self._drew(count)

    def close(self) -> None:
        """Read no more; who waits is told that nothing is left. The transport stays paused."""
        if self._closed:
            return
        self._closed = True
        self._dry = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._connection.reactor.removeReader(self)
        if not self.drawing:
            self._socket.close()
        if waiting is not None:
            waiting.callback(False)

    def _release(self) -> None:
        """Leave the rest to Twisted."""
        if not self._closed:
            self.close()
            self._connection.resumeProducing()

    # What the reactor calls.

    def doRead(self) -> None:
        """Tell who waits that bytes, or the end, are there."""
        self._connection.reactor.removeReader(self)
        self._dry = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self.drawing = True
            waiting.callback(True)

    def fileno(self) -> int:
        """Tell the duplicate of the socket; -1 once closed."""
        return self._socket.fileno()

    def connectionLost(self, reason: Failure) -> None:
        """Leave it to Twisted's transport: the socket is broken, or the reactor stops."""
        waiting, self._waiting = self._waiting, None
        self._dry = False
        self._ended = True
        if waiting is not None:
            self._release()
            waiting.callback(False)

    def logPrefix(self) -> str:
        """Name this in Twisted's log."""
        return "tap"
