"""The rules hold for what is pulled through: at upstreams, in the store, and for the names that both stand for."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable
from typing import Any

from twisted.trial.unittest import TestCase

from nora.access import Action, Rights
from nora.access.rules import Rule, RuleSet
from nora.oci import Digest, Reference, Repository, Tag
from nora.oci.errors import NotAllowed
from nora.pull.interfaces import Cached, Served
from nora.pull.permitted import PermittedDiscovery, PermittedPull, permitted
from nora.upstream.interfaces import Route
from tests.support.fake_upstream import MANIFEST_TYPE, make_image
from tests.support.pull_fakes import FakeContent
from tests.support.pulling import NAME, Pulling, qualified, read_all, unqualified
from tests.support.scripted import ScriptedUpstream

ONE = Tag("1")
PULL = frozenset({Action.PULL})
IMAGE = make_image([b"a layer"])
OTHER = make_image([b"another layer"])
CONFIG = Digest.of(IMAGE.blobs[0])


def allowed(*patterns: str) -> Rights:
    """Make the rights of a client that may pull what `patterns` match."""
    return Rights(
        "alice",
        PULL,
        RuleSet([Rule("alice", each, [Action.PULL]) for each in patterns] or [Rule("*", "*", [])]),
    )


class PermittedTests(TestCase):
    """Two upstreams have an image of the same name."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.pulling = Pulling(folder.name)
        self.addCleanup(self.pulling.close)
        self.hub, self.other = ScriptedUpstream(), ScriptedUpstream("other", "other.test")
        for upstream, image in ((self.hub, IMAGE), (self.other, OTHER)):
            upstream.add_manifest(NAME, image.manifest, MANIFEST_TYPE, ONE)
            upstream.tag_lists[NAME] = ["1"]
            for blob in image.blobs:
                upstream.add_blob(NAME, blob)
        self.pull = PermittedPull(self.pulling.pull)
        self.discovery = PermittedDiscovery(self.pulling.discovery)
        self.route = unqualified([self.hub, self.other])

    def each(self, route: Route, rights: Rights) -> list[Awaitable[Any]]:
        """Ask in every way there is."""
        return [
            self.pull.manifest(route, ONE, rights),
            self.pull.manifest(route, IMAGE.digest, rights),
            self.pull.describe(route, ONE, rights),
            self.pull.blob(route, CONFIG, rights),
            self.pull.describe_blob(route, CONFIG, rights),
            self.discovery.tags(route, b"", 9, rights),
            self.discovery.referrers(route, IMAGE.digest, None, rights),
        ]

    async def refused(self, work: Awaitable[Any]) -> None:
        try:
            await work
        except NotAllowed as error:
            self.assertEqual(error.message, f"pull is not allowed on {NAME}")
            return
        self.fail("it was served")

    async def test_all(self) -> None:
        """Who may pull from both is served as without rules."""
        rights = allowed("docker.io/*", "other.test/*")
        served = await self.pull.manifest(self.route, ONE, rights)
        self.assertEqual(served.content.body, IMAGE.manifest)
        blob = await self.pull.blob(self.route, CONFIG, rights)
        self.assertEqual(await read_all(blob.content), IMAGE.blobs[0])
        self.assertEqual(
            (await self.pull.describe_blob(self.route, CONFIG, rights)).content, len(IMAGE.blobs[0])
        )
        self.assertEqual((await self.discovery.tags(self.route, b"", 9, rights)).content.tags, ("1",))
        await self.pull.describe(self.route, ONE, rights)
        await self.discovery.referrers(self.route, IMAGE.digest, None, rights)

    async def test_nothing(self) -> None:
        """Who may pull from neither gets nothing, stored or not, and no upstream hears of it."""
        for stored in (False, True):
            for work in self.each(self.route, allowed()):
                await self.refused(work)
            if not stored:
                self.assertEqual(self.hub.asked + self.other.asked, [])
                await self.test_all()

    async def test_left_out(self) -> None:
        """Who may pull from the second alone gets its image, and the first is not asked."""
        rights = allowed("other.test/*")
        served = await self.pull.manifest(self.route, ONE, rights)
        self.assertEqual((served.content.body, served.upstream), (OTHER.manifest, "other"))
        self.assertEqual(self.hub.asked, [])

    async def test_owner_is_nobodys_to_change(self) -> None:
        """What a client of few rights was given does not become what the name means for all."""
        await self.pull.manifest(self.route, ONE, allowed("other.test/*"))
        self.assertIsNone(await self.pulling.repositories.owner(NAME))
        served = await self.pull.manifest(self.route, ONE, allowed("*"))
        self.assertEqual(served.content.body, IMAGE.manifest)
        owner = await self.pulling.repositories.owner(NAME)
        assert owner is not None
        self.assertEqual(owner.upstream, "hub")
        served = await self.pull.manifest(self.route, ONE, allowed("other.test/*"))
        self.assertEqual(served.content.body, OTHER.manifest)

    async def test_looked_at_again(self) -> None:
        """What comes out of work that is shared with others passes the rules too, else it is closed."""
        content = FakeContent(b"x")

        class Shared:
            async def blob(self, route: Route, digest: Digest, rights: Rights) -> Served[FakeContent]:
                return Served(content, Repository("docker.io", NAME), Cached.HIT, "hub")

            async def describe(self, route: Route, reference: Reference, rights: Rights) -> Served[None]:
                return Served(None, Repository("docker.io", NAME), Cached.HIT, "hub")

        pull = PermittedPull(Shared())  # type: ignore[arg-type]
        rights = allowed("other.test/*")
        await self.refused(pull.blob(self.route, CONFIG, rights))
        self.assertEqual(content.closed, 1)
        await self.refused(pull.describe(self.route, ONE, rights))

    def test_route(self) -> None:
        """A route of which nothing is left out is the route; a token for another name gets none."""
        self.assertIs(permitted(self.route, allowed("*")), self.route)
        whole = qualified([self.hub])
        self.assertIs(permitted(whole, allowed("docker.io/library/*")), whole)
        self.assertTrue(permitted(self.route, allowed("other.test/*")).partial)
        narrow = Rights("alice", PULL, RuleSet(), frozenset({("other", Action.PULL)}))
        self.assertRaises(NotAllowed, permitted, self.route, narrow)
