"""The catalog: what is listed, in which order, and to whom."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from nora.access import ANONYMOUS, Action, Rights
from nora.content.catalog import IndexedCatalog
from nora.content.interfaces import CatalogPage
from nora.oci import Repository
from nora.oci.errors import NotAllowed
from nora.oci.reference import LOCAL
from tests.support.hosting import Everybodys
from tests.support.storage_fakes import MemoryIndex

USER = Rights("carol", frozenset({Action.PULL}))


class CatalogTests(SynchronousTestCase):
    """Over an index in memory."""

    def setUp(self) -> None:
        self.index = MemoryIndex()
        self.privacy = Everybodys()
        self.catalog = IndexedCatalog(self.index, self.privacy)
        for namespace, name in (
            (LOCAL, "team/app"),
            ("docker.io", "library/nginx"),
            (LOCAL, "a"),
            (LOCAL, "Z0"),
        ):
            self.index.appeared(Repository(namespace, name))

    def page(self, last: str = "", limit: int = 100, rights: Rights = USER) -> CatalogPage:
        return self.successResultOf(Deferred.fromCoroutine(self.catalog.repositories(last, limit, rights)))

    def test_names(self) -> None:
        """Hosted ones by their names, cached ones with their namespace, in byte order."""
        self.assertEqual(self.page(), CatalogPage(("Z0", "a", "docker.io/library/nginx", "team/app"), False))

    def test_pages(self) -> None:
        """Page by page, after any text; the last page says that it is."""
        self.assertEqual(self.page("", 2), CatalogPage(("Z0", "a"), True))
        self.assertEqual(self.page("a", 2), CatalogPage(("docker.io/library/nginx", "team/app"), False))
        self.assertEqual(self.page("b", 1), CatalogPage(("docker.io/library/nginx",), True))
        self.assertEqual(self.page("zzz"), CatalogPage((), False))

    def test_many(self) -> None:
        """More than one look at the index takes: every one once."""
        for i in range(1000):
            self.index.appeared(Repository(LOCAL, f"many/{i:04}"))
        found: list[str] = []
        last = ""
        while True:
            page = self.page(last, 333)
            found += page.names
            if not page.more:
                break
            last = page.names[-1]
        self.assertEqual(found, sorted(set(found)))
        self.assertEqual(len(found), 1004)

    def test_one_name_twice(self) -> None:
        """A hosted and a cached repository of one full name are one name."""
        self.index.appeared(Repository("x.io", "b"))
        self.index.appeared(Repository(LOCAL, "x.io/b"))
        self.assertEqual(self.page("docker.io/z"), CatalogPage(("team/app", "x.io/b"), False))

    def test_rules(self) -> None:
        """What the rules do not let the client pull is not named; who may pull nothing is told so."""

        class Rules:
            def beginnings(self, user: str | None, action: Action) -> tuple[str, ...]:
                return ("",)

            def allow(self, user: str | None, action: Action, repository: str) -> bool:
                return repository.startswith("team/") and action is Action.PULL

        ruled = Rights("carol", frozenset({Action.PULL}), rules=Rules())
        self.assertEqual(self.page(rights=ruled), CatalogPage(("team/app",), False))
        none = self.catalog.repositories("", 5, Rights(None, frozenset()))
        self.failureResultOf(Deferred.fromCoroutine(none), NotAllowed)

    def test_private(self) -> None:
        """A private repository is named to who may read it alone."""
        self.privacy.private.add(Repository("docker.io", "library/nginx"))
        self.assertEqual(self.page(rights=ANONYMOUS), CatalogPage(("Z0", "a", "team/app"), False))
        self.assertIn("docker.io/library/nginx", self.page().names)

    def test_bounded(self) -> None:
        """A page that found something does not look at everything for the rest; the next one goes on."""

        class Rules:
            def beginnings(self, user: str | None, action: Action) -> tuple[str, ...]:
                return ("",)

            def allow(self, user: str | None, action: Action, repository: str) -> bool:
                return not repository.startswith("n/")

        self.catalog = IndexedCatalog(self.index, self.privacy, most=400)
        for i in range(700):
            self.index.appeared(Repository(LOCAL, f"n/{i:05}"))
        ruled = Rights("carol", frozenset({Action.PULL}), rules=Rules())
        first = self.page(rights=ruled)
        self.assertEqual(first, CatalogPage(("Z0", "a", "docker.io/library/nginx"), True))
        self.assertEqual(self.page(first.names[-1], rights=ruled), CatalogPage(("team/app",), False))
