"""Rights as values."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nora.access import ANONYMOUS, Action, Rights
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
