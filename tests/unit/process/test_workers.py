"""What several workers of a store need: their place, their sockets, the directory they share, the way they talk."""

from __future__ import annotations

import os
import site
import socket
import stat
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from nora.process import CannotReload, CannotStart, Crew, Place, usable_cores
from nora.process.bind import bind_beside, bind_each
from nora.process.launch import worker_environment
from nora.process.link import ParentLink
from nora.process.runtime import forget, make_runtime, remove
from nora.process.wire import Setup, Wire, hear_setup, pack, tell
from tests.support.application import FakeApplication


class PlaceTests(SynchronousTestCase):
    """A process's place, and its share."""

    def test_alone(self) -> None:
        """A process alone has no parent and the whole of every bound."""
        self.assertFalse(Place().shared)
        self.assertEqual(Place().share(17), 17)

    @given(st.integers(1, 10_000), st.integers(1, 64))
    def test_shares_cover_the_whole(self, most: int, workers: int) -> None:
        """All shares together are the bound, or a little more: never less, and never nothing for one."""
        share = Place(workers=workers).share(most)
        self.assertGreaterEqual(share * workers, most)
        self.assertLess((share - 1) * workers, most)
        self.assertGreaterEqual(share, 1)


class CoresTests(SynchronousTestCase):
    """How many processor cores there are."""

    def cores(self, limit: str | None) -> int:
        """Tell it for a container with such a `cpu.max`."""
        with tempfile.TemporaryDirectory() as root:
            if limit is not None:
                Path(root, "cpu.max").write_text(limit)
            return usable_cores(root)

    def test_limit_of_the_container(self) -> None:
        """A container's limit counts, rounded up; no limit, or one past the machine, is the machine's cores."""
        machine = len(os.sched_getaffinity(0))
        self.assertEqual(self.cores("50000 100000\n"), 1)
        self.assertEqual(self.cores("110000 100000\n"), min(2, machine))
        for limit in (None, "max 100000\n", "99900000 100000\n", "", "1 0\n"):
            with self.subTest(limit=limit):
                self.assertEqual(self.cores(limit), machine)


class BindTests(SynchronousTestCase):
    """Sockets for several workers."""

    def bind(self, host: str = "127.0.0.1", port: int = 0, count: int = 2) -> list[socket.socket]:
        """Bind, until the end of the test."""
        sockets = bind_each(host, port, count)
        for each in sockets:
            self.addCleanup(each.close)
        return sockets

    def test_connections_are_shared_out(self) -> None:
        """All listen on one port, and of a hundred connections each gets a good part."""
        sockets = self.bind()
        name = sockets[0].getsockname()
        self.assertEqual({each.getsockname() for each in sockets}, {name})
        for _ in range(100):
            self.addCleanup(socket.create_connection(name).close)
        counts = [self.accept(each) for each in sockets]
        self.assertEqual(sum(counts), 100)
        self.assertGreater(min(counts), 15)

    def accept(self, listening: socket.socket) -> int:
        """Accept all that wait, and count them."""
        count = 0
        while True:
            try:
                connection, _ = listening.accept()
            except BlockingIOError:
                return count
            connection.close()
            count += 1

    def test_second_daemon(self) -> None:
        """The address of another daemon, of several workers too, is in use; nothing is left open by the try."""
        port = self.bind()[0].getsockname()[1]
        before = len(os.listdir("/proc/self/fd"))
        error = self.assertRaises(CannotStart, bind_each, "127.0.0.1", port, 2)
        self.assertEqual(str(error), f"cannot listen on 127.0.0.1:{port}: Address already in use")
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_withdrawn(self) -> None:
        """Without one of the sockets all connections go to the others; a new one gets its part again."""
        first, second = self.bind()
        name = first.getsockname()
        first.close()
        for _ in range(20):
            self.addCleanup(socket.create_connection(name).close)
        self.assertEqual(self.accept(second), 20)
        third = bind_beside(second)
        self.addCleanup(third.close)
        for _ in range(20):
            self.addCleanup(socket.create_connection(name).close)
        self.assertEqual(self.accept(second), 20)  # the third one does not listen yet
        third.listen(100)
        for _ in range(60):
            self.addCleanup(socket.create_connection(name).close)
        self.assertGreater(self.accept(third), 5)
        closed = socket.socket()
        closed.close()
        self.assertRaises(OSError, bind_beside, closed)

    def test_ipv6(self) -> None:
        """An IPv6 address is one, and is written in brackets."""
        self.assertEqual(self.bind("::1")[1].family, socket.AF_INET6)
        error = self.assertRaises(CannotStart, bind_each, "2001:db8::1", 4000, 2)
        self.assertIn("cannot listen on [2001:db8::1]:4000: ", str(error))


class RuntimeTests(SynchronousTestCase):
    """The directory that workers share."""

    def setUp(self) -> None:
        """Have a place that systemd names."""
        self.base = Path(self.mktemp())
        self.base.mkdir()
        self.environ = {"RUNTIME_DIRECTORY": str(self.base)}

    def test_made_private_and_empty(self) -> None:
        """It is where systemd says, for this user alone, the same each time, and empty however it was left."""
        directory = Path(make_runtime("/store", self.environ))
        self.assertEqual(directory.parent, self.base)
        self.assertEqual(stat.S_IMODE(directory.stat().st_mode), 0o700)
        (directory / "counter_1.db").touch()
        self.assertEqual(make_runtime("/store", self.environ), str(directory))
        self.assertEqual(os.listdir(directory), [])
        self.assertNotEqual(make_runtime("/other", self.environ), str(directory))
        remove(str(directory))
        self.assertFalse(directory.exists())
        remove(str(directory))  # a second time is no error

    def test_place_that_is_not_ours(self) -> None:
        """What is there already and no directory of ours is left alone, and another place taken."""
        taken = Path(make_runtime("/store", self.environ))
        taken.rmdir()
        elsewhere = self.base / "elsewhere"
        elsewhere.mkdir(0o755)
        taken.symlink_to(elsewhere)
        made = make_runtime("/store", self.environ)
        self.addCleanup(remove, made)
        self.assertNotEqual(made, str(taken))
        self.assertTrue(os.path.isdir(made))
        self.assertEqual(stat.S_IMODE(elsewhere.stat().st_mode), 0o755)

    def test_no_place_named(self) -> None:
        """Without systemd there is a place outside the store, whose disk may be full."""
        store = self.mktemp()
        made = make_runtime(store, {})
        self.addCleanup(remove, made)
        self.assertFalse(made.startswith(store))

    def test_forgets_the_present_of_the_dead(self) -> None:
        """Of a dead worker, what it counted stays, and what it said of the present goes; others keep theirs."""
        directory = Path(make_runtime("/store", self.environ))
        names = (
            "counter_1.db",
            "gauge_livesum_1.db",
            "gauge_livesum_11.db",
            "gauge_mostrecent_1.db",
            "worker-1.json",
        )
        for name in names:
            (directory / name).touch()
        forget(str(directory), 1)
        self.assertEqual(
            sorted(os.listdir(directory)), ["counter_1.db", "gauge_livesum_11.db", "gauge_mostrecent_1.db"]
        )
        forget(str(directory), 2)


class CrewTests(SynchronousTestCase):
    """How workers know of each other."""

    def setUp(self) -> None:
        """Have three workers."""
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.time = 1000.0
        self.crew = [
            Crew(Place(number, 3, directory=self.directory), lambda: self.time) for number in (1, 2, 3)
        ]

    def test_others(self) -> None:
        """Each sees what the others told, in their order, and not itself."""
        for crew in reversed(self.crew):
            crew.tell({"who": crew.place.number})
        self.assertEqual([each["who"] for each in self.crew[1].others()], [1, 3])

    def test_silence(self) -> None:
        """Who told nothing for seconds, or nothing that can be read, is left out."""
        for crew in self.crew:
            crew.tell({"who": crew.place.number})
        Path(self.directory, "worker-3.json").write_text("[1]")
        self.assertEqual([each["who"] for each in self.crew[0].others()], [2])
        Path(self.directory, "worker-3.json").write_text("{")
        self.time += 4
        self.assertEqual([each["who"] for each in self.crew[0].others()], [2])
        self.time += 2
        self.assertEqual(self.crew[0].others(), [])

    def test_cannot_be_told(self) -> None:
        """A directory that somebody cleared away is told once, until it is there again; nobody is harmed."""
        away = f"{self.directory}.away"
        os.rename(self.directory, away)
        with capturedLogs() as logged:
            for _ in range(3):
                self.crew[0].tell({})
        self.assertEqual(len(logged), 1)
        self.assertEqual(self.crew[0].others(), [])
        os.rename(away, self.directory)
        self.crew[0].tell({"who": 1})
        self.assertEqual([each["who"] for each in self.crew[1].others()], [1])


class WireTests(SynchronousTestCase):
    """The messages."""

    def test_setup_before_the_reactor_runs(self) -> None:
        """A worker reads its setup, blocking, and nothing past it; and can tell why it does not start."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            setup = Setup(Place(2, 3), {"a": "b" * 100_000}, (5,), False, None)
            transport = StringTransport()
            wire = Wire(lambda word, value: None, lambda: None)
            wire.makeConnection(transport)
            wire.say("setup", setup)
            wire.say("stop")
            sent = transport.value()
            ours.sendall(sent)
            self.assertEqual(hear_setup(theirs), setup)
            self.assertEqual(theirs.recv(1000)[4:], pack("stop", None))
            tell(theirs, "status", "cannot start")
            self.assertEqual(ours.recv(1000)[4:], pack("status", "cannot start"))

    def test_parent_that_is_gone(self) -> None:
        """A worker whose parent goes before it has said all has no setup."""
        for sent in (b"", b"\0", b"\0\0\0\5abc"):
            ours, theirs = socket.socketpair()
            with theirs:
                ours.sendall(sent)
                ours.close()
                self.assertIsNone(hear_setup(theirs))

    def test_said_to_nobody(self) -> None:
        """What is said before there is a connection, or after it, is dropped."""
        Wire(lambda word, value: None, lambda: None).say("beat")

    def test_environment(self) -> None:
        """A worker has the parent's environment, finds its code, and is not what systemd speaks to."""
        environ = {
            "HOME": "/h",
            "NOTIFY_SOCKET": "@x",
            "WATCHDOG_USEC": "1",
            "LISTEN_FDS": "1",
            "PYTHONPATH": "/p",
        }
        made = worker_environment(environ)
        root = str(Path(__file__).parents[3])
        self.assertEqual(made, {"HOME": "/h", "PYTHONPATH": f"{root}:/p"})
        self.patch(site, "getsitepackages", lambda: [root])
        self.assertEqual(worker_environment({}), {})


class LinkTests(SynchronousTestCase):
    """The worker's end of the wire."""

    def setUp(self) -> None:
        """Connect it to a parent that listens."""
        self.said: list[tuple[str, Any]] = []
        self.calls: list[str] = []
        self.parent = Wire(lambda word, value: self.said.append((word, value)), lambda: None)
        self.sent = StringTransport()
        self.parent.makeConnection(self.sent)
        self.crew = Crew(Place(1, 2))
        self.link = ParentLink("old", lambda: self.calls.append("stop"), Clock())
        self.answered = StringTransport()
        self.link.wire.makeConnection(self.answered)
        self.application = FakeApplication()

    def drive(self) -> None:
        """Give it something to drive."""
        self.link.drive(self.application, lambda: self.calls.append("reopen"))

    def hear(self, word: str, value: object = None) -> None:
        """Have the parent say something, and hear what comes back."""
        self.sent.clear()
        self.parent.say(word, value)
        self.link.wire.dataReceived(self.sent.value())
        self.parent.dataReceived(self.answered.value())
        self.answered.clear()

    def test_reload(self) -> None:
        """A configuration is taken over, and the parent hears so."""
        self.drive()
        self.hear("reload", "new")
        self.assertEqual((self.link.config, self.said), ("new", [("taken", None)]))
        self.assertEqual(self.application.calls, ["reload"])

    def test_refused(self) -> None:
        """One that is refused leaves the old one in force, and the parent hears why; a defect is logged."""
        self.drive()
        self.application.reload_error = CannotReload("a", "b")
        self.hear("reload", "new")
        self.assertEqual((self.link.config, self.said), ("old", [("refused", ("a", "b"))]))
        self.application.reload_error = ZeroDivisionError()
        self.hear("reload", "new")
        self.assertEqual((self.link.config, self.said[1][0]), ("old", "refused"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_orders(self) -> None:
        """Everything else that the parent can say."""
        self.drive()
        for word in ("reopen", "stop", "hurry", "what is not known"):
            self.hear(word)
        self.assertEqual(self.calls, ["reopen", "stop"])
        self.assertEqual(self.application.calls, ["hurry"])

    def test_question(self) -> None:
        """What another worker asks by way of the parent is answered that way."""
        self.drive()
        self.link.neighbours.answer = lambda: b"it goes"
        self.hear("tell", (2, 7))
        self.assertEqual(self.said, [("told", (2, 7, b"it goes"))])

    def test_told(self) -> None:
        """What the service tells goes to the parent, as far as that does not know it."""
        self.link.status("cannot start: x")
        self.link.ready()
        self.link.watchdog()
        self.link.reloading()
        self.link.stopping()
        self.parent.dataReceived(self.answered.value())
        self.assertEqual(
            self.said, [("status", "cannot start: x"), ("ready", None), ("beat", None), ("stopping", None)]
        )

    def test_orphan(self) -> None:
        """A worker whose parent is gone ends; one that ends anyway says nothing of it."""
        with capturedLogs() as logged:
            self.link.wire.connectionLost()
        self.assertEqual((self.calls, len(logged)), (["stop"], 1))
        self.link.stopping()
        with capturedLogs() as logged:
            self.link.wire.connectionLost()
        self.assertEqual((self.calls, logged), (["stop"], []))

    def test_stopping_already(self) -> None:
        """A reactor that is stopping need not be stopped."""

        def stopped() -> None:
            raise ReactorNotRunning

        link = ParentLink("old", stopped, Clock())
        link.drive(self.application, lambda: None)
        link.wire.makeConnection(StringTransport())
        self.parent.say("stop")
        link.wire.dataReceived(self.sent.value())

    def test_order_to_nobody(self) -> None:
        """An order before there is anything to drive is a defect, not silence."""
        self.assertRaises(RuntimeError, self.hear, "stop")
