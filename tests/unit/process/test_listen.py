"""Listening sockets: bound, inherited, refused."""

from __future__ import annotations

import builtins
import errno
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from nora.process import CannotStart, Sockets, inherited, initial_environment
from nora.process.adopted import InheritedPort
from nora.process.listen import BACKLOG


class Greeter(Protocol):
    """Says hello and leaves."""

    def connectionMade(self) -> None:
        """Say it."""
        assert self.transport is not None
        self.transport.write(b"hello")
        self.transport.loseConnection()


class ReadingReactor(Clock):
    """A clock that knows who reads."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[object] = []

    def addReader(self, reader: object) -> None:
        """Remember it."""
        self.readers.append(reader)

    def removeReader(self, reader: object) -> None:
        """Forget it."""
        if reader in self.readers:
            self.readers.remove(reader)


class Exhausted:
    """A socket whose process has no descriptors left."""

    def accept(self) -> None:
        """Fail."""
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def fileno(self) -> int:
        """Give any number."""
        return 0


class ListenTests(TestCase):
    """With the real reactor, on loopback."""

    def setUp(self) -> None:
        """Find the reactor; it is the test runner's."""
        from twisted.internet import reactor  # noqa: PLC0415

        self.reactor: Any = reactor
        self.factory = Factory.forProtocol(Greeter)

    def listen(self, sockets: Sockets, host: str = "127.0.0.1", port: int = 0) -> list[IListeningPort]:
        """Listen until the end of the test."""
        ports = sockets.listen(self.factory, host, port)
        for one in ports:
            self.addCleanup(one.stopListening)
        return ports

    async def greeted(self, family: int, address: object) -> bytes:
        """Connect, and read to the end."""
        from twisted.internet.threads import deferToThread  # noqa: PLC0415

        def connect() -> bytes:
            with socket.socket(family, socket.SOCK_STREAM) as client:
                client.settimeout(5)
                client.connect(address)  # type: ignore[arg-type]
                return client.recv(100)

        reading: Deferred[bytes] = deferToThread(connect)
        return await reading

    async def test_binds(self) -> None:
        """Without inherited sockets it binds the address that it is given."""
        (port,) = self.listen(Sockets(self.reactor))
        host: Any = port.getHost()
        self.assertEqual(await self.greeted(socket.AF_INET, (host.host, host.port)), b"hello")

    def test_backlog(self) -> None:
        """A real backlog is asked for."""
        asked: list[object] = []

        class Reactor:
            def listenTCP(self, port: int, factory: object, backlog: int, interface: str) -> None:
                asked.append((port, backlog, interface))

        Sockets(Reactor()).listen(self.factory, "::1", 4000)  # type: ignore[arg-type]
        self.assertEqual(asked, [(4000, BACKLOG, "::1")])

    def test_busy_port_is_named(self) -> None:
        """A port in use is refused in words that name it."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            error = self.assertRaises(CannotStart, self.listen, Sockets(self.reactor), port=port)
        self.assertEqual(str(error), f"cannot listen on 127.0.0.1:{port}: Address already in use")

    def test_address_of_another_machine_is_named(self) -> None:
        """An address that this machine does not have is refused in words too, IPv6 in brackets."""
        error = self.assertRaises(CannotStart, self.listen, Sockets(self.reactor), host="192.0.2.1")
        self.assertIn("cannot listen on 192.0.2.1:0: ", str(error))
        error = self.assertRaises(CannotStart, self.listen, Sockets(self.reactor), host="2001:db8::1")
        self.assertIn("cannot listen on [2001:db8::1]:0: ", str(error))

    async def test_adopts_inherited_tcp(self) -> None:
        """An inherited TCP socket is served; the address in the configuration then counts for nothing."""
        ours = socket.create_server(("127.0.0.1", 0))
        address = ours.getsockname()
        (port,) = self.listen(Sockets(self.reactor, [ours.detach()]), "203.0.113.1", 1)
        self.assertEqual(port.getHost(), IPv4Address("TCP", *address))
        self.assertEqual(await self.greeted(socket.AF_INET, address), b"hello")

    def unix_socket(self) -> tuple[socket.socket, Path]:
        """Make a listening Unix socket with a mode of its own."""
        directory = tempfile.TemporaryDirectory(prefix="nora-")
        self.addCleanup(directory.cleanup)
        path = Path(directory.name) / "socket"
        ours = socket.socket(socket.AF_UNIX)
        ours.bind(str(path))
        path.chmod(0o600)
        ours.listen()
        return ours, path

    async def test_adopts_inherited_unix_and_leaves_its_file(self) -> None:
        """An inherited Unix socket is served; its file keeps its mode, and stays after the end."""
        ours, path = self.unix_socket()
        (port,) = self.listen(Sockets(self.reactor, [ours.detach()]))
        self.assertEqual(port.getHost(), UNIXAddress(os.fsencode(path)))
        for _ in range(3):
            self.assertEqual(await self.greeted(socket.AF_UNIX, str(path)), b"hello")
        port.stopListening()
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        with socket.socket(socket.AF_UNIX) as client:
            self.assertRaises(ConnectionRefusedError, client.connect, str(path))

    async def test_bound_by_us(self) -> None:
        """A socket that our own parent bound is told to listen by its worker."""
        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        name = bound.getsockname()
        self.listen(Sockets(self.reactor, [bound.detach()], ours=True))
        self.assertEqual(await self.greeted(socket.AF_INET, name), b"hello")

    async def test_shared_with_others(self) -> None:
        """A socket that others accept from too is served one connection in a turn, and tells its address."""
        ours = socket.create_server(("127.0.0.1", 0))
        name = ours.getsockname()
        theirs = ours.dup()
        self.addCleanup(theirs.close)
        (port,) = self.listen(Sockets(self.reactor, [ours.detach()], shared=True))
        self.assertEqual(port.getHost(), IPv4Address("TCP", *name))
        self.assertEqual(await self.greeted(socket.AF_INET, name), b"hello")
        port.stopReading()  # type: ignore[attr-defined]
        clients = [socket.create_connection(name) for _ in range(2)]
        for client in clients:
            self.addCleanup(client.close)
        port.doRead()  # type: ignore[attr-defined]
        theirs.setblocking(False)
        accepted, _ = theirs.accept()
        accepted.close()
        self.assertRaises(BlockingIOError, theirs.accept)
        port.stopListening()

    def test_no_descriptors_left(self) -> None:
        """An accept that fails is told and pauses the accepting, which then goes on; unless it was stopped."""
        ours, _ = self.unix_socket()
        reactor = ReadingReactor()
        port = InheritedPort(reactor, ours, self.factory)
        ours.close()
        port.startListening()
        whole, port._socket = port._socket, Exhausted()  # type: ignore[assignment]
        with capturedLogs() as events:
            port.doRead()
        self.assertIn("Too many open files", str(events[0]["error"]))
        self.assertEqual(reactor.readers, [])
        reactor.advance(1)
        self.assertEqual(reactor.readers, [port])
        with capturedLogs():
            port.doRead()
        port._socket = whole
        port.connectionLost(Failure(ConnectionLost()))
        reactor.advance(1)
        self.assertEqual(reactor.readers, [])
        self.assertEqual(port.fileno(), -1)

    async def test_no_listening_socket(self) -> None:
        """An inherited descriptor that does not listen is refused by its number, and none is left open."""
        good = socket.create_server(("127.0.0.1", 0))
        address = good.getsockname()
        with socket.socket() as idle:
            number = os.dup(idle.fileno())
        error = self.assertRaises(CannotStart, self.listen, Sockets(self.reactor, [good.detach(), number]))
        self.assertEqual(str(error), f"inherited descriptor {number} is no listening stream socket")
        self.assertRaises(OSError, os.fstat, number)
        await deferLater(self.reactor, 0, lambda: None)  # a port closes at the reactor's next turn
        with socket.socket() as client:
            self.assertRaises(ConnectionRefusedError, client.connect, address)

    def test_no_socket_at_all(self) -> None:
        """An inherited descriptor that is a file, or nothing, is refused by its number."""
        with tempfile.TemporaryFile() as file:
            number = os.dup(file.fileno())
        error = self.assertRaises(CannotStart, self.listen, Sockets(self.reactor, [number]))
        self.assertIn(f"inherited descriptor {number} cannot be used", str(error))
        os.close(number)
        error = self.assertRaises(CannotStart, self.listen, Sockets(self.reactor, [number]))
        self.assertIn("Bad file descriptor", str(error))


class InheritedTests(SynchronousTestCase):
    """What the environment hands over."""

    def test_nothing(self) -> None:
        """No variables, another process's, or garbled ones hand over nothing and stay as they are."""
        mine = str(os.getpid())
        for environ in (
            {},
            {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
            {"LISTEN_PID": mine, "LISTEN_FDS": "-1"},
            {"LISTEN_PID": mine, "LISTEN_FDS": "99999"},
            {"LISTEN_PID": mine},
            {"LISTEN_FDS": "1"},
        ):
            left = dict(environ)
            self.assertEqual(inherited(environ, left), ())
            self.assertEqual(left, environ)

    def test_no_child_finds_them(self) -> None:
        """The descriptors begin at 3, are closed on exec, and the variables are removed."""
        closed_on_exec: list[tuple[int, bool]] = []
        self.patch(os, "set_inheritable", lambda number, value: closed_on_exec.append((number, value)))
        environ = {
            "LISTEN_PID": str(os.getpid()),
            "LISTEN_FDS": "2",
            "LISTEN_FDNAMES": "a:b",
            "HOME": "/root",
        }
        left = dict(environ)
        self.assertEqual(inherited(environ, left), (3, 4))
        self.assertEqual(left, {"HOME": "/root"})
        self.assertEqual(closed_on_exec, [(3, False), (4, False)])

    def test_bounded(self) -> None:
        """No more than 64 descriptors are believed."""
        self.patch(os, "set_inheritable", lambda number, value: None)
        self.assertEqual(len(inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "999"}, {})), 64)

    def test_what_the_process_began_with(self) -> None:
        """The first environment is not what Python's is now, unless the kernel does not tell it."""
        self.patch(os, "environ", {"NORA_TEST": "now"})
        self.assertNotIn("NORA_TEST", initial_environment())
        self.assertIn("PATH", initial_environment())

        def refuse(*_: object) -> None:
            raise PermissionError

        self.patch(builtins, "open", refuse)
        self.assertEqual(initial_environment(), {"NORA_TEST": "now"})
