"""What `twistd nora` does around building the service."""

from __future__ import annotations

import gc

from twisted.trial.unittest import SynchronousTestCase

from nora.tap import kept


class KeptTests(SynchronousTestCase):
    """Garbage is looked for in what comes after a start alone."""

    def test_what_is_there_is_left_alone(self) -> None:
        """What was made is no more looked at, what is made later is."""
        self.addCleanup(gc.unfreeze)
        with kept():
            made: list[object] = [[]]
        later: list[object] = [[]]
        looked_at = {id(each) for each in gc.get_objects()}
        self.assertEqual((id(made) in looked_at, id(later) in looked_at), (False, True))
        self.assertTrue(gc.isenabled())

    def test_failure(self) -> None:
        """What a failed start leaves behind is garbage as any other."""

        @kept()
        def fail() -> None:
            raise ValueError

        before = gc.get_freeze_count()
        self.assertRaises(ValueError, fail)
        self.assertEqual(gc.get_freeze_count(), before)
