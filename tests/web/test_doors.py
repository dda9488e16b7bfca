"""Doors: who is let in, as what, and how the others are told."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.access import Action, Rights
from nora.access.rules import Rule, RuleSet
from nora.oci import Repository
from nora.oci.errors import Denied, NoraError, NotAllowed, Unauthorized, Unknown
from nora.telemetry import Metrics
from nora.web import challenges, doorkeeper, logins
from nora.web.doorkeeper import Doorkeeper, LoopbackDoor, OpenDoor
from nora.web.guarded import Asked, GuardedDoor
from nora.web.logins import Basic
from nora.web.visitors import Visitor
from tests.support.doors import PASSWORD, TOKEN, AtTheDoor, House, basic, write_users
from tests.support.storage_fakes import temporary_folder

ALL = set(Action)
PUSH = {Action.PULL, Action.PUSH, Action.DELETE}
UPLOADS = "/v2/team/app/blobs/uploads/"
MANIFEST = "/v2/team/app/manifests/1"


class DoorCase(SynchronousTestCase):
    """A visitor before a door."""

    def setUp(self) -> None:
        self.visitor = Visitor("192.0.2.1", "http", "nora:4000", False)
        for module in (doorkeeper, challenges, logins):
            self.patch(module, "visitor", lambda _: self.visitor)

    def admit(self, door: Doorkeeper, request: Any) -> Rights:
        return self.successResultOf(Deferred.fromCoroutine(door.admit(request)))

    def refused(self, door: Doorkeeper, request: Any) -> Unauthorized:
        error = self.failureResultOf(Deferred.fromCoroutine(door.admit(request)), Unauthorized).value
        assert isinstance(error, Unauthorized)
        return error

    def told(self, door: Doorkeeper, request: Any, error: NoraError | None = None) -> NoraError:
        """Give what becomes of an error after the door let the request in."""
        self.admit(door, request)
        return door.answer(request, error or NotAllowed("push is not allowed on team/app"))


class LoopbackDoorTests(DoorCase):
    """The door without `[auth]`."""

    def actions(self, push: str, local: bool, *headers: tuple[str, str]) -> set[Action]:
        self.visitor = Visitor("127.0.0.1", "http", "127.0.0.1:4000", local)
        rights = self.admit(LoopbackDoor(push), AtTheDoor("POST", UPLOADS, *headers))
        self.assertIsNone(rights.user)
        self.assertFalse(rights.private)
        return set(rights.actions)

    def test_who_pushes(self) -> None:
        """`push` says who; a program on this machine administers, whoever may push."""
        self.assertEqual(self.actions("loopback", True), ALL)
        self.assertEqual(self.actions("loopback", False), {Action.PULL})
        self.assertEqual(self.actions("always", False), PUSH)
        self.assertEqual(self.actions("always", True), ALL)
        self.assertEqual(self.actions("never", False), {Action.PULL})
        self.assertEqual(self.actions("never", True), {Action.PULL, Action.ADMIN})

    def test_pages_are_not_local(self) -> None:
        """What a page in a browser of this machine sends is not the machine's own."""
        self.assertEqual(self.actions("loopback", True, ("Origin", "https://evil.example")), {Action.PULL})

    def test_authorization_is_ignored(self) -> None:
        """Whatever a client sends along, it is nobody."""
        self.assertEqual(self.actions("loopback", False, ("Authorization", "Nonsense")), {Action.PULL})

    def test_the_key_is_named(self) -> None:
        """A refused push says which key says so; a refused pull, and other errors, are as they were."""
        for push in ("loopback", "never", "always"):
            for method, path in (("POST", UPLOADS), ("PUT", MANIFEST), ("DELETE", MANIFEST)):
                error = self.told(LoopbackDoor(push), AtTheDoor(method, path))
                self.assertIs(type(error), Denied)
                self.assertIn("docker.push", error.message)
                self.assertIn(f'"{push}"', error.message)
        for error in (NotAllowed("no"), Unknown("no")):
            self.assertIs(self.told(LoopbackDoor("never"), AtTheDoor("GET", MANIFEST), error), error)

    def test_rules(self) -> None:
        """Rules hold for those who cannot log in, too."""
        rights = self.admit(
            LoopbackDoor("never", RuleSet([Rule("everyone", "docker.io/*", [Action.PULL])])),
            AtTheDoor("GET", MANIFEST),
        )
        self.assertTrue(rights.allows(Action.PULL, Repository("docker.io", "library/nginx")))
        self.assertFalse(rights.allows(Action.PULL, Repository("ghcr.io", "library/nginx")))

    def test_open(self) -> None:
        """The open door lets everybody pull and answers as it is told."""
        error = NotAllowed("no")
        self.assertIs(self.told(OpenDoor(), AtTheDoor("POST", UPLOADS), error), error)


class GuardedDoorTests(DoorCase):
    """The door with `[auth]`."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.house = House(Path(temporary_folder(self)), self.clock, Metrics(CollectorRegistry(), ""))

    def token(
        self, door: GuardedDoor, scopes: set[tuple[str, Action]], user: str | None = None
    ) -> tuple[str, str]:
        asked = Asked(frozenset(scopes), None if user is None else Basic(user, PASSWORD))
        request: Any = AtTheDoor("GET", "/v2/token")
        issued, _ = self.successResultOf(Deferred.fromCoroutine(door.issue(request, asked)))
        return "Authorization", f"Bearer {issued.text}"

    def test_anonymous(self) -> None:
        """Who sends nothing may pull where that is allowed; `/v2/` alone says where to log in."""
        rights = self.admit(self.house.door(), AtTheDoor("GET", MANIFEST))
        self.assertEqual((rights.user, set(rights.actions)), (None, {Action.PULL}))
        self.assertFalse(rights.private)
        closed = self.house.door(anonymous_pull=False)
        self.assertIn(
            'scope="repository:team/app:pull"', self.refused(closed, AtTheDoor("GET", MANIFEST)).challenge
        )
        self.refused(closed, AtTheDoor("GET", "/v2/no/such/endpoint"))
        for path in ("/v2/", "/v2", "http://nora:4000/v2/"):
            error = self.refused(self.house.door(), AtTheDoor("GET", path))
            self.assertEqual(error.challenge, 'Bearer realm="http://nora:4000/v2/token",service="nora:4000"')

    def test_anonymous_never_pushes(self) -> None:
        """Not even where a rule says everyone does."""
        door = self.house.door(Rule("everyone", "*", [Action.ADMIN]))
        self.assertEqual(self.admit(door, AtTheDoor("GET", MANIFEST)).actions, {Action.PULL})

    def test_challenges(self) -> None:
        """An anonymous client is told what its endpoint needs."""
        for method, path, scope in (
            ("GET", MANIFEST, "repository:team/app:pull"),
            ("GET", "/v2/team/app/blobs/sha256:0", "repository:team/app:pull"),
            ("HEAD", "/v2/team/app/blobs/sha256:0", "repository:team/app:pull,push"),
            ("HEAD", "/v2/team/blobs/manifests/1", "repository:team/blobs:pull"),
            ("GET", "/v2/team/app/tags/list", "repository:team/app:pull"),
            ("GET", "http://nora:4000/v2/team/app/referrers/x", "repository:team/app:pull"),
            ("POST", UPLOADS, "repository:team/app:pull,push"),
            ("POST", UPLOADS.rstrip("/"), "repository:team/app:pull,push"),
            ("PATCH", f"{UPLOADS}1", "repository:team/app:pull,push"),
            ("GET", f"{UPLOADS}1", "repository:team/app:pull,push"),
            ("DELETE", f"{UPLOADS}1", "repository:team/app:pull,push"),
            ("PUT", MANIFEST, "repository:team/app:pull,push"),
            ("DELETE", MANIFEST, "repository:team/app:delete"),
            ("DELETE", "/v2/team/app/blobs/sha256:0", "repository:team/app:delete"),
            ("GET", "/v2/_catalog", "registry:catalog:*"),
            ("GET", "/v2/A%22B/manifests/1", ""),
            ("GET", "/v2/other", ""),
            ("GET", "/v2/manifests/1", ""),
        ):
            error = self.told(self.house.door(), AtTheDoor(method, path))
            assert isinstance(error, Unauthorized), (method, path)
            asked = f',scope="{scope}"' if scope else ""
            expected = f'Bearer realm="http://nora:4000/v2/token",service="nora:4000"{asked}'
            self.assertEqual(error.challenge, expected, (method, path))

    def test_mount(self) -> None:
        """A mount needs to read its source, too; one that is no name is left out."""
        for source, added in ((b"lib/x", " repository:lib/x:pull"), (b'"', ""), (b"\xff", "")):
            error = self.told(self.house.door(), AtTheDoor("POST", UPLOADS, query={b"from": [source]}))
            assert isinstance(error, Unauthorized)
            self.assertIn(f'scope="repository:team/app:pull,push{added}"', error.challenge)

    def test_public_url(self) -> None:
        """The token service is where the configuration says that this server is."""
        door = self.house.door(public_url="https://nora.internal")
        error = self.refused(door, AtTheDoor("GET", "/v2/"))
        expected = 'Bearer realm="https://nora.internal/v2/token",service="nora.internal"'
        self.assertEqual(error.challenge, expected)
        authorization = self.token(door, set())
        self.admit(door, AtTheDoor("GET", "/v2/", authorization))
        other = self.house.door(public_url="https://other.internal")
        self.assertIn("invalid_token", self.refused(other, AtTheDoor("GET", "/v2/", authorization)).challenge)

    def test_basic(self) -> None:
        """User and password, or a token as the password, are enough for any endpoint."""
        door = self.house.door()
        for user, password in (("alice", PASSWORD), ("ci", TOKEN)):
            rights = self.admit(door, AtTheDoor("GET", "/v2/", ("Authorization", basic(user, password))))
            self.assertEqual((rights.user, set(rights.actions)), (user, PUSH))
            self.assertTrue(rights.private)

    def test_wrong_password(self) -> None:
        """A wrong one is 401 wherever it comes, and the audit log has the name that was tried."""
        request = AtTheDoor("GET", MANIFEST, ("Authorization", basic("al\x1bice", "no")))
        error = self.refused(self.house.door(), request)
        self.assertIn('scope="repository:team/app:pull"', error.challenge)
        assert request.visit is not None
        self.assertEqual((request.visit.action, request.visit.user), ("login", "al\ufffdice"))
        # Such a client is told what it was told before, when the error is asked about again.
        self.assertIs(self.house.door().answer(request, error), error)  # type: ignore[arg-type]

    def test_malformed(self) -> None:
        """What is no Authorization is 401."""
        for value in ("Digest x", "Basic", "Basic !", "Basic YQ==", "Bearer", f"Basic {'x' * 20_000}"):
            request = AtTheDoor("GET", MANIFEST, ("Authorization", value))
            self.refused(self.house.door(), request)
            self.assertIsInstance(self.house.door().answer(request, NotAllowed("no")), NotAllowed)  # type: ignore[arg-type]
        two = AtTheDoor("GET", MANIFEST)
        two.requestHeaders.setRawHeaders(b"Authorization", [b"Basic YTpi", b"Basic YTpi"])
        self.refused(self.house.door(), two)

    def test_latin(self) -> None:
        """A password that is no UTF-8 is read as old clients write it."""
        request = AtTheDoor("GET", MANIFEST)
        request.requestHeaders.setRawHeaders(b"Authorization", [b"Basic YTr/"])
        self.assertEqual(logins.authorization(request), Basic("a", "\xff"))  # type: ignore[arg-type]

    def test_tokens(self) -> None:
        """A token opens what it is for, for its user; more needs another one; a rule's no stays a no."""
        door = self.house.door(Rule("alice", "team/*", [Action.PULL]), Rule("bob", "*", [Action.DELETE]))
        mine = self.token(door, {("team/app", Action.PULL), ("team/app", Action.PUSH)}, "alice")
        rights = self.admit(door, AtTheDoor("GET", MANIFEST, mine))
        self.assertEqual((rights.user, rights.scopes), ("alice", {("team/app", Action.PULL)}))
        rights.require(Action.PULL, "team/app")
        self.assertRaises(NotAllowed, rights.require, Action.PULL, "team/other")
        error = self.told(door, AtTheDoor("GET", "/v2/team/other/manifests/1", mine))
        assert isinstance(error, Unauthorized)
        self.assertIn('scope="repository:team/other:pull",error="insufficient_scope"', error.challenge)
        self.assertIsInstance(self.told(door, AtTheDoor("GET", MANIFEST, mine)), NotAllowed)
        self.assertNotIsInstance(self.told(door, AtTheDoor("GET", MANIFEST, mine)), Unauthorized)

    def test_no_token_would_help(self) -> None:
        """Who may push nowhere is told so, and not to fetch a token for it that would lack it again."""
        door = self.house.door(Rule("bob", "*", [Action.PULL]))
        his = self.token(door, {("team/app", Action.PULL), ("team/app", Action.PUSH)}, "bob")
        for method, path in (("POST", UPLOADS), ("PUT", MANIFEST), ("DELETE", MANIFEST)):
            error = self.told(door, AtTheDoor(method, path, his))
            self.assertIsInstance(error, NotAllowed)
            self.assertNotIsInstance(error, Unauthorized)

    def test_anonymous_token(self) -> None:
        """An anonymous one is for pulling, whatever it was asked for; for more it sends on to a login."""
        door = self.house.door()
        mine = self.token(door, {("team/app", action) for action in Action})
        self.assertEqual(self.admit(door, AtTheDoor("GET", "/v2/", mine)).scopes, {("team/app", Action.PULL)})
        error = self.told(door, AtTheDoor("POST", UPLOADS, mine))
        assert isinstance(error, Unauthorized)
        self.assertIn("insufficient_scope", error.challenge)
        self.assertIn(
            "invalid_token",
            self.refused(self.house.door(anonymous_pull=False), AtTheDoor("GET", MANIFEST, mine)).challenge,
        )

    def test_bad_tokens(self) -> None:
        """A token that ended, or is none, or whose user is gone, is 401 that says so."""
        door = self.house.door()
        mine = self.token(door, set(), "alice")
        self.admit(door, AtTheDoor("GET", "/v2/", mine))
        self.refused(door, AtTheDoor("GET", "/v2/", ("Authorization", "Bearer x.y.z")))
        gone = self.house.door(file=False)
        for at, after in ((gone, 0), (door, 300)):
            self.house.now += after
            request = AtTheDoor("GET", MANIFEST, mine)
            error = self.refused(at, request)
            self.assertIn('scope="repository:team/app:pull",error="invalid_token"', error.challenge)
            self.assertIsInstance(at.answer(request, NotAllowed("no")), NotAllowed)  # type: ignore[arg-type]

    def test_user_removed(self) -> None:
        """A user that was removed from the file is gone with its tokens, though nobody logs in meanwhile."""
        door = self.house.door()
        mine = self.token(door, set(), "alice")
        request = AtTheDoor("GET", MANIFEST, mine)
        self.assertIsNotNone(door.at_once(request))  # type: ignore[arg-type]
        write_users(self.house.users, "bob", "carol")
        self.clock.advance(2)
        self.assertIsNone(door.at_once(request))  # type: ignore[arg-type]
        self.refused(door, request)
        self.assertIsNone(door.at_once(request))  # type: ignore[arg-type]

    def test_static_bearer(self) -> None:
        """A token of the configuration is a bearer token too, for all that its user may."""
        door = self.house.door()
        rights = self.admit(door, AtTheDoor("PUT", MANIFEST, ("Authorization", f"bearer {TOKEN}")))
        self.assertEqual((rights.user, rights.scopes), ("ci", None))

    def test_denied_stays(self) -> None:
        """Who logged in by password and may not is denied, not asked again; other errors pass."""
        request = AtTheDoor("PUT", MANIFEST, ("Authorization", basic("alice", PASSWORD)))
        error = NotAllowed("no")
        self.assertIs(self.told(self.house.door(), request, error), error)
        unknown = Unknown("no")
        self.assertIs(self.told(self.house.door(), AtTheDoor("GET", MANIFEST), unknown), unknown)


class RightsTests(SynchronousTestCase):
    """What private images ask."""

    def test_private(self) -> None:
        """Who has logged in and may pull may read what is private upstream; who may not pull may not."""
        self.assertTrue(Rights("alice", frozenset({Action.PULL})).private)
        self.assertFalse(Rights("alice", frozenset()).private)
        self.assertFalse(Rights(None, frozenset(Action)).private)
