"""Tokens and their scopes."""

from __future__ import annotations

from typing import Any

import jwt
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.access import Action, scopes, tokens
from nora.access.tokens import BadToken, Tokens
from nora.oci.errors import InvalidRequest

KEY = b"k" * 32
SCOPES = frozenset({("team/app", Action.PULL), ("team/app", Action.PUSH), ("other", Action.PULL)})


class TokensTests(SynchronousTestCase):
    """`Tokens`."""

    def setUp(self) -> None:
        self.now = 1_000_000.5
        self.numbers = iter(range(1000))
        self.tokens = self.make()

    def make(self, key: bytes = KEY) -> Tokens:
        return Tokens(lambda: key, lambda: self.now, lambda: f"id-{next(self.numbers)}", 300)

    def forged(self, key: bytes = KEY, algorithm: str = "HS256", **changes: Any) -> str:
        claims = jwt.decode(
            self.tokens.issue("alice", "here", SCOPES).text, options={"verify_signature": False}
        )
        claims.update(changes)
        return jwt.encode(
            {name: value for name, value in claims.items() if value is not None}, key, algorithm
        )

    def test_claims(self) -> None:
        """A token has the claims of the Docker token specification."""
        issued = self.tokens.issue("alice", "nora:4000", SCOPES)
        claims = jwt.decode(issued.text, options={"verify_signature": False})
        self.assertEqual(
            claims,
            {
                "iss": "nora",
                "sub": "alice",
                "aud": "nora:4000",
                "exp": 1_000_300,
                "nbf": 1_000_000,
                "iat": 1_000_000,
                "jti": "id-0",
                "access": [
                    {"type": "repository", "name": "other", "actions": ["pull"]},
                    {"type": "repository", "name": "team/app", "actions": ["pull", "push"]},
                ],
            },
        )
        self.assertEqual((issued.lifetime, issued.since), (300, 1_000_000))
        self.assertNotIn(issued.text, repr(issued))

    def test_verified(self) -> None:
        """What was issued is read as it was, by another process with the same key too; anonymous is None."""
        text = self.tokens.issue("alice", "here", SCOPES).text
        for reader in (self.tokens, self.make()):
            grant = reader.verify(text, "here")
            self.assertEqual((grant.user, grant.scopes), ("alice", SCOPES))
            self.assertEqual(reader.verify(text, None), grant)
        self.assertIsNone(self.tokens.verify(self.tokens.issue(None, "here", frozenset()).text, "here").user)

    def test_expired(self) -> None:
        """A token ends with its time, remembered or not; one from the future has not begun."""
        text = self.tokens.issue("alice", "here", SCOPES).text
        self.tokens.verify(text, "here")
        self.now += 300
        for reader in (self.tokens, self.make()):
            self.assertRaises(BadToken, reader.verify, text, "here")
        self.now -= 400
        self.assertRaises(BadToken, self.make().verify, text, "here")

    def test_audience(self) -> None:
        """A token for another service is none, remembered or not."""
        text = self.tokens.issue("alice", "there", SCOPES).text
        for _ in range(2):
            self.assertRaises(BadToken, self.tokens.verify, text, "here")

    def test_forged(self) -> None:
        """Another key, another algorithm, none at all, another issuer, a claim that lacks or lies: all refused."""
        self.assertEqual(self.tokens.verify(self.forged(), "here").user, "alice")
        for text in (
            self.forged(b"x" * 32),
            self.forged(KEY * 2, "HS512"),
            jwt.encode({"sub": "alice"}, "", "none"),
            self.forged(iss="another"),
            self.forged(exp=None),
            self.forged(sub=None),
            self.forged(sub=["alice"]),
            self.forged(aud=["here"]),
            self.forged(access=None),
            self.forged(access=[{"name": "x"}]),
            self.forged(access=[{"name": "x", "actions": ["fly"]}]),
            self.forged(access=[{"name": ["x"], "actions": ["pull"]}]),
            self.forged(nbf="soon"),
            self.forged(exp="later"),
            "a.b.c",
            "é",
            "",
            "x" * 20_000,
        ):
            self.assertRaises(BadToken, self.tokens.verify, text, "here")

    @given(st.text())
    def test_anything(self, text: str) -> None:
        """Any text is a token of ours or `BadToken`."""
        self.assertRaises(BadToken, Tokens(lambda: KEY, lambda: 0.0, lambda: "", 60).verify, text, None)

    def test_bounded(self) -> None:
        """Not more than so many are remembered."""
        self.patch(tokens, "_MAX_REMEMBERED", 2)
        for _ in range(5):
            self.tokens.verify(self.tokens.issue("alice", "here", SCOPES).text, "here")
        self.assertEqual(len(self.tokens._remembered), 2)


class ScopesTests(SynchronousTestCase):
    """What a token is asked for."""

    def test_parsed(self) -> None:
        """Several scopes in one text or many; a star is every action; what is unknown counts for nothing."""
        self.assertEqual(
            scopes.parse(["repository:team/app:pull,push repository:other:pull", "registry:catalog:*"]),
            SCOPES,
        )
        self.assertEqual(scopes.parse(["repository:x:*"]), {("x", action) for action in Action})
        self.assertEqual(scopes.parse(["repository(plugin):x:pull"]), {("x", Action.PULL)})
        self.assertEqual(scopes.parse(["repository:x:fly,", "", "aws"]), frozenset())
        self.assertEqual(scopes.write(SCOPES), "repository:other:pull repository:team/app:pull,push")

    def test_refused(self) -> None:
        """A name that is none, and more than a token can hold, are the client's mistake."""
        many = [f"repository:r{number}:pull" for number in range(scopes.MAX_NAMES + 1)]
        for asked in (["repository:../x:pull"], ["repository:x"], many, ["x" * 9000]):
            self.assertRaises(InvalidRequest, scopes.parse, asked)

    @given(
        st.lists(
            st.tuples(st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3})?", fullmatch=True), st.sampled_from(Action))
        )
    )
    def test_round_trip(self, pairs: list[tuple[str, Action]]) -> None:
        """What is written reads as what was written."""
        wanted = frozenset(pairs[: scopes.MAX_NAMES])
        self.assertEqual(scopes.parse([scopes.write(wanted)]), wanted)

    @given(st.text(alphabet="repository:,* x/()\0é"))
    def test_anything(self, text: str) -> None:
        """Any text is scopes or the client's mistake."""
        try:
            found = scopes.parse([text])
        except InvalidRequest:
            return
        self.assertTrue(all(isinstance(action, Action) for _, action in found))
