"""What a name means for a push, and that no push takes a name from what everybody pulls."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.access import Action, Rights
from nora.oci import Descriptor, Digest, Repository, check_name
from nora.oci.errors import Denied, InvalidName, NoraError, NotAllowed
from nora.oci.manifest import OCI_MANIFEST
from nora.push.interfaces import Target
from nora.storage.interfaces import OwnerRecord
from tests.support.pushing import PUSHER, Pushing, started
from tests.support.storage_fakes import temporary_folder

OWNER = OwnerRecord("hub", "docker.io", provisional=False, since=1.0)


class NoTeam:
    """Rules that let nobody push to `team/`, by whatever name."""

    def beginnings(self, user: str | None, action: Action) -> tuple[str, ...]:
        return ("",)

    def allow(self, user: str | None, action: Action, repository: str) -> bool:
        """Allow all else."""
        return not repository.startswith("team/")


class TargetsTests(SynchronousTestCase):
    """Every row of the rules."""

    def setUp(self) -> None:
        self.root = temporary_folder(self)
        self.here = self.process()

    def process(self, *hosted: str) -> Pushing:
        process = Pushing(self.root, clock=Clock(), hosted=hosted)
        self.addCleanup(process.locks.close)
        return process

    def resolve(
        self, name: str, ns: str | None = None, rights: Rights = PUSHER, here: Pushing | None = None
    ) -> Any:
        return started((here or self.here).targets.resolve(Target(name, ns), rights))

    def assert_taken(self, name: str, ns: str | None = None, here: Pushing | None = None) -> None:
        self.assertEqual(self.successResultOf(self.resolve(name, ns, here=here)), Repository("local", name))

    def assert_denied(self, name: str, ns: str | None = None, *, says: str) -> None:
        failure = self.failureResultOf(self.resolve(name, ns), Denied)
        self.assertNotIsInstance(failure.value, NotAllowed)
        self.assertIn(says, failure.value.message)

    def own(self, name: str, record: OwnerRecord = OWNER) -> None:
        self.assertTrue(self.successResultOf(started(self.here.names.resolved(name, record))))

    def host(self, name: str, here: Pushing | None = None) -> None:
        self.successResultOf(started((here or self.here).targets.host(Repository("local", name))))

    def test_plain_names(self) -> None:
        """A name that nobody has, of any number of parts, is a repository here; so is one part like a prefix."""
        for name in ("team/app", "app", "a/b/c/d", "gh", "hub", "local/app", "team/app.v1", "docker.io"):
            self.assert_taken(name)

    def test_ns(self) -> None:
        """With `ns` the push is for another registry, known here or not; our own names mean that it is not."""
        for ns in ("docker.io", "ghcr.io", "GHCR.io:443", "quay.io", "x" * 1000, ""):
            self.assert_denied("team/app", ns, says="public_url and aliases")
        for ns in ("nora.internal:4000", "NORA.internal:4000"):
            self.assert_taken("team/app", ns)

    def test_upstreams_names(self) -> None:
        """A first part that names an upstream, by namespace, alias or prefix, is not ours, whatever `hosted` says."""
        self.here = self.process("*")
        for name in ("docker.io/library/nginx", "index.docker.io/a", "ghcr.io/a/b", "gh/a", "hub/team/app"):
            self.assert_denied(name, says="docker.upstreams")

    def test_dotted(self) -> None:
        """A first part with a dot is some other registry's, whatever `hosted` says."""
        self.here = self.process("*")
        for name in ("quay.io/team/app", "team.app/x"):
            self.assert_denied(name, says="another registry's host")

    def test_library(self) -> None:
        """What is under `library/` needs `hosted`, cached or not."""
        self.assert_denied("library/nginx", says="docker.hosted")
        self.assert_denied("library/a/b", says="docker.hosted")
        self.assert_taken("library/nginx", here=self.process("library/*"))
        self.assert_taken("library")

    def test_cached_name(self) -> None:
        """A name with an owner, even a provisional one, needs `hosted`; others are not concerned."""
        self.own("team/app")
        self.own("team/other", OwnerRecord("ghcr", "ghcr.io", provisional=True, since=1.0))
        self.assert_denied("team/app", says="docker.hosted")
        self.assert_denied("team/other", says="docker.hosted")
        self.assert_taken("team/app/sub")
        self.assert_taken("team")
        self.assert_taken("team/app", here=self.process("team/*"))

    def test_one_component(self) -> None:
        """`nginx` is taken where `nginx` or `library/nginx` resolved to an upstream, unless `hosted` covers it."""
        self.own("nginx")
        self.own("library/redis")
        for name in ("nginx", "redis"):
            self.assert_denied(name, says="docker.hosted")
            self.assert_taken(name, here=self.process(name))
        self.assert_taken("team/redis")

    def cache(self, repository: Repository) -> None:
        descriptor = Descriptor(OCI_MANIFEST, Digest.of(b"{}"), 2)
        self.successResultOf(started(self.here.repositories.link_manifest(repository, descriptor)))

    def test_cached_without_owner(self) -> None:
        """What was pulled by digest alone, or by who may not see all upstreams, has no owner and is not free."""
        self.cache(Repository("ghcr.io", "team/app"))
        self.cache(Repository("docker.io", "library/nginx"))
        for name in ("team/app", "nginx"):
            self.assert_denied(name, says="docker.hosted")
            self.assert_taken(name, here=self.process(name))
        for name in ("team", "team/app/sub", "team/nginx"):
            self.assert_taken(name)

    def test_cached_in_between(self) -> None:
        """A name of which something is cached while its first blob is on the way does not become hosted."""
        self.assert_taken("team/app")
        self.cache(Repository("ghcr.io", "team/app"))
        self.failureResultOf(started(self.here.targets.host(Repository("local", "team/app"))), Denied)
        self.assertFalse(self.here.names.known("team/app"))
        self.host("team/app", here=self.process("team/*"))
        self.host("team/app")

    def test_hosted_already(self) -> None:
        """What is hosted stays so, also where the configuration no longer covers it."""
        covered = self.process("library/*", "team/*")
        self.own("team/app")
        for name in ("library/nginx", "team/app", "app"):
            self.host(name, here=covered)
            self.assert_taken(name)
        self.assertIsNone(self.successResultOf(started(self.here.repositories.owner("team/app"))))

    def test_owner_comes_in_between(self) -> None:
        """A name that gets an owner while its first blob is on the way does not become hosted."""
        self.assert_taken("team/app")
        self.own("team/app")
        failure = self.failureResultOf(
            started(self.here.targets.host(Repository("local", "team/app"))), Denied
        )
        self.assertEqual(failure.value.detail, {"name": "team/app", "key": "docker.hosted"})
        self.assertFalse(self.here.names.known("team/app"))
        self.host("team/app", here=self.process("team/*"))
        self.assertTrue(self.here.names.known("team/app"))

    def test_rights(self) -> None:
        """The right to push is asked for first, of the name and of the rules: then nothing is told of the cache."""
        self.own("team/app")
        reader = Rights("alice", frozenset({Action.PULL}))
        scoped = Rights("alice", PUSHER.actions, scopes=frozenset({("other", Action.PUSH)}))
        ruled = Rights("alice", PUSHER.actions, rules=NoTeam())
        for rights in (reader, scoped, ruled):
            self.failureResultOf(self.resolve("team/app", rights=rights), NotAllowed)
            self.failureResultOf(self.resolve("team/free", rights=rights), NotAllowed)
        for rights in (reader, scoped):
            self.failureResultOf(self.resolve("ghcr.io/x", rights=rights), NotAllowed)
        self.assertEqual(self.successResultOf(self.resolve("app", rights=ruled)).name, "app")

    @given(
        st.text(alphabet="abz09._-/AZ:\0", max_size=40),
        st.sampled_from([None, "docker.io", "nora.internal:4000"]),
    )
    def test_any_name(self, name: str, ns: str | None) -> None:
        """Whatever the name, the answer is a valid repository here or one of our refusals."""
        try:
            repository = self.here.routing.pushed(name, ns)
        except (Denied, InvalidName) as error:
            self.assertIsInstance(error, NoraError)
        else:
            self.assertEqual((repository.namespace, check_name(repository.name)), ("local", name))
            self.assertNotEqual(ns, "docker.io")
            self.assertNotIn(".", name.partition("/")[0] if "/" in name else "")
