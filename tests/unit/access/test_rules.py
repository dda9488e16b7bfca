"""The operator's rules."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.access import Action
from nora.access.rules import Rule, RuleSet

USERS = st.one_of(st.none(), st.sampled_from(["alice", "bob"]))
NAMES = st.text("ab/", max_size=8)
PATTERNS = st.text("ab/*", min_size=1, max_size=8)
RULES = st.lists(
    st.builds(
        Rule,
        st.sampled_from(["alice", "bob", "*", "anonymous", "everyone"]),
        PATTERNS,
        st.lists(st.sampled_from(Action), max_size=3),
    ),
    max_size=5,
)


class RuleTests(SynchronousTestCase):
    """One rule."""

    @given(PATTERNS, NAMES)
    def test_patterns(self, pattern: str, name: str) -> None:
        """A star stands for any characters, slashes too, as a regular expression would say it."""
        expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None
        self.assertEqual(Rule("*", pattern, []).matches(name), expected)

    def test_hostile_pattern(self) -> None:
        """Many stars cost no more than few."""
        rule = Rule("*", "a*" * 200 + "b", [])
        self.assertFalse(rule.matches("a" * 600))

    def test_whom(self) -> None:
        """A name is one user; the star is who has logged in, `anonymous` who has not, `everyone` both."""
        for user, concerned in (
            ("alice", {"alice"}),
            ("*", {"alice", "bob"}),
            ("anonymous", {None}),
            ("everyone", {None, "alice", "bob"}),
        ):
            rule = Rule(user, "*", [])
            found = {each for each in (None, "alice", "bob") if rule.concerns(each)}
            self.assertEqual(found, concerned, user)

    def test_words_are_no_users(self) -> None:
        """Who is called like one of the words is not meant by it as a name."""
        self.assertFalse(Rule("anonymous", "*", []).concerns("anonymous"))

    def test_implied(self) -> None:
        """Pushing and deleting need pulling; an administrator may do all."""
        self.assertEqual(Rule("*", "*", [Action.PUSH]).actions, {Action.PUSH, Action.PULL})
        self.assertEqual(Rule("*", "*", [Action.DELETE]).actions, {Action.DELETE, Action.PULL})
        self.assertEqual(Rule("*", "*", [Action.ADMIN]).actions, set(Action))
        self.assertEqual(Rule("*", "*", []).actions, frozenset())


class RuleSetTests(SynchronousTestCase):
    """All rules together."""

    def test_none(self) -> None:
        """Without rules everybody pulls, who has logged in pushes and deletes, and nobody administers."""
        rules = RuleSet()
        self.assertEqual(rules.most(None), {Action.PULL})
        self.assertEqual(rules.most("alice"), {Action.PULL, Action.PUSH, Action.DELETE})
        self.assertTrue(rules.allow("alice", Action.PUSH, "x"))
        self.assertFalse(rules.allow("alice", Action.ADMIN, "x"))
        self.assertFalse(rules.allow(None, Action.PUSH, "x"))

    def test_first_match_decides(self) -> None:
        """A later rule neither widens nor narrows what an earlier one said, and no rule is a no."""
        rules = RuleSet(
            [
                Rule("alice", "team/secret/*", []),
                Rule("alice", "team/*", [Action.PUSH]),
                Rule("everyone", "docker.io/*", [Action.PULL]),
            ]
        )
        self.assertFalse(rules.allow("alice", Action.PULL, "team/secret/a"))
        self.assertTrue(rules.allow("alice", Action.PUSH, "team/a"))
        self.assertFalse(rules.allow("alice", Action.DELETE, "team/a"))
        self.assertFalse(rules.allow("bob", Action.PULL, "team/a"))
        self.assertTrue(rules.allow("bob", Action.PULL, "docker.io/library/nginx"))
        self.assertTrue(rules.allow(None, Action.PULL, "docker.io/library/nginx"))
        self.assertFalse(rules.allow(None, Action.PUSH, "docker.io/library/nginx"))

    @given(RULES, USERS, st.sampled_from(Action), NAMES)
    def test_most_is_the_most(self, rules: list[Rule], user: str | None, action: Action, name: str) -> None:
        """What is allowed anywhere is in `most`, and the first rule that fits is the one that says so."""
        made = RuleSet(rules)
        if made.allow(user, action, name):
            self.assertIn(action, made.most(user))
        fits = [rule for rule in rules if rule.concerns(user) and rule.matches(name)]
        if rules:
            self.assertEqual(made.allow(user, action, name), bool(fits) and action in fits[0].actions)

    @given(RULES, USERS, st.sampled_from(Action), NAMES)
    def test_beginnings(self, rules: list[Rule], user: str | None, action: Action, name: str) -> None:
        """Whatever is allowed begins with one of the beginnings, which are in order and not within one another."""
        made = RuleSet(rules)
        found = made.beginnings(user, action)
        if made.allow(user, action, name):
            self.assertTrue(name.startswith(found))
        self.assertEqual(list(found), sorted(found))
        self.assertFalse(
            [one for one in found for other in found if one is not other and one.startswith(other)]
        )
