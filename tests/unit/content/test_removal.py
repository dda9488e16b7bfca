"""Removal: what goes, what stays, and who may."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from nora.access import Action, Rights
from nora.oci import Descriptor, Digest, Repository
from nora.oci.errors import BlobUnknown, Denied, ManifestUnknown, MissingContent, NameUnknown, NotAllowed
from nora.oci.manifest import OCI_INDEX, OCI_MANIFEST
from nora.push.interfaces import Target
from nora.storage.interfaces import OwnerRecord, TagRecord
from tests.support.hosting import APP, EVERYTHING, Hosting, image, index
from tests.support.storage_fakes import SteppedDisk
from tests.unit.content.test_hosted import HostedTestCase

HERE = Target(APP.name)
DIGEST = Digest.of(b"{}")


class RemovalTests(HostedTestCase):
    """What was pushed goes."""

    def test_tag(self) -> None:
        """The tag goes for every process; its manifest and other tags stay."""
        digest = self.now(self.here.put_image("1"))
        self.now(self.here.put_image("2"))
        self.now(self.here.removal.tag(HERE, "1", EVERYTHING))
        self.fails(self.there.get("1"), ManifestUnknown)
        self.assertEqual(self.now(self.there.tags()), ("2",))
        self.now(self.there.get(str(digest)))
        self.fails(self.here.removal.tag(HERE, "1", EVERYTHING), ManifestUnknown)

    def test_manifest(self) -> None:
        """The manifest goes with all tags that point at it, and no other; the blobs stay."""
        gone = self.now(self.here.put_image("1"))
        self.now(self.here.put_image("2"))
        kept = self.now(self.here.put_image("3", b"other"))
        self.now(self.here.removal.manifest(HERE, gone, EVERYTHING))
        self.assertEqual(self.now(self.there.tags()), ("3",))
        for reference in ("1", "2", str(gone)):
            self.fails(self.there.get(reference), ManifestUnknown)
        self.now(self.there.get(str(kept)))
        self.now(self.there.pull.describe_blob(self.route, Digest.of(b"layer"), EVERYTHING))
        self.fails(self.here.removal.manifest(HERE, gone, EVERYTHING), ManifestUnknown)
        self.assertIsNotNone(self.here.blobs.size(gone))

    def test_referrer(self) -> None:
        """A referrer that goes is listed no more; its subject's going leaves it."""
        subject = self.now(self.here.put_image("1"))
        fields = {"mediaType": OCI_MANIFEST, "digest": str(subject), "size": 9}
        signature = self.now(self.here.put_image("sig", b"sig", subject=fields))
        self.now(self.here.removal.manifest(HERE, subject, EVERYTHING))
        self.assertEqual(len(self.now(self.there.referrers(subject))), 1)
        self.now(self.here.removal.manifest(HERE, signature, EVERYTHING))
        self.assertEqual(self.now(self.there.referrers(subject)), [])
        self.assertEqual(self.now(self.here.records.page(
            f"repositories/local/{APP.name}/_referrers/{subject.algorithm}/{subject.hex}", "", 9)), [])  # fmt: skip

    def test_index(self) -> None:
        """An index goes, and what it lists stays."""
        child = self.now(self.here.put_image("child"))
        body = index(image(b"{}", b"layer"))
        self.now(self.here.put(body, "all", OCI_INDEX))
        self.now(self.here.removal.manifest(HERE, Digest.of(body), EVERYTHING))
        self.now(self.there.get(str(child)))

    def test_blob(self) -> None:
        """A blob goes once no manifest here lists it; another repository's link to it stays."""
        layer = Digest.of(b"layer")
        image_digest = self.now(self.here.put_image("1"))
        self.now(self.here.put_image("1", name="team/other"))
        error = self.fails(self.there.removal.blob(HERE, layer, EVERYTHING), Denied)
        self.assertEqual(error.detail, {"manifest": str(image_digest)})
        self.now(self.here.removal.manifest(HERE, image_digest, EVERYTHING))
        self.now(self.here.removal.blob(HERE, layer, EVERYTHING))
        self.fails(self.there.pull.blob(self.route, layer, EVERYTHING), BlobUnknown)
        self.fails(self.here.removal.blob(HERE, layer, EVERYTHING), BlobUnknown)
        other = self.here.routing.route("team/other")
        self.assertEqual(self.now(self.there.pull.describe_blob(other, layer, EVERYTHING)).content, 5)
        self.fails(self.here.put(image(b"{}", b"layer"), "2"), MissingContent)

    def test_told(self) -> None:
        """The index hears of each link that goes, and of a repository without manifests."""
        digest = self.now(self.here.put_image("1"))
        known = self.here.index
        self.assertEqual(self.now(known.holders(digest, 5)), [APP])
        self.assertEqual(self.now(known.repositories("", 5)), [APP])
        self.now(self.here.removal.manifest(HERE, digest, EVERYTHING))
        self.now(self.here.removal.blob(HERE, Digest.of(b"layer"), EVERYTHING))
        for each in (digest, Digest.of(b"layer")):
            self.assertEqual(self.now(known.holders(each, 5)), [])
        self.assertEqual(self.now(known.repositories("", 5)), [])


class RefusedTests(HostedTestCase):
    """What is not removed."""

    def test_rights(self) -> None:
        """Who may only push does not remove; nor does a rule's stranger."""

        class Mine:
            def beginnings(self, user: str | None, action: Action) -> tuple[str, ...]:
                return ("",)

            def allow(self, user: str | None, action: Action, repository: str) -> bool:
                return action is not Action.DELETE

        digest = self.now(self.here.put_image("1"))
        pusher = Rights("carol", frozenset({Action.PULL, Action.PUSH}))
        for rights in (pusher, Rights("carol", frozenset(Action), rules=Mine())):
            for work in (
                self.here.removal.tag(HERE, "1", rights),
                self.here.removal.manifest(HERE, digest, rights),
                self.here.removal.blob(HERE, Digest.of(b"layer"), rights),
            ):
                self.fails(work, NotAllowed)
        self.now(self.here.get("1"))

    def test_cached(self) -> None:
        """What an upstream owns is an administrator's to purge; what is nowhere is unknown."""
        rights = Rights("carol", frozenset(Action) - {Action.ADMIN})
        self.now(self.here.names.resolved("thing/app", OwnerRecord("hub", "docker.io", False, 1.0)))
        for target in (Target("thing/app"), Target("hub/thing/app"), Target(APP.name, "docker.io")):
            for removing in (
                self.here.removal.tag(target, "1", rights),
                self.here.removal.manifest(target, DIGEST, rights),
                self.here.removal.blob(target, DIGEST, rights),
            ):
                self.assertIn("administrator", self.fails(removing, Denied).message)
        self.fails(self.here.removal.tag(Target("nobody/app"), "1", rights), NameUnknown)
        self.fails(self.here.removal.tag(Target("quay.io/app"), "1", EVERYTHING), NameUnknown)

    def test_purge(self) -> None:
        """An administrator purges what is cached, by any of its names, and nothing else goes."""
        cached, other = Repository("docker.io", "thing/app"), Repository("docker.io", "thing/other")
        found = Descriptor(OCI_MANIFEST, DIGEST, 2)
        repositories = self.here.repositories
        for place in (cached, other):
            self.now(repositories.link_manifest(place, found))
            self.now(repositories.link_blob(place, DIGEST, 2))
            for tag in ("1", "2", "3"):
                self.now(repositories.put_tag(place, tag, TagRecord(found, "hub", 1.0)))
        removal = self.there.removal
        self.now(removal.tag(Target("thing/app"), "1", EVERYTHING))
        self.assertIsNone(self.now(repositories.tag(cached, "1")))
        self.assertIsNotNone(self.now(repositories.manifest(cached, DIGEST)))
        self.fails(removal.tag(Target("hub/thing/app"), "1", EVERYTHING), ManifestUnknown)
        self.now(removal.tag(Target("thing/app", "docker.io"), "2", EVERYTHING))
        self.now(removal.blob(Target("hub/thing/app"), DIGEST, EVERYTHING))
        self.assertIsNone(self.now(repositories.blob(cached, DIGEST)))
        self.fails(removal.blob(Target("thing/app"), DIGEST, EVERYTHING), BlobUnknown)
        self.now(removal.manifest(Target("thing/app"), DIGEST, EVERYTHING))
        self.assertIsNone(self.now(repositories.manifest(cached, DIGEST)))
        self.assertIsNone(self.now(repositories.tag(cached, "3")))
        self.fails(removal.manifest(Target("thing/app"), DIGEST, EVERYTHING), ManifestUnknown)
        for tag in ("1", "2", "3"):
            self.assertIsNotNone(self.now(repositories.tag(other, tag)))
        self.assertIsNotNone(self.now(repositories.blob(other, DIGEST)))

    def test_immutable(self) -> None:
        """An immutable tag keeps itself and its manifest."""
        here = self.process(immutable=["*:v*"])
        digest = self.now(here.put_image("v1"))
        self.now(here.put_image("other"))
        self.fails(here.removal.tag(HERE, "v1", EVERYTHING), Denied)
        self.fails(here.removal.manifest(HERE, digest, EVERYTHING), Denied)
        self.assertEqual(self.now(here.tags()), ("other", "v1"))
        self.now(here.removal.tag(HERE, "other", EVERYTHING))

    def test_worst_moments(self) -> None:
        """A process that dies while it removes an image leaves it whole by digest, or gone; a tag never dangles."""
        digest = self.now(self.here.put_image("1"))
        self.now(self.here.put_image("2"))
        for steps in range(40):
            disk = SteppedDisk()
            dying = Hosting(self.root, disk=disk)
            removing = Deferred.fromCoroutine(dying.removal.manifest(HERE, digest, EVERYTHING))
            removing.addErrback(lambda _: None)
            for _ in range(steps):
                if disk.waiting:
                    disk.step()
            done = removing.called
            dying.close()
            tags = self.now(self.there.tags())
            if self.now(self.there.repositories.manifest(APP, digest)) is None:
                self.assertEqual(tags, ())
            for tag in tags:
                self.now(self.there.get(tag))
            if done:
                break
            self.now(self.here.put_image("1"))
            self.now(self.here.put_image("2"))
        else:
            self.fail("the removal did not end")
        self.assertEqual(tags, ())
