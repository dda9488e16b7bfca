"""Lists of a private repository are as private as its images."""

from __future__ import annotations

from nora.access import ANONYMOUS
from nora.pull.privacy import PrivateDiscovery
from tests.support.privacy_case import KNOWN, SMALL, PrivacyTestCase
from tests.support.pulling import NAME, qualified


class PrivateListTests(PrivacyTestCase):
    """Tags and referrers, at an upstream where only our credential opens the repository."""

    def setUp(self) -> None:
        super().setUp()
        self.ours.tag_lists[NAME] = ["1", "2"]
        self.theirs.tag_lists[NAME] = ["1", "2"]
        self.fill(self.theirs)
        self.lists = PrivateDiscovery(self.pulling.discovery, self.privacy)
        self.route = qualified([self.ours])

    async def test_private(self) -> None:
        """An anonymous client gets neither list, not from the store either; one with rights gets both."""
        for _ in range(2):
            await self.denied(self.lists.tags(self.route, b"", 9, ANONYMOUS))
            await self.denied(self.lists.referrers(self.route, SMALL.digest, None, ANONYMOUS))
            served = await self.lists.tags(self.route, b"", 9, KNOWN)
            self.assertEqual(served.content.tags, ("1", "2"))
            await self.lists.referrers(self.route, SMALL.digest, None, KNOWN)

    async def test_public(self) -> None:
        """What the upstream shows to anybody is listed for anybody."""
        self.theirs.error = None
        served = await self.lists.tags(self.route, b"", 9, ANONYMOUS)
        self.assertEqual(served.content.tags, ("1", "2"))
        await self.lists.referrers(self.route, SMALL.digest, None, ANONYMOUS)
