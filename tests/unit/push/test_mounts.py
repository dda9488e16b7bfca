"""Mounts: who gets a blob without sending it, and that knowing its digest is not enough."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.access import Action, Rights
from nora.oci import Digest, Repository
from nora.oci.errors import Denied
from nora.push.interfaces import Session, Target
from nora.storage.interfaces import OwnerRecord
from nora.storage.locks import of_blob
from nora.storage.repositories import credential_key, private_key
from tests.support.pushing import PUSHER, STRANGER, Pushing, WholeBody, started
from tests.support.storage_fakes import temporary_folder

DATA = b"a layer"
DIGEST = Digest.of(DATA)
NAME = "team/app"
HERE = Repository("local", NAME)
CACHED = Repository("docker.io", "library/nginx")


class Secret:
    """Rules that let nobody read `secret/...`, and only carol what comes from ghcr.io."""

    def beginnings(self, user: str | None, action: Action) -> tuple[str, ...]:
        return ("",)

    def allow(self, user: str | None, action: Action, repository: str) -> bool:
        """Judge by the full name."""
        if repository.startswith("ghcr.io/"):
            return user == "carol"
        return not (repository.startswith("secret/") and action is Action.PULL)


class MountsTests(SynchronousTestCase):
    """Mounts into `team/app`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.here = Pushing(temporary_folder(self), clock=self.clock)
        self.addCleanup(self.here.locks.close)

    def done(self, work: Any) -> Any:
        return self.successResultOf(started(work))

    def push(self, name: str, data: bytes = DATA) -> None:
        self.done(self.here.push.upload(Target(name), Digest.of(data), WholeBody(data), PUSHER))

    def cache(self, repository: Repository) -> None:
        """Have the blob as a pull leaves it."""
        self.done(self.here.blobs.add(DATA, DIGEST))
        self.done(self.here.repositories.link_blob(repository, DIGEST, len(DATA)))

    def mount(
        self, source: str | None = None, rights: Rights = PUSHER, digest: Digest = DIGEST
    ) -> int | Session:
        outcome: int | Session = self.done(self.here.push.mount(Target(NAME), digest, source, rights))
        return outcome

    def assert_mounted(self, source: str | None = None, rights: Rights = PUSHER) -> None:
        self.assertEqual(self.mount(source, rights), len(DATA))
        self.assertEqual(self.done(self.here.repositories.blob(HERE, DIGEST)), len(DATA))
        self.assertTrue(self.here.names.known(NAME))
        self.assertFalse(self.here.locks.held(of_blob(DIGEST)))

    def assert_session(self, source: str | None = None, rights: Rights = PUSHER) -> Session:
        session = self.mount(source, rights)
        assert isinstance(session, Session), session
        self.assertIsNone(self.done(self.here.repositories.blob(HERE, DIGEST)))
        return session

    def test_from_hosted(self) -> None:
        """A blob of another hosted repository."""
        self.push("team/base")
        self.assert_mounted("team/base")

    def test_there_already(self) -> None:
        """What the repository has already is mounted from anywhere, nowhere included."""
        self.push(NAME)
        self.assert_mounted("no/such")
        self.assert_mounted("../x")

    def test_session_instead(self) -> None:
        """Where it cannot be mounted the client gets a session, that takes the blob by its own algorithm."""
        self.push("team/base")
        for source in ("no/such", "team/base/sub", "../etc", "quay.io/x/y", "ghcr.io/team/base", ""):
            session = self.assert_session(source)
        other = Digest.of(DATA, "sha512")
        elsewhere = self.mount("team/base", digest=other)
        assert isinstance(elsewhere, Session)
        finish = self.here.push.finish
        self.assertEqual(
            self.done(finish(Target(NAME), elsewhere.id, other, None, WholeBody(DATA), PUSHER)), len(DATA)
        )
        self.done(finish(Target(NAME), session.id, DIGEST, None, WholeBody(DATA), PUSHER))

    def test_source_that_may_not_be_read(self) -> None:
        """A source that the client may not pull is none, by the rules or by the scope of its token."""
        self.push("secret/base")
        ruled = Rights("alice", PUSHER.actions, rules=Secret())
        scoped = Rights("alice", PUSHER.actions, scopes=frozenset({(NAME, Action.PUSH), (NAME, Action.PULL)}))
        for rights in (ruled, scoped):
            self.assert_session("secret/base", rights)
            self.assert_session(None, rights)
        self.assert_mounted("secret/base")

    def test_from_cached(self) -> None:
        """A public cached repository, by its full name, a prefix, or the name that it was resolved from."""
        self.cache(CACHED)
        self.assert_session("nginx")
        self.done(self.here.names.resolved("nginx", OwnerRecord("hub", "docker.io", False, 1.0)))
        for source in ("docker.io/library/nginx", "hub/library/nginx", "docker.io/nginx", "nginx"):
            self.assert_mounted(source)
            self.done(self.here.records.remove(f"repositories/local/{NAME}/_blobs/sha256/{DIGEST.hex}"))
        self.assert_session("ghcr.io/library/nginx")

    def test_private(self) -> None:
        """Where a credential was ever used only what was found public is mounted, except by who is known here."""
        self.cache(CACHED)
        records, source = self.here.records, "docker.io/library/nginx"
        self.done(records.put(credential_key("docker.io"), {"since": 1}))
        for value in (None, {"private": True}, {"private": 0}, {}):
            if value is not None:
                self.done(records.put(private_key(CACHED), value))
            self.assert_session(source, STRANGER)
            self.assert_session(None, STRANGER)
        self.done(records.put(private_key(CACHED), {"private": False}))
        self.assert_mounted(source, STRANGER)

    def test_private_for_who_is_known(self) -> None:
        """A client with a name may mount what only our credential opened, where the rules let it."""
        self.cache(Repository("ghcr.io", "team/private"))
        self.done(self.here.records.put(credential_key("ghcr.io"), {"since": 1}))
        self.assert_session("ghcr.io/team/private", Rights("bob", PUSHER.actions, rules=Secret()))
        self.assert_session(None, Rights("bob", PUSHER.actions, rules=Secret()))
        self.assert_mounted("ghcr.io/team/private", Rights("carol", PUSHER.actions, rules=Secret()))

    def test_without_source(self) -> None:
        """Without a source any repository that the client may read will do, hosted or cached."""
        self.cache(CACHED)
        self.assert_mounted(None)

    def test_without_source_from_hosted(self) -> None:
        """The readable one is found behind others that are not."""
        for number in range(5):
            self.push(f"secret/{number}")
        ruled = Rights("alice", PUSHER.actions, rules=Secret())
        self.assert_session(None, ruled)
        self.push("team/base")
        self.assert_mounted(None, ruled)

    def test_index_is_only_a_hint(self) -> None:
        """What the index says is confirmed: by the record, by the bytes, and by the name's being here at all."""
        self.push("team/base")
        self.here.index.linked(Repository("local", "never/pushed"), DIGEST)
        self.here.index.linked(Repository("quay.io", "never/routed"), DIGEST)
        self.here.index.linked(Repository("local", "BROKEN"), DIGEST)
        self.done(self.here.records.remove(f"repositories/local/team/base/_blobs/sha256/{DIGEST.hex}"))
        self.assert_session(None)

    def test_bytes_that_are_gone(self) -> None:
        """A link to bytes that are gone, or are of another size, is no source."""
        self.push("team/base")
        self.done(self.here.repositories.link_blob(Repository("local", "team/base"), DIGEST, 5))
        self.assert_session("team/base")
        self.done(self.here.repositories.link_blob(Repository("local", "team/base"), DIGEST, len(DATA)))
        self.done(self.here.blobs.remove(DIGEST))
        self.assert_session("team/base")

    def test_source_goes_meanwhile(self) -> None:
        """A source that goes while the blob's lock is waited for is none any more."""
        self.push("team/base")
        lock = self.done(self.here.locks.hold(of_blob(DIGEST)))
        mounting = started(self.here.push.mount(Target(NAME), DIGEST, "team/base", PUSHER))
        self.assertNoResult(mounting)
        self.done(self.here.records.remove(f"repositories/local/team/base/_blobs/sha256/{DIGEST.hex}"))
        lock.release()
        self.assertIsInstance(self.successResultOf(mounting), Session)
        self.assertFalse(self.here.names.known(NAME))

    def test_lock_that_is_held(self) -> None:
        """Who cannot have the blob's lock in 10 s uploads."""
        self.push("team/base")
        lock = self.done(self.here.locks.hold(of_blob(DIGEST)))
        mounting = started(self.here.push.mount(Target(NAME), DIGEST, "team/base", PUSHER))
        self.clock.pump([1.0] * 11)
        self.assertIsInstance(self.successResultOf(mounting), Session)
        lock.release()

    def test_taken_name(self) -> None:
        """A name that gets an owner meanwhile is not mounted to, and neither is one that has it before."""
        self.push("team/base")
        lock = self.done(self.here.locks.hold(of_blob(DIGEST)))
        mounting = started(self.here.push.mount(Target(NAME), DIGEST, "team/base", PUSHER))
        self.done(self.here.names.resolved(NAME, OwnerRecord("hub", "docker.io", False, 1.0)))
        lock.release()
        self.failureResultOf(mounting, Denied)
        self.failureResultOf(started(self.here.push.mount(Target(NAME), DIGEST, "team/base", PUSHER)), Denied)
