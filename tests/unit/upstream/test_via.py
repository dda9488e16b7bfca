"""Via: our own pseudonyms and nothing else."""

from __future__ import annotations

import contextvars

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.upstream import via

ONE, TWO = "nora-" + "1" * 16, "nora-" + "2" * 16


class ViaTests(SynchronousTestCase):
    """What is read and written."""

    def test_reads_ours_alone(self) -> None:
        """Other servers' names, comments and malformed elements are left out; the order stays."""
        text = f"1.1 varnish, 1.1 {ONE}, nonsense,, HTTP/1.1 {TWO} (nora), 1.1 nora-x, 1.0 {ONE}x"
        self.assertEqual(via.pseudonyms(text), (ONE, TWO))
        self.assertEqual(via.pseudonyms(None), ())

    def test_writes_the_way(self) -> None:
        """The names of the request that is worked for come first, then our own."""

        def work() -> str:
            via.forwarded.set((ONE,))
            return via.header(TWO)

        self.assertEqual(contextvars.copy_context().run(work), f"1.1 {ONE}, 1.1 {TWO}")
        self.assertEqual(via.header(TWO), f"1.1 {TWO}")

    def test_names_itself(self) -> None:
        """A pseudonym that is made up is one that is read."""
        name = via.make_pseudonym()
        self.assertEqual(via.pseudonyms(f"1.1 {name}"), (name,))

    @given(st.text(max_size=6000))
    def test_anything(self, text: str) -> None:
        """Nothing that a client sends is an error, or passed on as it is."""
        for name in via.pseudonyms(text):
            self.assertRegex(name, r"\Anora-[0-9a-f]{16}\Z")
