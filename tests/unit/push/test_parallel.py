"""Many pushes at once, with real threads: every blob is stored once, and every repository gets what it pushed."""

from __future__ import annotations

import os

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from nora.oci import Digest, Repository
from nora.push.interfaces import Target
from nora.storage.disk import ThreadedDisk
from tests.support.pushing import PUSHER, PlayedBody, Pushing, started
from tests.support.storage_fakes import temporary_folder

LAYERS = [bytes([number]) * 100_000 for number in range(3)]
NAMES = [f"team/app-{number}" for number in range(20)]


class ParallelTests(TestCase):
    """Two processes of one store."""

    def setUp(self) -> None:
        root = temporary_folder(self)
        self.disk = ThreadedDisk(installed)  # type: ignore[arg-type]
        self.disk.start()
        self.addCleanup(self.disk.stop)
        self.both = [Pushing(root, disk=self.disk, clock=installed) for _ in range(2)]  # type: ignore[arg-type]
        for here in self.both:
            self.addCleanup(here.locks.close)
        self.here = self.both[0]

    async def test_shared_layers(self) -> None:
        """20 pushes of the same three blobs, in two processes: three files, each linked 20 times."""
        pushes: list[Deferred[int]] = []
        bodies: list[tuple[PlayedBody, bytes]] = []
        for number, name in enumerate(NAMES):
            for layer in LAYERS:
                body = PlayedBody(len(layer))
                bodies.append((body, layer))
                push = self.both[number % 2].push
                pushes.append(started(push.upload(Target(name), Digest.of(layer), body, PUSHER)))
        while any(body.sink is None for body, _ in bodies):
            await self.disk.run(int)
        for start in range(0, 100_000, 20_000):  # all of them grow together
            for body, layer in bodies:
                body.send(layer[start : start + 20_000])
        for body, _ in bodies:
            body.end()
        self.assertEqual(await gatherResults(pushes), [100_000] * 60)
        stored = [file for _, _, files in os.walk(self.here.layout.blobs) for file in files]
        self.assertEqual(sorted(stored), sorted(Digest.of(layer).hex for layer in LAYERS))
        for name in NAMES:
            for layer in LAYERS:
                repository = Repository("local", name)
                self.assertEqual(await self.here.repositories.blob(repository, Digest.of(layer)), 100_000)
        for layer in LAYERS:
            self.assertEqual(await self.here.blobs.read(Digest.of(layer), 100_000), layer)
        self.assertEqual(os.listdir(self.here.layout.uploads), [])
