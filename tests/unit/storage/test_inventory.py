"""The inventory of a repository: each record once, in steps, and nothing that is none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Digest, Repository
from nora.storage import inventory
from nora.storage.inventory import Inventory
from nora.storage.repositories import blob_key, manifest_key, tag_key
from tests.support.storage_fakes import MemoryRecords

APP, OTHER = Repository("docker.io", "team/app"), Repository("docker.io", "team/app/more")
SHORT, LONG = Digest.of(b"one"), Digest.of(b"one", "sha512")


class InventoryTests(SynchronousTestCase):
    """Records in memory."""

    def setUp(self) -> None:
        self.records = MemoryRecords()
        self.inventory = Inventory(self.records)

    def put(self, *keys: str) -> None:
        """Have records."""
        for key in keys:
            self.successResultOf(Deferred.fromCoroutine(self.records.put(key, {})))

    def all(self, found: AsyncIterator[Any], *, removing: str = "") -> list[Any]:
        """Go through what is found, removing each record under a prefix on the way."""

        async def go() -> list[Any]:
            listed = []
            async for each in found:
                listed.append(each)
                if removing:
                    await self.records.remove(f"{removing}/{each}")
            return listed

        return self.successResultOf(Deferred.fromCoroutine(go()))

    def test_each(self) -> None:
        """Tags, manifests and blobs of one repository, digests of both algorithms."""
        for place in (APP, OTHER):
            self.put(tag_key(place, "1"), tag_key(place, "latest"))
            self.put(manifest_key(place, SHORT), manifest_key(place, LONG), blob_key(place, LONG))
        self.assertEqual(self.all(self.inventory.tags(APP)), ["1", "latest"])
        self.assertEqual(self.all(self.inventory.manifests(APP)), [SHORT, LONG])
        self.assertEqual(self.all(self.inventory.blobs(APP)), [LONG])
        self.assertEqual(self.all(self.inventory.blobs(Repository("quay.io", "none"))), [])

    def test_steps(self) -> None:
        """However many there are, and though each is removed when it is found."""
        self.patch(inventory, "_STEP", 3)
        tags = [f"t{number:02}" for number in range(10)]
        self.put(*(tag_key(APP, tag) for tag in tags))
        prefix = tag_key(APP, "t").rpartition("/")[0]
        self.assertEqual(self.all(self.inventory.tags(APP), removing=prefix), tags)
        self.assertEqual(self.all(self.inventory.tags(APP)), [])

    def test_strangers(self) -> None:
        """What is called like no tag and no digest is left out."""
        folder = tag_key(APP, "1").rpartition("/")[0]
        self.put(f"{folder}/.hidden", f"{folder}/a:b", f"{folder}/ok")
        self.put(f"{manifest_key(APP, SHORT).rpartition('/')[0]}/none")
        self.assertEqual(self.all(self.inventory.tags(APP)), ["ok"])
        self.assertEqual(self.all(self.inventory.manifests(APP)), [])
