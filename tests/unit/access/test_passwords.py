"""Passwords: checked in threads, remembered for a while."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.access import passwords
from nora.access.htpasswd import BadHtpasswd
from nora.access.passwords import LIFETIME, File, Passwords, StaticToken
from nora.oci.errors import Overloaded

TOKEN = "a-token-of-many-letters"


def hashed(password: str, cost: int = 4) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


class Threads:
    """Threads that work at once, or when they are told to; they keep what they were asked."""

    def __init__(self) -> None:
        self.works: list[tuple[Any, ...]] = []
        self.waiting: list[Callable[[], object]] = []
        self.held = False

    def run(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Do the work."""
        self.works.append((work, *arguments))
        if not self.held:
            return execute(work, *arguments)
        done: Deferred[Any] = Deferred()
        self.waiting.append(lambda: execute(work, *arguments).chainDeferred(done))
        return done


class PasswordsTests(SynchronousTestCase):
    """`Passwords` and `File`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.threads = Threads()
        self.path = Path(self.mktemp())
        self.path.write_text(f"alice:{hashed('right')}\nlong:{hashed('x' * 72)}\n")
        self.file = File(str(self.path), self.threads, self.clock.seconds)
        self.passwords = self.make()

    def make(self, file: bool = True) -> Passwords:
        return Passwords(
            self.file if file else None,
            [StaticToken("ci", TOKEN), StaticToken("alice", "alices-own-long-token")],
            self.threads,
            self.clock.seconds,
            b"key",
        )

    def check(self, user: str, password: str) -> bool:
        return self.successResultOf(Deferred.fromCoroutine(self.passwords.check(user, password)))

    def test_right_and_wrong(self) -> None:
        """The right password is right, and nothing else is, for a user that is there or not."""
        self.assertTrue(self.check("alice", "right"))
        for user, password in (("alice", "wrong"), ("alice", ""), ("nobody", "right"), ("alice", "r\0")):
            self.assertFalse(self.check(user, password), (user, password))
        self.assertFalse(self.check("alice", "x" * 5000))
        self.assertTrue(self.check("long", "x" * 100))

    def test_unknown_users_cost_the_same(self) -> None:
        """Who is not there is checked against a hash too, of the same cost."""
        self.check("alice", "wrong")
        self.check("nobody", "wrong")
        (_, _, one), (_, _, other) = self.threads.works
        self.assertEqual(one[3:7], other[3:7])

    def test_remembered(self) -> None:
        """A success is known for a minute without a thread; a failure never is."""
        self.assertFalse(self.passwords.remembers("alice", "right"))
        self.check("alice", "right")
        self.check("alice", "wrong")
        self.assertTrue(self.passwords.remembers("alice", "right"))
        self.assertFalse(self.passwords.remembers("alice", "wrong"))
        self.assertFalse(self.passwords.remembers("alic", "eright"))
        self.clock.advance(LIFETIME)
        self.assertFalse(self.passwords.remembers("alice", "right"))

    def test_remembering_is_bounded(self) -> None:
        """Not more than so many are remembered."""
        self.patch(passwords, "_MAX_REMEMBERED", 1)
        self.check("alice", "right")
        self.check("ci", TOKEN)
        self.assertFalse(self.passwords.remembers("alice", "right"))
        self.assertTrue(self.passwords.remembers("ci", TOKEN))

    def test_tokens(self) -> None:
        """A token is its user's password, and nobody else's; no thread is asked. As a bearer it tells the user."""
        self.assertTrue(self.check("ci", TOKEN))
        self.assertEqual(self.threads.works, [])
        self.assertFalse(self.check("alice", TOKEN))
        self.assertTrue(self.check("alice", "alices-own-long-token"))
        self.assertEqual(self.passwords.bearer(TOKEN), "ci")
        self.assertIsNone(self.passwords.bearer("right"))
        self.passwords = self.make(file=False)
        self.assertFalse(self.check("nobody", "x"))
        self.assertEqual([self.passwords.knows(user) for user in ("ci", "long")], [True, False])

    def test_no_secret_is_shown(self) -> None:
        """Neither a token nor a password stands in a repr."""
        self.assertNotIn(TOKEN, repr(StaticToken("ci", TOKEN)))

    def test_shared(self) -> None:
        """The same login at once is checked once, and who leaves takes nobody along."""
        self.threads.held = True
        waits = [Deferred.fromCoroutine(self.passwords.check("alice", "right")) for _ in range(3)]
        self.assertEqual(len(self.threads.waiting), 1)
        waits[0].addErrback(lambda _: None).cancel()
        self.threads.waiting[0]()
        self.assertEqual([self.successResultOf(each) for each in waits[1:]], [True, True])

    def test_bounded(self) -> None:
        """When too many wait, one more is told to come back."""
        self.patch(passwords, "MAX_WAITING", 2)
        self.threads.held = True
        for number in range(2):
            Deferred.fromCoroutine(self.passwords.check("alice", str(number)))
        one_more = Deferred.fromCoroutine(self.passwords.check("alice", "2"))
        self.failureResultOf(one_more, Overloaded)

    def test_renewed(self) -> None:
        """A new file counts, and nothing of the old one is remembered; it is looked at once a second at the most."""
        self.check("alice", "right")
        self.path.write_text(f"alice:{hashed('other')}\nbob:{hashed('b')}\n")
        self.renew()
        self.assertTrue(self.passwords.remembers("alice", "right"))
        self.clock.advance(1)
        self.renew()
        self.assertFalse(self.passwords.remembers("alice", "right"))
        self.assertFalse(self.check("alice", "right"))
        self.assertTrue(self.check("bob", "b"))
        self.assertTrue(self.passwords.knows("bob"))

    def test_renewed_meanwhile(self) -> None:
        """A password that was checked against the old file is not remembered."""
        self.threads.held = True
        checking = Deferred.fromCoroutine(self.passwords.check("alice", "right"))
        self.threads.held = False
        self.path.write_text(f"alice:{hashed('another')}\n")
        self.clock.advance(1)
        self.renew()
        self.threads.waiting[0]()
        self.assertTrue(self.successResultOf(checking))
        self.assertFalse(self.passwords.remembers("alice", "right"))

    def test_broken(self) -> None:
        """A broken new file changes nothing and is told once; one that is broken at the start is an error."""
        self.path.write_text("alice:plain\n")
        for _ in range(2):
            self.clock.advance(1)
            self.renew()
        self.assertEqual(len(self.threads.works), 1)
        self.assertTrue(self.check("alice", "right"))
        self.assertRaises(BadHtpasswd, File, str(self.path), self.threads, self.clock.seconds)

    def test_one_reads(self) -> None:
        """While one reads the new file the others go on with the old users."""
        self.path.write_text(f"bob:{hashed('b')}\n")
        self.clock.advance(1)
        self.threads.held = True
        reading = Deferred.fromCoroutine(self.passwords.renew())
        self.clock.advance(1)
        self.renew()
        self.assertTrue(self.passwords.knows("long"))
        self.threads.waiting[0]()
        self.successResultOf(reading)
        self.assertFalse(self.passwords.knows("long"))

    def renew(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.passwords.renew()))
