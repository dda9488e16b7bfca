"""What `Repositories` promises, over real records and over the fake ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Descriptor, Digest, Repository
from nora.oci.errors import InvalidName, InvalidTag
from nora.oci.manifest import OCI_MANIFEST
from nora.storage import DiskRecords, Layout, RecordedRepositories
from nora.storage.interfaces import OwnerRecord, Records, Repositories, TagRecord
from nora.storage.repositories import blob_key, manifest_key, owner_key, tag_key, tag_upstream_key
from tests.support.storage_fakes import ImmediateDisk, MemoryIndex, MemoryRecords, temporary_folder

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object

NGINX = Repository("docker.io", "library/nginx")
NESTED = Repository("docker.io", "library/nginx/extra")
ELSEWHERE = Repository("ghcr.io:5000", "library/nginx")
DIGEST = Digest.of(b"{}")
LONG = Digest.of(b"{}", "sha512")
TAG = TagRecord(Descriptor(OCI_MANIFEST, DIGEST, 2), "hub", 1700000000.25)
OWNER = OwnerRecord("hub", "docker.io", provisional=True, since=1700000000.5)

TEXT: list[Any] = [None, 1, True, [], {}, "x" * 2000]
TIME: list[Any] = [None, True, "1", [], float("inf"), float("nan"), 10**400]
WRONG: dict[str, list[Any]] = {
    "digest": [*TEXT, "", "sha256:abc", "md5:" + "0" * 32],
    "media_type": TEXT,
    "upstream": TEXT,
    "namespace": [*TEXT, "", "..", "a/b", "a\0"],
    "provisional": [None, 0, 1, "true", []],
    "size": [None, True, "1", 1.0, -1, 10**400],
    "checked_at": TIME,
    "since": TIME,
}


class RepositoriesContract(_Base):
    """The suite."""

    records: Records
    repositories: Repositories
    index: MemoryIndex

    def test_absent(self) -> None:
        """What was never recorded is None."""
        for question in (
            self.repositories.tag(NGINX, "latest"),
            self.repositories.manifest(NGINX, DIGEST),
            self.repositories.blob(NGINX, DIGEST),
            self.repositories.owner("nginx"),
            self.repositories.tag_upstream("nginx", "1"),
        ):
            self.assertIsNone(self.successResultOf(question))
        self.assertFalse(self.successResultOf(self.repositories.remove_tag(NGINX, "latest")))

    def test_tag(self) -> None:
        """A tag comes back as it went, and can be moved and forgotten."""
        for record in (TAG, TagRecord(Descriptor("x/y", LONG, 0), "other", 5.0)):
            self.successResultOf(self.repositories.put_tag(NGINX, "1.2_3-x", record, durable=record is TAG))
            self.assertEqual(self.successResultOf(self.repositories.tag(NGINX, "1.2_3-x")), record)
        self.assertTrue(self.successResultOf(self.repositories.remove_tag(NGINX, "1.2_3-x")))
        self.assertIsNone(self.successResultOf(self.repositories.tag(NGINX, "1.2_3-x")))

    def test_tags_differ_in_case(self) -> None:
        """`A` and `a` are two tags."""
        self.successResultOf(self.repositories.put_tag(NGINX, "A", TAG))
        self.assertIsNone(self.successResultOf(self.repositories.tag(NGINX, "a")))

    def test_rights_are_each_repositorys_own(self) -> None:
        """A link gives the right in its repository, under its digest, and nowhere else."""
        descriptor = Descriptor(OCI_MANIFEST, DIGEST, 7)
        self.successResultOf(self.repositories.link_manifest(NGINX, descriptor))
        self.successResultOf(self.repositories.link_blob(NGINX, LONG, 9))
        self.assertEqual(self.successResultOf(self.repositories.manifest(NGINX, DIGEST)), descriptor)
        self.assertEqual(self.successResultOf(self.repositories.blob(NGINX, LONG)), 9)
        for repository, digest in ((NESTED, DIGEST), (ELSEWHERE, DIGEST), (NESTED, LONG), (ELSEWHERE, LONG)):
            self.assertIsNone(self.successResultOf(self.repositories.manifest(repository, digest)))
            self.assertIsNone(self.successResultOf(self.repositories.blob(repository, digest)))
        self.assertIsNone(self.successResultOf(self.repositories.blob(NGINX, DIGEST)))
        self.assertIsNone(self.successResultOf(self.repositories.manifest(NGINX, LONG)))

    def test_owners(self) -> None:
        """A name's owner and that of one of its tags come back as they went, apart from each other."""
        other = OwnerRecord("mirror", "ghcr.io", provisional=False, since=1.0)
        self.successResultOf(self.repositories.put_owner("team/nginx", OWNER))
        self.successResultOf(self.repositories.put_tag_upstream("team/nginx", "1", other))
        self.assertEqual(self.successResultOf(self.repositories.owner("team/nginx")), OWNER)
        self.assertEqual(self.successResultOf(self.repositories.tag_upstream("team/nginx", "1")), other)
        self.assertIsNone(self.successResultOf(self.repositories.owner("team")))
        self.assertIsNone(self.successResultOf(self.repositories.tag_upstream("team/nginx", "2")))
        self.assertTrue(self.successResultOf(self.repositories.remove_tag_upstream("team/nginx", "1")))
        self.assertFalse(self.successResultOf(self.repositories.remove_tag_upstream("team/nginx", "1")))
        self.assertIsNone(self.successResultOf(self.repositories.tag_upstream("team/nginx", "1")))

    def test_rights_that_go(self) -> None:
        """A right that is taken away is gone there, and there alone."""
        for repository in (NGINX, ELSEWHERE):
            self.successResultOf(self.repositories.link_manifest(repository, Descriptor("x/y", DIGEST, 7)))
            self.successResultOf(self.repositories.link_blob(repository, DIGEST, 9))
        self.assertTrue(self.successResultOf(self.repositories.unlink_manifest(NGINX, DIGEST)))
        self.assertEqual(self.successResultOf(self.repositories.blob(NGINX, DIGEST)), 9)
        self.assertTrue(self.successResultOf(self.repositories.unlink_blob(NGINX, DIGEST)))
        self.assertFalse(self.successResultOf(self.repositories.unlink_manifest(NGINX, DIGEST)))
        self.assertFalse(self.successResultOf(self.repositories.unlink_blob(NGINX, DIGEST)))
        self.assertIsNone(self.successResultOf(self.repositories.manifest(NGINX, DIGEST)))
        self.assertIsNone(self.successResultOf(self.repositories.blob(NGINX, DIGEST)))
        self.assertIsNotNone(self.successResultOf(self.repositories.manifest(ELSEWHERE, DIGEST)))
        self.assertEqual(self.successResultOf(self.repositories.blob(ELSEWHERE, DIGEST)), 9)

    def test_malformed_records_are_none(self) -> None:
        """A record that lacks a field, or has one that is not what it should be, is none."""
        for key, whole, ask in (
            (
                tag_key(NGINX, "1"),
                {"digest": str(DIGEST), "media_type": "x/y", "size": 1, "upstream": "hub", "checked_at": 1.0},
                lambda: self.repositories.tag(NGINX, "1"),
            ),
            (
                manifest_key(NGINX, DIGEST),
                {"media_type": "x/y", "size": 1},
                lambda: self.repositories.manifest(NGINX, DIGEST),
            ),
            (blob_key(NGINX, DIGEST), {"size": 1}, lambda: self.repositories.blob(NGINX, DIGEST)),
            (
                owner_key("nginx"),
                {"upstream": "hub", "namespace": "docker.io", "provisional": False, "since": 1},
                lambda: self.repositories.owner("nginx"),
            ),
            (
                tag_upstream_key("nginx", "1"),
                {"upstream": "hub", "namespace": "docker.io", "provisional": False, "since": 1},
                lambda: self.repositories.tag_upstream("nginx", "1"),
            ),
        ):
            self.successResultOf(self.records.put(key, whole))
            self.assertIsNotNone(self.successResultOf(ask()), key)
            for field in whole:
                for value in WRONG[field]:
                    self.successResultOf(self.records.put(key, {**whole, field: value}))
                    self.assertIsNone(self.successResultOf(ask()), (key, field, value))
                self.successResultOf(self.records.put(key, {k: v for k, v in whole.items() if k != field}))
                self.assertIsNone(self.successResultOf(ask()), (key, field))

    def test_names_that_could_leave_their_place(self) -> None:
        """Namespaces, names and tags outside their grammar are refused before they become a path."""
        for namespace, name in (
            ("..", "a"),
            (".", "a"),
            ("a/b", "a"),
            ("a\0", "a"),
            ("", "a"),
            ("x" * 256, "a"),
            ("docker.io", ".."),
            ("docker.io", "a//b"),
            ("docker.io", "a/_tags"),
            ("docker.io", "A"),
        ):
            repository = Repository(namespace, name)
            self.failureResultOf(self.repositories.blob(repository, DIGEST), InvalidName)
            self.failureResultOf(self.repositories.put_tag(repository, "1", TAG), InvalidName)
        self.failureResultOf(self.repositories.owner("../x"), InvalidName)
        for tag in ("..", "", "a/b", "a\n", "x" * 129):
            self.failureResultOf(self.repositories.tag(NGINX, tag), InvalidTag)
            self.failureResultOf(self.repositories.put_tag_upstream("nginx", tag, OWNER), InvalidTag)

    def test_rights_are_told(self) -> None:
        """The index hears of each right to a blob or a manifest, once its record is there."""
        self.successResultOf(self.repositories.link_blob(NGINX, DIGEST, 2))
        self.successResultOf(self.repositories.link_manifest(NESTED, TAG.descriptor))
        self.assertEqual(self.successResultOf(self.index.holders(DIGEST, 5)), [NGINX, NESTED])

    def test_forgotten_owner(self) -> None:
        """An owner can be forgotten; one that is not there changes nothing."""
        self.successResultOf(self.repositories.put_owner("nginx", OWNER))
        self.assertTrue(self.successResultOf(self.repositories.remove_owner("nginx")))
        self.assertFalse(self.successResultOf(self.repositories.remove_owner("nginx")))
        self.assertIsNone(self.successResultOf(self.repositories.owner("nginx")))


class DiskRepositoriesTests(RepositoriesContract, SynchronousTestCase):
    """Over the real records."""

    def setUp(self) -> None:
        layout = Layout(temporary_folder(self))
        layout.prepare()
        self.records = DiskRecords(layout, ImmediateDisk())
        self.index = MemoryIndex()
        self.repositories = RecordedRepositories(self.records, self.index)


class MemoryRepositoriesTests(RepositoriesContract, SynchronousTestCase):
    """Over the fake ones."""

    def setUp(self) -> None:
        self.records = MemoryRecords()
        self.index = MemoryIndex()
        self.repositories = RecordedRepositories(self.records, self.index)
