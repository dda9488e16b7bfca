"""An inherited Unix socket as a listening port.

Twisted would adopt it too, but then sets the file's mode to 0666 and removes the file at the end: both are the
business of who made the socket.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

_ACCEPTS = 64
"""Connections that are accepted in one turn of the reactor."""
_PAUSE = 0.2
"""Seconds without accepting when the process can open no more descriptors."""


@implementer(IListeningPort)
class InheritedUnixPort(FileDescriptor):
    """Accepts on a duplicate of `listening`, and hands each connection to the reactor."""

    _log = Logger()

    def __init__(self, reactor: Any, listening: socket.socket, factory: IProtocolFactory) -> None:
        super().__init__(reactor)
        self._reactor = reactor
        self._socket = listening.dup()
        self._socket.setblocking(False)
        self._factory = factory

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

    def getHost(self) -> UNIXAddress:
        """Tell the socket's address."""
        return UNIXAddress(os.fsencode(self._socket.getsockname()))

    def doRead(self) -> None:
        """Accept what waits."""
        for _ in range(_ACCEPTS):
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
                self._reactor.adoptStreamConnection(connection.fileno(), socket.AF_UNIX, self._factory)

    def connectionLost(self, reason: Failure) -> None:
        """Close, when the reactor itself ends."""
        self.stopListening()

    def _again(self) -> None:
        if self.connected:
            self.startReading()  # type: ignore[no-untyped-call]
