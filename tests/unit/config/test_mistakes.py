"""Lines about mistakes: one each, bounded, printable, without secrets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.config import ConfigError, Mistake
from nora.config.mistakes import MAX_LINES, nearest, show


class MistakeTests(SynchronousTestCase):
    """`Mistake`, `show`, `nearest` and `ConfigError`."""

    def test_line(self) -> None:
        """A line has place, value and reason, the value where it helps."""
        self.assertEqual(str(Mistake("a.b", "must be c", show(-5))), "a.b: -5: must be c")
        self.assertEqual(str(Mistake("a", "unknown")), "a: unknown")

    def test_values(self) -> None:
        """Values show as TOML writes them, big ones by what they are."""
        for value, shown in (
            ("x", '"x"'),
            (True, "true"),
            (False, "false"),
            (1.5, "1.5"),
            ([1], "a list"),
            ({}, "a table"),
            (10**5000, "a number of more than 30 digits"),
            ("x" * 100, f'"{"x" * 80}..."'),
        ):
            self.assertEqual(show(value), shown)

    def test_secrets_in_urls(self) -> None:
        """What can hold a secret in a URL is not shown, even in one that is badly formed."""
        for text, shown in {
            "https://u:p@h/": '"https://***@h/"',
            "https://u:p/w@h": '"https://***@h"',
            "https://u:p@w@h": '"https://***@h"',
            "u:p@h": '"***@h"',
            "u:p/q@h": '"***@h"',
            "https://h/?t=p": '"https://h/?***"',
            "https://h/#p": '"https://h/#***"',
            "https://u:p?q@h/": '"https://***@h/"',
            "https://u:" + "p" * 100 + "@h": '"https://***@h"',
        }.items():
            self.assertEqual(show(text), shown)

    @given(st.text(st.characters()), st.text(st.characters()), st.text(st.characters()))
    def test_one_printable_line(self, place: str, reason: str, value: str) -> None:
        """No character of a name or value can begin a new line or drive a terminal."""
        line = str(Mistake(place, reason, show(value)))
        self.assertTrue(line.isprintable())
        self.assertLessEqual(len(line), 1000)

    def test_control_characters_are_escaped(self) -> None:
        """They are still there to be seen."""
        self.assertEqual(str(Mistake("a", "b", show("x\n\x1b[1m"))), 'a: "x\\n\\x1b[1m": b')

    def test_many(self) -> None:
        """Past a bound only the number of mistakes is told."""
        error = ConfigError([Mistake(str(number), "wrong") for number in range(MAX_LINES + 5)])
        self.assertEqual(len(error.lines), MAX_LINES + 1)
        self.assertEqual(error.lines[-1], "and 5 more")
        self.assertEqual(len(error.mistakes), MAX_LINES + 5)

    def test_nearest(self) -> None:
        """A word far from all is near to none."""
        self.assertEqual(nearest("proxy_timout", ["proxy_timeout", "port"]), "proxy_timeout")
        self.assertIsNone(nearest("xyzzy", ["proxy_timeout", "port"]))
