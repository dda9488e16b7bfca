"""An inherited socket as a listening port of our own, where Twisted's would do too much.

Of a Unix socket Twisted sets the file's mode to 0666 and removes the file at the end: both are the business of who
made the socket. Of a socket that several workers share, Twisted's port takes a hundred connections at a time: who wakes
first would have them all.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

ACCEPTS = 64
"""Connections that are accepted in one turn of the reactor, by one who has the socket alone."""
_PAUSE = 0.2
"""Seconds without accepting when the process can open no more descriptors."""


@implementer(IListeningPort)
class InheritedPort(FileDescriptor):
    """Accepts on a duplicate of `listening`, and hands each connection to the reactor, `accepts` in one turn of it."""

    _log = Logger()

    def __init__(
        self, reactor: Any, listening: socket.socket, factory: IProtocolFactory, accepts: int = ACCEPTS
    ) -> None:
        super().__init__(reactor)
        self._reactor = reactor
        self._socket = listening.dup()
        self._socket.setblocking(False)
        self._factory = factory
        self._accepts = accepts

    def fileno(self) -> int:
        """Give the descriptor; -1 once it is closed."""
        return self._socket.fileno()

    def startListening(self) -> None:
        """Begin to accept."""
        self.connected = True
        self._factory.doStart()
        self.startReading()  # type: ignore[no-untyped-call]

    def stopListening(self) -> Deferred[None]:
        """Accept no more, and close the duplicate. The file stays where it is."""
        if not self.connected:
            return succeed(None)
        self.stopReading()  # type: ignore[no-untyped-call]
        self.connected = False
        self._socket.close()
        self._factory.doStop()
        return succeed(None)

    def getHost(self) -> IAddress:
        """Tell the socket's address."""
        name = self._socket.getsockname()
        if self._socket.family == socket.AF_UNIX:
            return UNIXAddress(os.fsencode(name))
        return (IPv6Address if self._socket.family == socket.AF_INET6 else IPv4Address)("TCP", *name)

    def doRead(self) -> None:
        """Accept what waits."""
        for _ in range(self._accepts):
            try:
                connection, _address = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._log.warn("cannot accept a connection: {error}", error=error)
                self.stopReading()  # type: ignore[no-untyped-call]
                self._reactor.callLater(_PAUSE, self._again)
                return
            with connection:
                connection.setblocking(False)
                self._reactor.adoptStreamConnection(connection.fileno(), self._socket.family, self._factory)

    def connectionLost(self, reason: Failure) -> None:
        """Close, when the reactor itself ends."""
        self.stopListening()

    def _again(self) -> None:
        if self.connected:
            self.startReading()  # type: ignore[no-untyped-call]
