"""The real index: batches, and building it anew."""

from __future__ import annotations

import json
import os
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from nora.oci import Descriptor, Digest, Repository
from nora.oci.manifest import OCI_INDEX, OCI_MANIFEST
from nora.storage import DiskBlobs, DiskRecords, Layout, RecordedRepositories, SqliteIndex, reindex
from nora.storage.interfaces import Totals
from tests.support.index_case import DIGEST, OTHER, REPOSITORY, IndexCase, StartedSteps
from tests.support.storage_fakes import ImmediateDisk, MemoryIndex, temporary_folder


class WritingTests(IndexCase):
    """When what is told is written."""

    def test_a_second_later(self) -> None:
        """What is told within a second is one batch, written when it has passed, and nothing runs after that."""
        index = self.make()
        index.stored(DIGEST, 10)
        self.clock.advance(0.9)
        index.stored(OTHER, 5)
        self.assertEqual(self.rows("SELECT * FROM blobs"), [])
        self.clock.advance(0.1)
        expected = sorted([(str(DIGEST), 10, 1000.0, 1000.0), (str(OTHER), 5, 1000.0, 1000.0)])
        self.assertEqual(self.rows("SELECT * FROM blobs ORDER BY digest"), expected)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_much_is_written_at_once(self) -> None:
        """A batch that has grown large does not wait for its second."""
        index = self.make()
        index.listed(REPOSITORY, [Descriptor("x/y", Digest.of(str(n).encode()), n) for n in range(10_000)])
        self.clock.advance(0)
        self.assertEqual(self.rows("SELECT count(*) FROM listed"), [(10_000,)])

    def test_last_use(self) -> None:
        """The last use of a stored blob is kept, and never goes back."""
        index = self.make()
        index.stored(DIGEST, 10)
        self.clock.advance(1)
        for now in (5000.0, 4000.0):
            self.now = now
            index.used(DIGEST)
            index.used(OTHER)
            self.clock.advance(1)
        self.assertEqual(
            self.rows("SELECT digest, stored_at, used_at FROM blobs"), [(str(DIGEST), 1000.0, 5000.0)]
        )

    def test_stop_writes(self) -> None:
        """Stopping writes what is pending; the next start knows it. What is told after is lost, without harm."""
        index = self.make()
        index.stored(DIGEST, 10)
        index.listed(REPOSITORY, [Descriptor("x/y", OTHER, 7)])
        self.successResultOf(index.stop())
        index.stored(OTHER, 99)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        again = self.make()
        self.assertEqual(self.totals(again), Totals(1, 10))
        self.assertEqual(self.successResultOf(again.listed_size(REPOSITORY, OTHER)), 7)

    def test_told_before_the_start(self) -> None:
        """What is told before the start is visible, and is written after it."""
        index = self.make(started=False)
        index.stored(DIGEST, 10)
        self.assertEqual(self.totals(index), Totals(1, 10))
        self.start(index)
        self.clock.advance(1)
        self.assertEqual(self.rows("SELECT size FROM blobs"), [(10,)])

    def test_visible_while_it_is_written(self) -> None:
        """A batch on its way to the file is seen, and so is what is told meanwhile, which is written after it."""
        disk = StartedSteps()
        index = self.make(started=False, writer=disk)
        starting = Deferred.fromCoroutine(index.start())
        disk.drain()
        self.successResultOf(starting)
        index.stored(DIGEST, 10)
        index.listed(REPOSITORY, [Descriptor("x/y", DIGEST, 10)])
        self.clock.advance(1)
        self.assertEqual(len(disk.waiting), 1)
        index.stored(OTHER, 5)
        for _ in range(2):
            self.assertEqual(self.totals(index), Totals(2, 15))
            self.assertEqual(self.successResultOf(index.listed_size(REPOSITORY, DIGEST)), 10)
            disk.drain()
        self.clock.advance(1)
        disk.drain()
        self.assertEqual(self.rows("SELECT count(*) FROM blobs"), [(2,)])
        stopping = Deferred.fromCoroutine(index.stop())
        disk.drain()
        self.successResultOf(stopping)

    def test_sizes_beyond_the_file(self) -> None:
        """A size that an upstream made up, larger than any file, spoils nothing."""
        index = self.make()
        index.listed(REPOSITORY, [Descriptor("x/y", DIGEST, 2**70), Descriptor("x/y", OTHER, 2**63 - 1)])
        self.clock.advance(1)
        self.assertEqual(self.rows("SELECT digest, size FROM listed"), [(str(OTHER), 2**63 - 1)])

    def test_memory_is_bounded(self) -> None:
        """While nothing can be written, what is kept has a bound, and the loss is told of once."""
        index = self.make(started=False)
        for number in range(20_100):
            index.used(Digest("sha256", f"{number:064x}"))
            index.stored(Digest("sha256", f"{number:064x}"), 1)
        children = [Descriptor("x/y", Digest("sha256", f"{number:064x}"), 1) for number in range(50_100)]
        index.listed(REPOSITORY, children)
        self.assertEqual(len(index._pending), 20_000 + 20_000 + 50_000)
        self.assertEqual(self.logged("cannot keep up"), 1)
        index.stored(Digest("sha256", f"{0:064x}"), 2)
        self.assertEqual(self.totals(index), Totals(20_000, 20_001))


class ReindexTests(IndexCase):
    """Building the index from the files."""

    def setUp(self) -> None:
        super().setUp()
        self.layout = Layout(os.path.dirname(self.path))
        self.layout.prepare()
        disk = ImmediateDisk()
        self.blobs = DiskBlobs(self.layout, disk, MemoryIndex())
        self.repositories = RecordedRepositories(DiskRecords(self.layout, disk), MemoryIndex())

    def add(self, data: bytes) -> Digest:
        digest = Digest.of(data)
        self.successResultOf(self.blobs.add(data, digest))
        return digest

    def link(self, document: dict[str, Any], kind: str, repository: Repository = REPOSITORY) -> Digest:
        body = json.dumps({"schemaVersion": 2, "mediaType": kind, **document}).encode()
        digest = self.add(body)
        descriptor = Descriptor(kind, digest, len(body))
        self.successResultOf(self.repositories.link_manifest(repository, descriptor))
        return digest

    def entry(self, digest: Digest, size: int) -> dict[str, Any]:
        return {"mediaType": "x/y", "digest": str(digest), "size": size}

    def listed(self, index: SqliteIndex, repository: Repository, digest: Digest) -> int | None:
        size: int | None = self.successResultOf(index.listed_size(repository, digest))
        return size

    def test_rebuilt(self) -> None:
        """An empty index knows, after it, all that the files say: blobs, what manifests list, who may read what."""
        layer, config = self.add(b"layer"), Digest.of(b"never stored")
        image = {"config": self.entry(config, 3), "layers": [self.entry(layer, 5)]}
        nested = Repository("ghcr.io:5000", "a/b/c")
        manifest = self.link(image, OCI_MANIFEST, nested)
        self.link({"manifests": [self.entry(manifest, 77)]}, OCI_INDEX)
        bare = Repository("local", "a")
        for repository in (nested, bare):
            self.successResultOf(self.repositories.link_blob(repository, layer, 5))
        index = self.make()
        totals = self.successResultOf(reindex(self.layout, index))
        sizes = [
            os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(self.layout.blobs) for f in files
        ]
        self.assertEqual(totals, Totals(3, sum(sizes)))
        self.assertEqual([self.listed(index, nested, d) for d in (layer, config, manifest)], [5, 3, None])
        self.assertEqual(
            [self.listed(index, REPOSITORY, d) for d in (layer, config, manifest)], [None, None, 77]
        )
        held = [self.successResultOf(index.holders(d, 9)) for d in (layer, config, manifest)]
        self.assertEqual(held, [[bare, nested], [], [nested]])
        self.assertEqual(self.successResultOf(index.repositories("", 9)), [REPOSITORY, nested])

    def test_what_is_gone_is_forgotten(self) -> None:
        """Blobs and lists that no file tells of any more go; last uses of the others stay."""
        stays, gone = self.add(b"stays"), DIGEST
        index = self.make()
        index.stored(gone, 10)
        index.stored(stays, 99)
        index.listed(REPOSITORY, [Descriptor("x/y", gone, 10)])
        index.linked(REPOSITORY, gone)
        index.appeared(REPOSITORY)
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(reindex(self.layout, index)), Totals(1, 5))
        self.assertEqual(self.successResultOf(index.holders(gone, 9)), [])
        self.assertEqual(self.successResultOf(index.repositories("", 9)), [])
        self.assertIsNone(self.listed(index, REPOSITORY, gone))
        self.assertEqual(self.rows("SELECT digest, size, used_at FROM blobs"), [(str(stays), 5, 1000.0)])

    def test_beside_a_daemon(self) -> None:
        """What a daemon tells while the walk goes on is kept."""
        self.add(b"a blob")
        index, daemon = self.make(), self.make()

        def told() -> Any:
            daemon.stored(OTHER, 5)
            daemon.listed(REPOSITORY, [Descriptor("x/y", OTHER, 5)])
            self.clock.advance(1)
            yield from ()

        self.successResultOf(index.replace(told()))
        self.assertEqual(self.totals(index), Totals(1, 5))
        self.assertEqual(self.listed(index, REPOSITORY, OTHER), 5)

    def test_strange_files_are_left_out(self) -> None:
        """Files that are no blobs, manifests whose bytes are missing or wrong: told of, left out, no failure."""
        body_gone = self.link({"manifests": [self.entry(DIGEST, 1)]}, OCI_INDEX)
        os.unlink(self.layout.blob(body_gone))
        lies = self.link({"manifests": [self.entry(OTHER, 2)]}, OCI_INDEX)
        os.chmod(self.layout.blob(lies), 0o600)
        with open(self.layout.blob(lies), "ab") as file:
            file.write(b" ")
        base = f"{self.layout.repositories}/docker.io/library/nginx/_manifests/sha256"
        with open(f"{base}/{DIGEST.hex}", "wb") as file:
            file.write(b"no JSON")
        with open(f"{base}/no-digest", "wb") as file:
            file.write(b"{}")
        with open(f"{base}/{OTHER.hex}", "wb") as file:
            file.write(b'{"media_type": 5, "size": 1}')
        os.makedirs(f"{self.layout.repositories}/docker.io/UPPER/_manifests/sha256")
        with open(f"{self.layout.repositories}/docker.io/UPPER/_manifests/sha256/{OTHER.hex}", "wb") as file:
            file.write(b'{"media_type": "x", "size": 1}')
        os.makedirs(f"{self.layout.blobs}/sha256/zz")
        os.symlink("/etc/passwd", f"{self.layout.blobs}/sha256/zz/{DIGEST.hex}")
        with open(f"{self.layout.blobs}/sha256/zz/{OTHER.hex}", "wb") as file:
            file.write(b"in the wrong folder")
        index = self.make()
        self.assertEqual(self.successResultOf(reindex(self.layout, index)).blobs, 1)
        self.assertEqual(self.rows("SELECT * FROM listed"), [])

    def test_many(self) -> None:
        """More than one batch is walked."""
        for number in range(1100):
            path = self.layout.blob(Digest.of(str(number).encode()))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(b"xy")
        children = [self.entry(Digest.of(str(number).encode()), number) for number in range(1100)]
        self.link({"manifests": children}, OCI_INDEX)
        index = self.make()
        self.assertEqual(self.successResultOf(reindex(self.layout, index)).blobs, 1101)
        self.assertEqual(self.rows("SELECT count(*) FROM listed"), [(1100,)])

    def test_a_walk_that_fails(self) -> None:
        """A walk that cannot go on raises, forgets nothing, and can be repeated."""
        index = self.make()
        index.stored(DIGEST, 10)
        self.clock.advance(1)

        def fails() -> Any:
            yield from ()
            raise PermissionError("x")

        for _ in range(2):
            self.failureResultOf(index.replace(fails()), PermissionError)
        self.assertEqual(self.totals(index), Totals(1, 10))


class ThreadedTests(TestCase):
    """With its own threads, on the real reactor."""

    timeout = 20.0

    async def test_whole_life(self) -> None:
        """Told, asked, stopped and started again in threads of its own, it has all it was told."""
        path = os.path.join(temporary_folder(self), "index.sqlite")
        index = SqliteIndex.threaded(path, reactor)
        await index.start()
        index.stored(DIGEST, 10)
        index.listed(REPOSITORY, [Descriptor("x/y", DIGEST, 10)])
        self.assertEqual(await index.totals(), Totals(1, 10))
        await index.stop()
        again = SqliteIndex.threaded(path, reactor)
        await again.start()
        try:
            self.assertEqual(await again.totals(), Totals(1, 10))
            self.assertEqual(await again.listed_size(REPOSITORY, DIGEST), 10)
            self.assertIsNone(await again.listed_size(REPOSITORY, OTHER))
        finally:
            await again.stop()
        await again.stop()
