"""Pushes and removals at once, over the real store with its threads, in two processes' worth of locks.

Two `Hosting` over one folder share nothing but files, as two workers do.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks
from twisted.trial.unittest import TestCase

from nora.oci import Digest, Repository
from nora.oci.errors import BlobUnknown, Denied, ManifestUnknown, MissingContent
from nora.oci.reference import LOCAL
from nora.push.interfaces import Target
from nora.storage.disk import ThreadedDisk
from nora.storage.index import SqliteIndex
from tests.support.hosting import APP, EVERYTHING, Hosting, image
from tests.support.storage_fakes import temporary_folder

ROUNDS = 1000
LANES = 8
"""Repositories among which the rounds are divided, to save time."""
HERE = Target(APP.name)


class AtOnceTests(TestCase):
    """Two workers, one store."""

    timeout = 240  # trial's own name

    async def workers(self) -> list[Hosting]:
        root = temporary_folder(self)
        made = []
        for _ in range(2):
            disk = ThreadedDisk(reactor, threads=4)  # type: ignore[arg-type]
            disk.start()
            self.addCleanup(disk.stop)
            worker = Hosting(root, clock=reactor, disk=disk)
            known = SqliteIndex.threaded(worker.layout.index, reactor)
            await known.start()
            worker.close()
            worker = Hosting(root, clock=reactor, disk=disk, index=known)
            self.addCleanup(worker.close)
            self.addCleanup(_stop, known)
            self.addCleanup(worker.turns.idle)
            made.append(worker)
        return made

    @inlineCallbacks
    def test_push_and_delete(self) -> Any:
        """A blob that is pushed and deleted at once, 1,000 times: never a manifest whose blob is gone."""
        yield Deferred.fromCoroutine(self._push_and_delete())

    async def _push_and_delete(self) -> None:
        one, other = await self.workers()
        outcomes = {"pushed": 0, "missing": 0, "deleted": 0, "kept": 0}
        await _all(*(self._lane(one, other, number, outcomes) for number in range(LANES)))
        # The test must have seen each of the courses that events can take.
        self.assertTrue(outcomes["pushed"] and outcomes["deleted"], outcomes)
        self.assertTrue(outcomes["missing"] or outcomes["kept"], outcomes)

    async def _lane(self, one: Hosting, other: Hosting, number: int, outcomes: dict[str, int]) -> None:
        """Push and delete in one repository, round after round."""
        name, data = f"team/lane{number}", b"a layer that comes and goes %d" % number
        repository, target = Repository(LOCAL, name), Target(name)
        body = image(b"{}", data)
        digest, layer = Digest.of(body), Digest.of(data)
        chance = random.Random(number)

        async def push() -> None:
            await one.put_blob(data, repository)
            try:
                await one.put(body, "1", name=name)
                outcomes["pushed"] += 1
            except MissingContent:
                outcomes["missing"] += 1

        async def delete() -> None:
            try:
                await other.removal.blob(target, layer, EVERYTHING)
                outcomes["deleted"] += 1
            except Denied:
                outcomes["kept"] += 1
            except BlobUnknown:
                pass

        await one.put_blob(b"{}", repository)
        await one.put_blob(data, repository)
        for _ in range(ROUNDS // LANES):
            pair = [push(), delete()]
            chance.shuffle(pair)
            await _all(*pair)
            held = await one.repositories.blob(repository, layer)
            if await one.repositories.manifest(repository, digest) is None:
                self.assertEqual(await other.tags(name), ())
                continue
            self.assertEqual((held, one.blobs.size(layer)), (len(data), len(data)))
            await one.get("1", name)
            await other.removal.manifest(target, digest, EVERYTHING)

    @inlineCallbacks
    def test_many_pushes(self) -> Any:
        """Twenty pushes that share layers: every blob stored once, every manifest whole, each repository listed."""
        yield Deferred.fromCoroutine(self._many_pushes())

    async def _many_pushes(self) -> None:
        workers = await self.workers()
        shared = [b"base %d" % i for i in range(5)]

        async def push(number: int) -> None:
            worker = workers[number % 2]
            repository = Repository(LOCAL, f"team/{number % 4}")
            layers = [*shared, b"own %d" % number]
            await _all(*(worker.put_blob(each, repository) for each in (b"{}", *layers)))
            await worker.put(image(b"{}", *layers), f"v{number}", name=repository.name)

        await _all(*(push(number) for number in range(20)))
        for worker in workers:
            for number in range(20):
                body = await worker.get(f"v{number}", f"team/{number % 4}")
                self.assertEqual(body, image(b"{}", *shared, b"own %d" % number))
            page = await worker.catalog.repositories("", 9, EVERYTHING)
            self.assertEqual(page.names, ("team/0", "team/1", "team/2", "team/3"))
        await workers[0].index.flush()
        await workers[1].index.flush()
        self.assertEqual((await workers[0].index.totals()).blobs, 1 + 5 + 20 + 20)

    @inlineCallbacks
    def test_many_tags(self) -> Any:
        """Pushes and removals of one repository's tags by two workers: what was answered last is what is there."""
        yield Deferred.fromCoroutine(self._many_tags())

    async def _many_tags(self) -> None:
        one, other = await self.workers()
        digest = await one.put_image("first")
        body = await one.get("first")
        await _all(*(worker.put(body, f"t{i}") for i, worker in enumerate((one, other) * 20)))
        self.assertEqual(len(await other.tags()), 41)
        removals = [one.removal.manifest(HERE, digest, EVERYTHING), other.put(body, "late")]
        await _all(*removals)
        left = await one.tags()
        self.assertIn(left, ((), ("late",)))
        for tag in left:
            await other.get(tag)
        if not left:
            await _fails(one.get("late"), ManifestUnknown)


def _stop(known: SqliteIndex) -> Deferred[None]:
    return Deferred.fromCoroutine(known.stop())


async def _all(*work: Awaitable[Any]) -> None:
    """Do all at once; raises the first failure after all have ended."""
    begun: list[Deferred[Any]] = [Deferred.fromCoroutine(each) for each in work]  # type: ignore[arg-type]
    ended: Any = await DeferredList(begun, consumeErrors=True)
    for succeeded, result in ended:
        if not succeeded:
            result.raiseException()


async def _fails(work: Awaitable[Any], error: type[Exception]) -> None:
    try:
        await work
    except error:
        return
    raise AssertionError("it did not fail")
