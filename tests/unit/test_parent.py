"""What a parent prepares for its workers."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from nora.config import Config, DockerConfig, ServerConfig, StorageConfig
from nora.parent import StoreGround
from nora.process import CannotStart
from nora.process.wire import FIRST_SOCKET, LOCK, Setup, Wire
from tests.support.storage_fakes import temporary_folder


class SpawningReactor(Clock):
    """A reactor that only remembers what it was to start, and what each got."""

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[dict[int, int]] = []
        self.names: list[list[Any]] = []

    def spawnProcess(
        self, protocol: Any, path: str, command: Any, environ: Any, childFDs: dict[int, int]
    ) -> Any:
        """Remember it."""
        self.spawned.append(childFDs)
        sockets = [
            socket.socket(fileno=os.dup(childFDs[number]))
            for number in sorted(childFDs)
            if number >= FIRST_SOCKET
        ]
        self.names.append([each.getsockname() for each in sockets])
        for each in sockets:
            each.close()

        class Process:
            pid = 4711

        return Process()

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Any) -> None:
        """Take it, and never call."""


class GroundCase(SynchronousTestCase):
    """A store, and two workers to start."""

    def setUp(self) -> None:
        """Have a place for everything."""
        self.folder = Path(temporary_folder(self))
        self.environ = {"RUNTIME_DIRECTORY": str(self.folder)}
        self.config = Config(
            server=ServerConfig(port=0, workers=2, drain_timeout=1),
            storage=StorageConfig(path=str(self.folder / "store")),
            docker=DockerConfig(metadata_ttl=1),
        )
        self.new = self.config
        self.reactor = SpawningReactor()

    def ground(self, descriptors: tuple[int, ...] = ()) -> StoreGround:
        """Make one, closed at the end."""
        ground = StoreGround(
            self.config, self.reactor, descriptors, lambda: self.new, self.environ, 2, "/log"
        )
        self.addCleanup(ground.close)
        self.addCleanup(ground.stop_listening)
        return ground

    def opened(self, descriptors: tuple[int, ...] = ()) -> StoreGround:
        """Make and open one."""
        ground = self.ground(descriptors)
        self.successResultOf(Deferred.fromCoroutine(ground.open()))
        return ground

    def launch(self, ground: StoreGround, number: int) -> Setup:
        """Start a worker, and give the setup that it was told."""
        said: list[tuple[str, Any]] = []
        self.patch(Wire, "say", lambda wire, word, value=None: said.append((word, value)))
        ground.launch(number, number > 1, lambda word, value: None, lambda how, status: None)
        (setup,) = [value for word, value in said if word == "setup"]
        assert isinstance(setup, Setup)
        return setup


class GroundTests(GroundCase):
    """`StoreGround`."""

    def test_prepares_the_store_once(self) -> None:
        """The store is there, locked and without what an earlier process left in it, before any worker."""
        (self.folder / "store" / "tmp").mkdir(parents=True)
        left = self.folder / "store" / "tmp" / "left"
        left.touch()
        ground = self.opened()
        self.assertFalse(left.exists())
        self.assertTrue((self.folder / "store" / "blobs").is_dir())
        other = self.ground()
        opening = Deferred.fromCoroutine(other.open())
        self.assertNoResult(opening)
        self.reactor.pump([0.3] * 4)
        self.failureResultOf(opening, CannotStart)
        ground.stop_listening()
        ground.close()
        self.successResultOf(Deferred.fromCoroutine(self.ground().open()))

    def test_what_a_worker_gets(self) -> None:
        """Each has a socket of its own at one address, the lock, and what all have in common."""
        ground = self.opened()
        first, second = self.launch(ground, 1), self.launch(ground, 2)
        self.assertEqual(self.reactor.names[0], self.reactor.names[1])
        self.assertNotEqual(self.reactor.spawned[0][FIRST_SOCKET], self.reactor.spawned[1][FIRST_SOCKET])
        self.assertEqual(set(self.reactor.spawned[0]), {0, 1, 2, 3, LOCK, FIRST_SOCKET})
        self.assertEqual(
            (first.sockets, first.sockets_shared, first.log_path), ((FIRST_SOCKET,), False, "/log")
        )
        self.assertEqual((first.place.number, second.place.number, second.place.workers), (1, 2, 2))
        self.assertEqual((first.place.again, second.place.again), (False, True))
        for name in ("pseudonym", "started_at", "directory", "lock"):
            self.assertEqual(getattr(first.place, name), getattr(second.place, name))
            self.assertTrue(getattr(first.place, name))
        self.assertEqual(first.config, self.config)

    def test_inherited_sockets(self) -> None:
        """What systemd handed over every worker gets, all of it."""
        handed = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        names = [each.getsockname() for each in handed]
        ground = self.opened(tuple(each.detach() for each in handed))
        for number in (1, 2):
            setup = self.launch(ground, number)
            self.assertEqual((setup.sockets, setup.sockets_shared), ((FIRST_SOCKET, FIRST_SOCKET + 1), True))
        self.assertEqual(self.reactor.names, [names, names])
        ground.withdraw(1)  # they are not its own
        self.launch(ground, 1)
        self.assertEqual(self.reactor.names[-1], names)

    def test_withdrawn_socket(self) -> None:
        """A worker whose socket was withdrawn gets a new one at the same address; the last one is never withdrawn."""
        ground = self.opened()
        self.launch(ground, 1)
        ground.withdraw(1)
        ground.withdraw(2)
        self.launch(ground, 1)
        ground.withdraw(2)  # the new one of worker 1 does not listen yet
        self.launch(ground, 2)
        self.assertEqual(len({str(name) for name in self.reactor.names}), 1)
        name = self.reactor.names[0][0]
        socket.create_connection(name).close()

    def test_no_process_can_be_made(self) -> None:
        """A failed start of a process leaves no descriptor behind."""
        ground = self.opened()
        self.patch(self.reactor, "spawnProcess", self.refuse)
        before = len(os.listdir("/proc/self/fd"))
        self.assertRaises(BlockingIOError, self.launch, ground, 1)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def refuse(self, *_: object, **__: object) -> None:
        """Make no process."""
        raise BlockingIOError(11, "Resource temporarily unavailable")

    def test_reread(self) -> None:
        """Of a new configuration workers get what can be taken over; the rest is told, and stays as it was."""
        ground = self.opened()
        self.new = attrs.evolve(
            self.config,
            docker=DockerConfig(metadata_ttl=2),
            server=ServerConfig(port=5, workers=2, drain_timeout=1),
        )
        with capturedLogs() as logged:
            config = ground.reread()
        self.assertEqual([event["key"] for event in logged], ["server.port"])
        self.assertEqual((config.docker.metadata_ttl, config.server.port), (2, 0))
        self.assertEqual(self.launch(ground, 1).config, self.config)
        ground.take_over(config)
        self.assertEqual(self.launch(ground, 1).config, config)

    def test_closed_before_it_was_opened(self) -> None:
        """A start that did not come far is taken down like any other."""
        ground = self.ground()
        ground.stop_listening()
        ground.close()
