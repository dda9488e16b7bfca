"""The ground of tests of what is private: one upstream with a credential, as it is with it and without."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Sequence
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from nora.access import ANONYMOUS, Action, Rights
from nora.oci import Digest, Tag
from nora.oci.errors import Denied, NoraError
from nora.pull.privacy import Privacy, PrivatePull
from nora.storage.records import DiskRecords
from nora.upstream.interfaces import Route, Upstream
from nora.upstream.outcomes import Absent
from tests.support.fake_upstream import MANIFEST_TYPE, make_image
from tests.support.pulling import NAME, Pulling, qualified, read_all
from tests.support.scripted import ScriptedUpstream

ONE = Tag("1")
KNOWN = Rights("someone", frozenset({Action.PULL}))
DENIED = Absent("it answered 401 to an anonymous pull", denied=True)
SMALL = make_image([b"a layer"])
CONFIG = Digest.of(SMALL.blobs[0])


class PrivacyTestCase(TestCase):
    """One upstream with a credential, as it is with it and without."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = folder.name
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.ours, self.theirs = ScriptedUpstream(), ScriptedUpstream()
        self.fill(self.ours)
        self.theirs.error = DENIED
        self.reopen()

    def fill(self, upstream: ScriptedUpstream, image: Any = SMALL) -> None:
        upstream.add_manifest(NAME, image.manifest, MANIFEST_TYPE, ONE)
        for blob in image.blobs:
            upstream.add_blob(NAME, blob)

    def reopen(
        self, anonymous: dict[str, Upstream] | None = None, shared: Sequence[str] = (), ttl: float = 1e9
    ) -> None:
        """Begin anew on the same store, as after a restart or a reload."""
        self.pulling = Pulling(self.root, clock=self.clock, ttl=ttl)
        self.addCleanup(self.pulling.close)
        self.records = DiskRecords(self.pulling.layout, self.pulling.disk)
        self.privacy = Privacy(
            self.records,
            self.pulling.owners,
            {"hub": self.theirs} if anonymous is None else anonymous,
            shared,
            self.pulling.background,
            self.clock.seconds,
        )
        self.pull = PrivatePull(self.pulling.pull, self.privacy)

    def each(self, route: Route, rights: Rights = ANONYMOUS) -> list[Awaitable[Any]]:
        """Ask in every way there is."""
        return [
            self.pull.manifest(route, ONE, rights),
            self.pull.manifest(route, SMALL.digest, rights),
            self.pull.describe(route, ONE, rights),
            self.pull.describe(route, SMALL.digest, rights),
            self.pull.blob(route, CONFIG, rights),
            self.pull.describe_blob(route, CONFIG, rights),
        ]

    async def denied(self, work: Awaitable[Any]) -> None:
        await self.raises(work, Denied)

    async def raises(self, work: Awaitable[Any], kind: type[NoraError]) -> NoraError:
        try:
            result = await work
        except NoraError as error:
            self.assertIsInstance(error, kind)
            return error
        return self.fail(f"gave {result!r}")

    async def all_denied(self, route: Route) -> None:
        for work in self.each(route):
            await self.denied(work)

    async def all_given(self, route: Route, rights: Rights = ANONYMOUS) -> None:
        for work in self.each(route, rights):
            content = (await work).content
            if hasattr(content, "close"):
                content.close()

    async def store(self) -> None:
        """Have everything stored, by a client who may read it."""
        await self.pull.manifest(qualified([self.ours]), ONE, KNOWN)
        for blob in SMALL.blobs:
            served = await self.pull.blob(qualified([self.ours]), Digest.of(blob), KNOWN)
            self.assertEqual(await read_all(served.content), blob)
