"""Rights as values."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nora.access import ANONYMOUS, Action, Rights
from nora.access.rules import Rule, RuleSet
from nora.oci.errors import Denied


class RightsTests(SynchronousTestCase):
    """What a client may do."""

    def test_anonymous_pulls(self) -> None:
        """An anonymous client may pull."""
        ANONYMOUS.require(Action.PULL, "library/nginx")

    def test_denied(self) -> None:
        """Who has not the action is denied, with the repository's name and the action's."""
        error = self.assertRaises(Denied, Rights("me", frozenset()).require, Action.PULL, "library/nginx")
        self.assertEqual(str(error), "pull is not allowed on library/nginx")

    def test_grants(self) -> None:
        """An action is granted by the rights, and where a token narrows them down by that, name by name."""
        self.assertTrue(Rights("me", frozenset(Action)).grants(Action.DELETE, "team/app"))
        self.assertFalse(Rights("me", frozenset({Action.PULL})).grants(Action.DELETE, "team/app"))
        narrow = Rights("me", frozenset(Action), scopes=frozenset({("team/app", Action.DELETE)}))
        self.assertTrue(narrow.grants(Action.DELETE, "team/app"))
        self.assertFalse(narrow.grants(Action.DELETE, "team/other"))

    def test_oversees(self) -> None:
        """Who administers all repositories oversees, whatever narrower rules come first; nobody does without a rule."""
        everything = Rule("alice", "*", [Action.ADMIN])
        for sees, *rules in (
            (True, everything),
            (True, Rule("alice", "secret/*", []), everything),
            (False, Rule("alice", "team/*", [Action.ADMIN])),
            (False, Rule("*", "*", [Action.PULL]), everything),
            (False, Rule("bob", "*", [Action.ADMIN])),
            (False, Rule("alice", "*", [Action.DELETE, Action.PUSH])),
            (False, Rule("alice", "docker.io/*", [Action.ADMIN]), Rule("alice", "*/*", [Action.ADMIN])),
            (False,),
        ):
            rights = Rights("alice", RuleSet(rules).most("alice"), RuleSet(rules))
            self.assertEqual(rights.oversees, sees, rules)
        self.assertTrue(Rights(None, frozenset(Action)).oversees)
        self.assertFalse(ANONYMOUS.oversees)
        self.assertFalse(Rights("alice", frozenset(Action), scopes=frozenset()).oversees)
