"""What was pushed here, as clients read it; and which of the hosted and the proxied answers."""

from __future__ import annotations

import json
import os
from collections.abc import Coroutine, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from nora.access import ANONYMOUS, Action, Rights
from nora.oci import Digest, Repository, Tag
from nora.oci.errors import BlobUnknown, Denied, ManifestUnknown, NameUnknown, NotAllowed
from nora.oci.listing import MAX_REFERRERS_SIZE
from nora.oci.manifest import OCI_INDEX, OCI_MANIFEST
from nora.oci.reference import LOCAL
from nora.pull.interfaces import Cached
from nora.storage.repositories import blob_key, manifest_key, tag_key
from nora.upstream.routing import RoutedUpstream
from tests.support.hosting import APP, EVERYTHING, Hosting, descriptor, image, index
from tests.support.pulling import read_all
from tests.support.scripted import ScriptedUpstream
from tests.support.storage_fakes import temporary_folder

SUBJECT = b"subject"


class HostedTestCase(SynchronousTestCase):
    """A registry, another process of it, and an upstream that must not be asked."""

    def setUp(self) -> None:
        self.root = temporary_folder(self)
        self.upstreams = [RoutedUpstream(ScriptedUpstream("hub", "docker.io"), prefix="hub")]
        self.here = self.process()
        self.there = self.process()
        self.route = self.here.routing.route(APP.name)

    def process(self, **options: Any) -> Hosting:
        process = Hosting(self.root, upstreams=self.upstreams, **options)
        self.addCleanup(process.close)
        return process

    def now(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(work))

    def fails(self, work: Coroutine[Any, Any, Any], error: type[Exception]) -> Any:
        return self.failureResultOf(Deferred.fromCoroutine(work), error).value


class ReadTests(HostedTestCase):
    """Manifests and blobs."""

    def test_blob(self) -> None:
        """A blob comes from the store, as a hit, in any process; its HEAD tells the size."""
        digest = self.now(self.here.put_blob(b"layer", algorithm="sha512"))
        served = self.now(self.there.pull.blob(self.route, digest, EVERYTHING))
        self.assertEqual((served.cached, served.upstream, served.repository), (Cached.HIT, None, APP))
        self.assertEqual(self.now(read_all(served.content)), b"layer")
        self.assertEqual(self.now(self.there.pull.describe_blob(self.route, digest, EVERYTHING)).content, 5)

    def test_unknown(self) -> None:
        """What is not here, or only in another repository, is 404; no upstream is asked."""
        self.now(self.here.put_image("1"))
        other = self.now(self.here.put_blob(b"other", Repository(LOCAL, "team/other")))
        for digest in (other, Digest.of(b"nowhere")):
            self.fails(self.here.pull.blob(self.route, digest, EVERYTHING), BlobUnknown)
            self.fails(self.here.pull.describe_blob(self.route, digest, EVERYTHING), BlobUnknown)
        for reference in (Tag("2"), other):
            self.fails(self.here.pull.manifest(self.route, reference, EVERYTHING), ManifestUnknown)
            self.fails(self.here.pull.describe(self.route, reference, EVERYTHING), ManifestUnknown)
        self.assertEqual(self.here.proxied.calls, [])

    def test_rights(self) -> None:
        """Who may not pull sees nothing of it: by the token's names, and by the rules."""

        class Nobody:
            def beginnings(self, user: str | None, action: Action) -> tuple[str, ...]:
                return ("",)

            def allow(self, user: str | None, action: Action, repository: str) -> bool:
                return repository != "team/app"

        digest = self.now(self.here.put_image("1"))
        ruled = Rights("eve", frozenset({Action.PULL}), rules=Nobody())
        scoped = Rights("eve", frozenset({Action.PULL}), scopes=frozenset({("team/b", Action.PULL)}))
        for rights in (ruled, scoped, Rights(None, frozenset())):
            for work in (
                self.here.pull.manifest(self.route, Tag("1"), rights),
                self.here.pull.describe(self.route, digest, rights),
                self.here.pull.blob(self.route, digest, rights),
                self.here.pull.describe_blob(self.route, digest, rights),
                self.here.discovery.tags(self.route, b"", 5, rights),
                self.here.discovery.referrers(self.route, digest, None, rights),
            ):
                self.fails(work, NotAllowed)

    def test_lost_records(self) -> None:
        """A tag whose manifest is not linked is absent and not listed; bytes of another size are none."""
        digest = self.now(self.here.put_image("1"))
        self.now(self.here.put_image("2", b"b"))
        os.unlink(self.here.layout.record(manifest_key(APP, digest)))
        self.fails(self.there.get("1"), ManifestUnknown)
        self.assertEqual(self.now(self.there.tags()), ("2",))
        layer = Digest.of(b"b")
        self.now(self.here.records.put(blob_key(APP, layer), {"size": 9}))
        self.fails(self.there.pull.describe_blob(self.route, layer, EVERYTHING), BlobUnknown)


class TagsTests(HostedTestCase):
    """Lists of tags."""

    def test_pages(self) -> None:
        """In byte order, after any text, `more` only when there is more; limit 0 is empty."""
        for tag in ("b", "a", "B", "10", "9", "_"):
            self.now(self.here.put_image(tag))
        everything = ("10", "9", "B", "_", "a", "b")
        self.assertEqual(self.now(self.there.tags()), everything)
        for last, limit, expected, more in (
            (b"", 6, everything, False),
            (b"", 5, everything[:5], True),
            (b"9", 2, ("B", "_"), True),
            (b"9zzz", 9, everything[2:], False),
            (b"b", 9, (), False),
            (b"\xff/../\0", 9, (), False),
            (b"", 0, (), True),
        ):
            page = self.now(self.there.discovery.tags(self.route, last, limit, EVERYTHING)).content
            self.assertEqual((page.tags, page.more), (expected, more), (last, limit))

    def test_malformed(self) -> None:
        """A record that is none, and what is no record at all, are not listed, and pages are filled past them."""
        for tag in ("a", "c"):
            self.now(self.here.put_image(tag))
        for tag, content in (("b", b"{"), ("b2", b"[]"), ("b3", b"{}")):
            with open(self.here.layout.record(tag_key(APP, tag)), "wb") as file:
                file.write(content)
        os.mkdir(self.here.layout.record(tag_key(APP, "b4")))
        os.rename(
            self.here.layout.record(tag_key(APP, "b3")), f"{self.here.layout.record(tag_key(APP, 'b'))}.,"
        )
        page = self.now(self.there.discovery.tags(self.route, b"", 2, EVERYTHING)).content
        self.assertEqual((page.tags, page.more), (("a", "c"), False))

    def test_seen_at_once(self) -> None:
        """Names that are kept in memory do not hide what another process pushes or removes."""
        self.now(self.here.put_image("1"))
        os.utime(os.path.dirname(self.here.layout.record(tag_key(APP, "1"))), (1, 1))  # long ago: it is kept
        for _ in range(2):
            self.assertEqual(self.now(self.there.tags()), ("1",))
        for tag in "234":
            self.now(self.here.put_image(tag))
            self.assertIn(tag, self.now(self.there.tags()))
        self.now(self.here.repositories.remove_tag(APP, "2"))
        self.assertEqual(self.now(self.there.tags()), ("1", "3", "4"))

    def test_looked_at_once(self) -> None:
        """What was seen of tags is remembered until a tag or a link changes, whoever does it."""
        digests = [self.now(self.here.put_image(tag, tag.encode())) for tag in "123"]
        tags, links = tag_key(APP, "1"), manifest_key(APP, digests[0])
        folders = [os.path.dirname(self.here.layout.record(key)) for key in (tags, links)]
        looked: list[int] = []
        look = self.there.holdings._live

        def counted(repository: Repository, names: Sequence[str]) -> list[tuple[str, Digest]]:
            looked.append(len(names))
            return look(repository, names)

        self.patch(self.there.holdings, "_live", counted)

        def listed() -> tuple[tuple[str, ...], list[int]]:
            looked.clear()
            return self.now(self.there.tags()), list(looked)

        for folder in folders:
            os.utime(folder, (1, 1))  # long ago: what is seen now can be kept
        self.assertEqual(listed(), (("1", "2", "3"), [3]))
        self.assertEqual(listed(), (("1", "2", "3"), []))
        os.unlink(self.here.layout.record(links))
        self.assertEqual(listed(), (("2", "3"), [3]))
        os.utime(folders[1], (2, 2))
        self.assertEqual([listed(), listed()], [(("2", "3"), [3]), (("2", "3"), [])])
        self.now(self.here.repositories.remove_tag(APP, "2"))
        self.assertEqual(listed(), (("3",), [2]))

    def test_long_list(self) -> None:
        """A list that takes several looks is whole and in order, and one that fails tells why."""
        self.now(self.here.put_image("0"))
        record = self.here.layout.record(tag_key(APP, "0"))
        tags = ("0", *(f"{number:05d}" for number in range(5500)))
        for tag in tags[1:]:
            os.link(record, self.here.layout.record(tag_key(APP, tag)))
        page = self.now(self.there.discovery.tags(self.route, b"", 10_000, EVERYTHING)).content
        self.assertEqual((page.tags, page.more), (tags, False))

        def fail(repository: Repository, names: Sequence[str]) -> list[tuple[str, Digest]]:
            raise PermissionError(names[0])

        other = self.process()
        self.patch(other.holdings, "_live", fail)
        self.fails(other.discovery.tags(self.route, b"", 10_000, EVERYTHING), PermissionError)

    def test_never_pushed(self) -> None:
        """A name that the configuration keeps has no list before the first push, and an empty one after all is gone."""
        here = self.process(hosted=["team/*"])
        route = here.routing.route(APP.name)
        self.fails(here.discovery.tags(route, b"", 5, EVERYTHING), NameUnknown)
        self.now(here.put_image("1"))
        self.now(here.repositories.remove_tag(APP, "1"))
        self.assertEqual(self.now(here.tags()), ())


class ReferrersTests(HostedTestCase):
    """Lists of referrers."""

    def push(self, **fields: Any) -> Digest:
        fields.setdefault("subject", descriptor(SUBJECT, OCI_MANIFEST))
        body = image(b"{}", **fields)
        self.now(self.here.put_blob(b"{}"))
        pushed = self.now(self.here.put(body, str(Digest.of(body))))
        self.assertEqual(pushed.subject, Digest.of(SUBJECT))
        return Digest.of(body)

    def test_entries(self) -> None:
        """Each with its type and annotations, though the subject is not here; filtered by type."""
        plain = self.push()
        signed = self.push(artifactType="x/sig", annotations={"a": "b"})
        body = index(subject=descriptor(SUBJECT, OCI_MANIFEST), annotations={"i": "j"})
        self.now(self.here.put(body, "i", OCI_INDEX))
        found = {each["digest"]: each for each in self.now(self.there.referrers(Digest.of(SUBJECT)))}
        self.assertEqual(set(found), {str(plain), str(signed), str(Digest.of(body))})
        self.assertEqual(found[str(plain)]["artifactType"], "application/octet-stream")
        self.assertEqual(found[str(signed)]["annotations"], {"a": "b"})
        self.assertNotIn("artifactType", found[str(Digest.of(body))])
        one = self.now(self.there.referrers(Digest.of(SUBJECT), "x/sig"))
        self.assertEqual([each["digest"] for each in one], [str(signed)])
        self.assertEqual(self.now(self.there.referrers(Digest.of(SUBJECT), "x/none")), [])

    def test_nothing(self) -> None:
        """What nothing refers to has an empty index, before any push too."""
        here = self.process(hosted=["team/*"])
        served = self.now(
            here.discovery.referrers(here.routing.route(APP.name), Digest.of(b"x"), None, EVERYTHING)
        )
        expected = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
        self.assertEqual((json.loads(served.content), served.following), (expected, None))

    def test_pages(self) -> None:
        """More than 4 MiB of annotations come in pages, each within its bound, nothing twice and nothing left out."""
        pushed = {str(self.push(annotations={"n": str(i), "x": "y" * 1_500_000})) for i in range(6)}
        found: list[str] = []
        pages, last = 0, ""
        while True:
            served = self.now(
                self.there.discovery.referrers(self.route, Digest.of(SUBJECT), None, EVERYTHING, last)
            )
            self.assertLessEqual(len(served.content), MAX_REFERRERS_SIZE)
            found += [each["digest"] for each in json.loads(served.content)["manifests"]]
            pages += 1
            if served.following is None:
                break
            last = served.following
        self.assertEqual((sorted(found), pages), (sorted(pushed), 3))

    def test_filtered_pages(self) -> None:
        """What a filter leaves out is read within bounds, too: the pages go on, empty ones as well."""
        for i in range(10):
            self.push(annotations={"n": str(i), "x": "y" * 4_100_000})
        first = self.now(self.there.discovery.referrers(self.route, Digest.of(SUBJECT), "x/y", EVERYTHING))
        self.assertEqual(json.loads(first.content)["manifests"], [])
        self.assertIsNotNone(first.following)
        self.assertEqual(self.now(self.there.referrers(Digest.of(SUBJECT), "x/y")), [])

    def test_lost(self) -> None:
        """A record without its manifest's link, or with another name than a digest's, lists nothing."""
        digest = self.push()
        self.now(self.here.records.put(f"repositories/local/{APP.name}/_referrers/sha256/"
                                       f"{Digest.of(SUBJECT).hex}/nonsense", {}))  # fmt: skip
        self.assertEqual(len(self.now(self.there.referrers(Digest.of(SUBJECT)))), 1)
        self.now(self.here.repositories.unlink_manifest(APP, digest))
        self.assertEqual(self.now(self.there.referrers(Digest.of(SUBJECT))), [])


class ChosenTests(HostedTestCase):
    """Hosted or proxied."""

    def test_first_push(self) -> None:
        """A name is proxied until something is pushed to it; then no upstream is asked again, by any process."""
        self.fails(self.there.pull.manifest(self.route, Tag("1"), EVERYTHING), ManifestUnknown)
        self.fails(self.there.discovery.tags(self.route, b"", 5, EVERYTHING), NameUnknown)
        asked = len(self.there.proxied.calls), len(self.there.proxied_lists.calls)
        self.assertEqual(asked, (1, 1))
        self.now(self.here.put_image("1"))
        self.now(self.there.get("1"))
        self.fails(self.there.get("2"), ManifestUnknown)
        self.now(self.there.tags())
        self.now(self.there.referrers(Digest.of(b"x")))
        self.assertEqual((len(self.there.proxied.calls), len(self.there.proxied_lists.calls)), asked)

    def test_pattern(self) -> None:
        """A name that the configuration keeps is never asked for upstream."""
        here = self.process(hosted=["team/*"])
        route = here.routing.route(APP.name)
        self.fails(here.pull.manifest(route, Tag("1"), EVERYTHING), ManifestUnknown)
        self.fails(here.pull.describe_blob(route, Digest.of(b"x"), EVERYTHING), BlobUnknown)
        self.assertEqual(here.proxied.calls, [])

    def test_qualified(self) -> None:
        """With `ns` or a registry in the name what is hosted is never seen."""
        self.now(self.here.put_image("1"))
        for name, ns in ((APP.name, "docker.io"), (f"hub/{APP.name}", None), (f"docker.io/{APP.name}", None)):
            route = self.here.routing.route(name, ns)
            self.fails(self.here.pull.manifest(route, Tag("1"), EVERYTHING), ManifestUnknown)
            self.fails(self.here.discovery.tags(route, b"", 5, EVERYTHING), NameUnknown)
        self.assertEqual(len(self.here.proxied.calls), 3)

    def test_deny(self) -> None:
        """With `default_action = "deny"` what is hosted passes; the rest is 403, and 404 to a HEAD."""
        here = self.process(default_action="deny")
        route, digest = here.routing.route(APP.name), Digest.of(b"x")
        self.fails(here.pull.manifest(route, Tag("1"), EVERYTHING), Denied)
        self.fails(here.pull.blob(route, digest, EVERYTHING), Denied)
        self.fails(here.discovery.tags(route, b"", 5, EVERYTHING), Denied)
        self.fails(here.discovery.referrers(route, digest, None, EVERYTHING), Denied)
        self.fails(here.pull.describe(route, Tag("1"), EVERYTHING), ManifestUnknown)
        self.fails(here.pull.describe_blob(route, digest, EVERYTHING), BlobUnknown)
        self.fails(here.pull.describe(route, Tag("1"), Rights(None, frozenset())), NotAllowed)
        self.now(self.there.put_image("1"))
        self.now(here.get("1"))
        self.assertEqual(self.now(here.tags()), ("1",))
        self.fails(here.pull.describe(route, Tag("2"), ANONYMOUS), ManifestUnknown)
        self.assertEqual(here.proxied.calls, [])
