"""Pushing manifests: what is checked, what is stored, in which order, and what a death leaves."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from nora.access import ANONYMOUS
from nora.oci import Digest, Repository, Tag
from nora.oci.errors import (
    Denied,
    InvalidDigest,
    InvalidManifest,
    InvalidTag,
    MissingContent,
    NotAllowed,
    Overloaded,
    RequestTooLarge,
)
from nora.oci.manifest import OCI_INDEX, OCI_MANIFEST
from nora.oci.reference import LOCAL
from nora.push.interfaces import Target
from nora.push.manifests import MAX_TAGS
from tests.support.hosting import APP, EVERYTHING, Hosting, descriptor, image, index
from tests.support.storage_fakes import ImmediateDisk, SteppedDisk, temporary_folder


class PushTestCase(SynchronousTestCase):
    """A registry, and another process of it."""

    def setUp(self) -> None:
        self.root = temporary_folder(self)
        self.here = self.process()
        self.there = self.process()

    def process(self, **options: Any) -> Hosting:
        process = Hosting(self.root, **options)
        self.addCleanup(process.close)
        return process

    def now(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(work))

    def fails(self, work: Coroutine[Any, Any, Any], error: type[Exception]) -> Any:
        return self.failureResultOf(Deferred.fromCoroutine(work), error).value

    def prepare(self, *blobs: bytes) -> None:
        for data in blobs:
            self.now(self.here.put_blob(data))


class StoredTests(PushTestCase):
    """What is stored."""

    def test_by_tag(self) -> None:
        """The bytes, the type, the digest and the tag are there in every process at once."""
        self.prepare(b"{}", b"a")
        body = image(b"{}", b"a", custom={"x": 1})
        pushed = self.now(self.here.put(body, "1"))
        self.assertEqual((pushed.digest, pushed.tags, pushed.subject), (Digest.of(body), ("1",), None))
        for reference in ("1", str(Digest.of(body))):
            self.assertEqual(self.now(self.there.get(reference)), body)
        served = self.now(self.there.pull.describe(self.there.routing.route(APP.name), Tag("1"), EVERYTHING))
        self.assertEqual(served.content.descriptor.media_type, OCI_MANIFEST)
        self.assertEqual(served.upstream, None)
        self.assertEqual(self.now(self.there.tags()), ("1",))

    def test_by_digest_with_tags(self) -> None:
        """By a digest of either algorithm, and the tags beside it remember that one."""
        self.prepare(b"{}", b"a")
        body = image(b"{}", b"a")
        for algorithm in ("sha256", "sha512"):
            digest = Digest.of(body, algorithm)
            pushed = self.now(self.here.put(body, str(digest), OCI_MANIFEST, "x", "y", "x"))
            self.assertEqual((pushed.digest, pushed.tags), (digest, ("x", "y")))
            record = self.now(self.there.repositories.tag(APP, "y"))
            self.assertEqual(record.descriptor.digest, digest)
            self.assertEqual(self.now(self.there.get("x")), body)

    def test_again(self) -> None:
        """The same manifest once more is fine, and a tag moves to another."""
        self.prepare(b"{}", b"a", b"b")
        self.now(self.here.put(image(b"{}", b"a"), "1"))
        self.now(self.here.put(image(b"{}", b"a"), "1"))
        self.now(self.here.put(image(b"{}", b"b"), "1"))
        self.assertEqual(self.now(self.there.get("1")), image(b"{}", b"b"))
        self.assertEqual(self.now(self.there.get(str(Digest.of(image(b"{}", b"a"))))), image(b"{}", b"a"))

    def test_index(self) -> None:
        """An index of indexes, and an empty one."""
        self.prepare(b"{}")
        self.now(self.here.put(image(b"{}"), str(Digest.of(image(b"{}")))))
        inner = index(image(b"{}"))
        self.now(self.here.put(inner, str(Digest.of(inner)), OCI_INDEX))
        for reference, body in (("nested", index(inner)), ("empty", index())):
            outer = body.replace(OCI_MANIFEST.encode(), OCI_INDEX.encode())
            self.now(self.here.put(outer, reference, OCI_INDEX))
            self.assertEqual(self.now(self.there.get(reference)), outer)

    def test_index_of_blobs(self) -> None:
        """A build cache lists its layers as if they were manifests."""
        self.prepare(b"layer")
        body = index(b"x", manifests=[descriptor(b"layer", "application/vnd.oci.image.layer.v1.tar+gzip")])
        self.now(self.here.put(body, "cache", OCI_INDEX))
        self.assertEqual(self.now(self.there.get("cache")), body)

    def test_foreign_layer(self) -> None:
        """What is found elsewhere need not be here."""
        self.prepare(b"{}")
        body = image(b"{}", layers=[descriptor(b"far", urls=["https://example.com/far"])])
        self.now(self.here.put(body, "1"))

    def test_large(self) -> None:
        """A manifest of nearly 4 MiB is understood in a thread and comes back whole."""
        self.prepare(b"{}")
        body = image(b"{}", annotations={str(i): "x" * 10_000 for i in range(390)})
        self.now(self.here.put(body, "big"))
        self.assertEqual(self.now(self.there.get("big")), body)


class RefusedTests(PushTestCase):
    """What is refused; nothing of it is stored."""

    def refused(
        self, body: bytes, error: type[Exception], reference: str = "1", *tags: str, **options: Any
    ) -> Any:
        found = self.fails(self.process(**options).put(body, reference, OCI_MANIFEST, *tags), error)
        self.assertIsNone(self.now(self.here.repositories.tag(APP, "1")))
        self.assertIsNone(self.here.blobs.size(Digest.of(body)))
        return found

    def test_missing(self) -> None:
        """Blobs that are not here, or only in another repository, are named."""
        self.prepare(b"{}")
        self.now(self.here.put_blob(b"a", Repository(LOCAL, "team/other")))
        error = self.refused(image(b"{}", b"a", b"b"), MissingContent)
        missing = [str(Digest.of(each)) for each in (b"a", b"b")]
        self.assertEqual(error.detail, {"missing": missing, "count": 2})

    def test_many_missing(self) -> None:
        """The list of what is missing is bounded."""
        error = self.refused(image(*(b"%d" % i for i in range(5000))), MissingContent)
        self.assertEqual((len(error.detail["missing"]), error.detail["count"]), (20, 5000))

    def test_missing_manifest(self) -> None:
        """An index needs its manifests as manifests: a blob of those bytes is none."""
        self.prepare(b"{}", image(b"{}"))
        self.fails(self.here.put(index(image(b"{}")), "1", OCI_INDEX), MissingContent)
        self.assertEqual(self.now(self.here.holdings.tags(APP, "", 5)).tags, ())

    def test_sparse(self) -> None:
        """`push_sparse` takes what lists something that is not here, but not something of another size."""
        self.prepare(b"{}")
        sparse = self.process(sparse=True)
        self.now(sparse.put(index(image(b"{}")), "1", OCI_INDEX))
        self.now(sparse.put(image(b"{}", b"gone"), "2"))
        self.fails(sparse.put(wrong_size(), "3"), InvalidManifest)

    def test_size(self) -> None:
        """A descriptor of another size than the blob's is refused, and told."""
        self.prepare(b"{}", b"a")
        error = self.refused(wrong_size(), InvalidManifest)
        self.assertEqual(error.detail, {"sizes": {str(Digest.of(b"{}")): 2}})

    def test_digest(self) -> None:
        """Bytes that do not hash to the reference."""
        self.prepare(b"{}")
        self.refused(image(b"{}"), InvalidDigest, str(Digest.of(b"x")))

    def test_form(self) -> None:
        """What is no manifest, and what is too large."""
        self.refused(b"[]", InvalidManifest)
        self.refused(b" " * (4 * 1024 * 1024 + 1), RequestTooLarge)

    def test_tags(self) -> None:
        """Tags beside a tag, too many, and what is no tag."""
        self.prepare(b"{}")
        body = image(b"{}")
        digest = str(Digest.of(body))
        self.refused(body, InvalidTag, "1", "2")
        self.refused(body, InvalidTag, digest, *(f"t{i}" for i in range(MAX_TAGS + 1)))
        self.refused(body, InvalidTag, digest, "a/b")
        self.refused(body, InvalidTag, digest, digest)

    def test_rights(self) -> None:
        """Who may not push does not; nothing is hosted by trying."""
        work = self.here.push.manifest(Target("team/new"), Tag("1"), OCI_MANIFEST, index(), (), ANONYMOUS)
        self.fails(work, NotAllowed)
        self.assertFalse(self.here.names.known("team/new"))

    def test_immutable(self) -> None:
        """An immutable tag takes the same digest again, and no other; other tags move."""
        self.prepare(b"{}", b"a")
        here = self.process(immutable=["team/*:v*"])
        self.now(here.put(image(b"{}"), "v1"))
        self.now(here.put(image(b"{}"), "v1"))
        self.now(here.put(image(b"{}"), "latest"))
        error = self.fails(here.put(image(b"{}", b"a"), "v1"), Denied)
        self.assertIn("immutable_tags", error.message)
        body = image(b"{}", b"a")
        self.fails(here.put(body, str(Digest.of(body)), OCI_MANIFEST, "latest", "v1"), Denied)
        self.assertEqual(self.now(here.get("latest")), image(b"{}"))
        self.now(here.put(body, "latest"))

    def test_busy(self) -> None:
        """Who waits too long for the repository is told so."""
        self.prepare(b"{}")
        lock = self.now(self.there.locks.hold(f"hosted:{APP}"))
        waiting = Deferred.fromCoroutine(self.here.put(image(b"{}"), "1"))
        self.here.clock.pump([0.1] * 200)
        self.failureResultOf(waiting, Overloaded)
        lock.release()
        self.now(self.here.put(image(b"{}"), "1"))


class WorstMomentTests(PushTestCase):
    """A process that dies, and a client that leaves, between the steps of a push."""

    def test_every_step(self) -> None:
        """After each step on the disk what others see is nothing of the push, or a whole image."""
        subject = descriptor(b"subject", OCI_MANIFEST)
        body = image(b"{}", b"a", subject=subject)
        digest = Digest.of(body)
        seen = []
        for steps in range(40):
            root = temporary_folder(self)
            before = Hosting(root)
            self.addCleanup(before.close)
            for data in (b"{}", b"a"):
                self.now(before.put_blob(data))
            disk = SteppedDisk()
            dying = Hosting(root, disk=disk)
            push = Deferred.fromCoroutine(dying.put(body, "1"))
            push.addErrback(lambda _: None)
            for _ in range(steps):
                if disk.waiting:
                    disk.step()
            done = push.called
            dying.close()  # its locks are free, and nothing of it goes on
            after = Hosting(root)
            self.addCleanup(after.close)
            seen.append(self._look(after, digest, body))
            self.now(after.put(body, "1"))
            self.assertEqual(self._look(after, digest, body), (True, True, True))
            if done:
                break
        else:
            self.fail("the push did not end")
        self.assertEqual(list(dict.fromkeys(seen)),
                         [(False, False, False), (True, False, True), (True, True, True)])  # fmt: skip

    def _look(self, process: Hosting, digest: Digest, body: bytes) -> tuple[bool, bool, bool]:
        """Tell whether the manifest is served, the tag listed and served, and the referrer listed."""
        try:
            served = self.now(process.get(str(digest))) == body
        except Exception:
            served = False
        tags = self.now(process.tags())
        try:
            tagged = self.now(process.get("1")) == body
        except Exception:
            tagged = False
        self.assertEqual(tagged, bool(tags))
        return served, tagged, bool(self.now(process.referrers(Digest.of(b"subject"))))

    def test_client_leaves(self) -> None:
        """A client that leaves does not let go of the repository while its push goes on."""
        self.prepare(b"{}", b"a")
        disk = SteppedDisk()
        leaving = self.process(disk=disk)
        push = Deferred.fromCoroutine(leaving.put(image(b"{}", b"a"), "1"))
        push.addErrback(lambda _: None)
        while not self.here.locks.held(f"hosted:{APP}"):
            disk.step()
        push.cancel()
        self.assertTrue(self.here.locks.held(f"hosted:{APP}"))
        disk.drain()
        self.assertFalse(self.here.locks.held(f"hosted:{APP}"))
        self.assertEqual(self.now(self.here.get("1")), image(b"{}", b"a"))

    def test_full_disk(self) -> None:
        """What cannot be stored leaves nothing listed, and the repository free."""
        self.prepare(b"{}", b"a")
        here = self.process(disk=_Filling(2))
        self.fails(here.put(image(b"{}", b"a"), "1"), OSError)
        self.assertFalse(here.locks.held(f"hosted:{APP}"))
        self.assertEqual(self.now(self.there.tags()), ())


class _Filling(ImmediateDisk):
    """A disk that fails after some work."""

    def __init__(self, works: int) -> None:
        self._left = works

    def run(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        self._left -= 1
        if self._left < 0:
            work, arguments = _fail, ()
        return super().run(work, *arguments)


def _fail() -> None:
    raise OSError(os.strerror(28))


def wrong_size() -> bytes:
    """Make an image whose configuration has another size than it says."""
    return image(b"{}").replace(b'"size": 2', b'"size": 3')
