"""Waiting in place of the reactor: for as long as it would have waited, and no longer."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import select
import socket
import threading
import time

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.testing import MemoryReactor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from nora.web.lull import lasts


class Watched:
    """A socket that a reactor watches, and its peer."""

    def __init__(self) -> None:
        self.socket, self.peer = socket.socketpair()
        self.socket.setblocking(False)

    def fileno(self) -> int:
        """Tell the descriptor."""
        return self.socket.fileno()

    def fill(self) -> None:
        """Write until the socket takes nothing more."""
        try:
            while True:
                self.socket.send(bytes(65536))
        except BlockingIOError:
            pass

    def doRead(self) -> None:
        """Do nothing: nobody runs this reactor."""

    def doWrite(self) -> None:
        """Do nothing: nobody runs this reactor."""

    def connectionLost(self, reason: Failure) -> None:
        """Do nothing: nobody runs this reactor."""

    def logPrefix(self) -> str:
        """Name it."""
        return "watched"

    def close(self) -> None:
        """Close both ends."""
        self.socket.close()
        self.peer.close()


class LullTests(SynchronousTestCase):
    """One stream on a real epoll that nobody runs."""

    def setUp(self) -> None:
        self.reactor = EPollReactor()
        self.sockets: list[Watched] = []
        self.addCleanup(self._end)
        self.stream = self.watched()
        self.reactor.addWriter(self.stream)

    def _end(self) -> None:
        self.reactor.removeAll()
        for watched in self.sockets:
            watched.close()
        for each in list(self.reactor._internalReaders):
            self.reactor._internalReaders.remove(each)
            each.connectionLost(None)
        self.reactor._poller.close()

    def watched(self) -> Watched:
        """Have a socket."""
        self.sockets.append(Watched())
        return self.sockets[-1]

    def lasts(self) -> bool:
        """Ask for the stream."""
        return lasts(self.reactor, self.stream.fileno())

    def after(self, seconds: float, call: object, *arguments: object) -> None:
        """Have a thread call something."""
        timer = threading.Timer(seconds, call, arguments)  # type: ignore[arg-type]
        timer.start()
        self.addCleanup(timer.join)

    def test_takes(self) -> None:
        """The stream goes on when its socket takes bytes, and as soon as it does."""
        self.assertTrue(self.lasts())
        self.stream.fill()
        self.after(0.05, self.stream.peer.recv, 1 << 20)
        self.assertTrue(self.lasts())
        self.stream.socket.send(b"more")

    def test_somebody_else(self) -> None:
        """What happens to anybody else ends it, and the reactor finds that as well."""
        other = self.watched()
        self.reactor.addReader(other)
        other.peer.send(b"a request")
        self.assertFalse(self.lasts())
        other.socket.recv(100)
        self.assertTrue(self.lasts())
        self.stream.fill()
        self.after(0.05, other.peer.send, b"another")
        self.assertFalse(self.lasts())
        self.assertEqual(self.reactor._poller.poll(0), [(other.fileno(), select.EPOLLIN)])

    def test_lost_client(self) -> None:
        """A connection that breaks is for the reactor, which tells it as it always does."""
        self.stream.fill()
        self.after(0.05, self.stream.peer.close)
        self.assertFalse(self.lasts())

    def test_called_from_thread(self) -> None:
        """What a thread asks to be called ends it, before and while it waits."""
        self.stream.fill()
        self.after(0.05, self.reactor.callFromThread, int)
        self.assertFalse(self.lasts())
        # As in a turn that has read the wake-up, and has not called yet.
        for reader in self.reactor._internalReaders:
            reader.doRead()
        self.assertFalse(self.lasts())

    def test_timed(self) -> None:
        """A call that is due ends it, and so does one that becomes due."""
        self.stream.fill()
        self.reactor.callLater(0.05, int)
        began = time.monotonic()
        self.assertFalse(self.lasts())
        self.assertGreater(time.monotonic() - began, 0.04)
        self.assertFalse(self.lasts())

    def test_other_reactor(self) -> None:
        """Another reactor has turns only."""
        self.assertFalse(lasts(MemoryReactor(), self.stream.fileno()))
