"""Kinds of values: what each one takes, refuses and writes."""

from __future__ import annotations

import math
import os
from datetime import date

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.config import Secret, kinds, texts
from nora.config.kinds import Kind, Refused

EVERY_KIND: list[Kind] = [
    kinds.seconds(0.1, 60),
    kinds.count(0, 10),
    kinds.Lifetime(),
    kinds.Size(),
    kinds.Flag(),
    kinds.Choice(("a", "b")),
    texts.Path(),
    texts.Host(),
    texts.HostName(),
    texts.Network(),
    texts.Namespace(),
    texts.Origin(),
    texts.Label(),
    texts.Prefix(),
    texts.Pattern(),
    texts.SecretText(),
    kinds.Maybe(texts.Prefix()),
    kinds.Several(texts.HostName()),
]
SCALARS = st.one_of(
    st.text(max_size=20),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.dates(),
    st.none(),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from(
        ["", "local", "never", "1GiB", "1.5", "true", "docker.io", "https://a:5000", "team/*", "hub"]
    ),
)


class KindTests(SynchronousTestCase):
    """Each kind alone."""

    def assert_refused(self, kind: Kind, value: object) -> Refused:
        """Expect `value` to be refused, as TOML has it and, if it is a text, as a variable has it."""
        with self.assertRaises(Refused, msg=repr(value)) as caught:
            kind.read(value)
        if isinstance(value, str):
            with self.assertRaises(Refused, msg=repr(value)):
                kind.parse(value)
        refused: Refused = caught.exception
        return refused

    def test_number(self) -> None:
        """A number keeps to its range; booleans, infinities and NaN are none."""
        kind = kinds.seconds(0.5, 60)
        self.assertEqual(
            [kind.read(0.5), kind.read(60), kind.parse("2"), kind.parse("1.25")], [0.5, 60, 2, 1.25]
        )
        for value in (0.4, 61, True, math.inf, math.nan, "1", None, [1], date.today()):
            with self.assertRaises(Refused):
                kind.read(value)
        for text in ("", "-1", "1e1", "1_0", " 1", "0x1", "inf", "nan", "\u0661", "1\n", "9" * 5000):
            with self.assertRaises(Refused, msg=text):
                kind.parse(text)
        self.assertEqual(kind.allows, "a number of seconds from 0.5 to 60")

    def test_whole_number(self) -> None:
        """A whole number has no fraction, not even .0."""
        kind = kinds.count(0, 65535)
        self.assertEqual([kind.read(0), kind.parse("65535")], [0, 65535])
        self.assert_refused(kind, 1.0)
        self.assert_refused(kind, 65536)
        with self.assertRaises(Refused):
            kind.parse("1.0")
        self.assertEqual(kind.allows, "a whole number from 0 to 65535")

    def test_lifetime(self) -> None:
        """A lifetime is seconds, none at all included, or never."""
        kind = kinds.Lifetime()
        self.assertEqual([kind.read("never"), kind.parse("never"), kind.read(0)], [math.inf, math.inf, 0])
        self.assertEqual([kind.parse("1.5"), kind.write(math.inf), kind.write(300)], [1.5, "never", 300])
        for value in (-1, math.inf, "Never", "", True, kinds.YEARS + 1):
            self.assertIn("never", str(self.assert_refused(kind, value)))

    def test_size(self) -> None:
        """A size is bytes, or a text with a binary unit; it is written in the largest unit that fits."""
        kind = kinds.Size()
        self.assertEqual([kind.read(1), kind.read("10"), kind.parse("2 KiB")], [1, 10, 2048])
        self.assertEqual(kind.read("100GiB"), 100 * 2**30)
        self.assertEqual(
            [kind.write(1536), kind.write(3 << 20), kind.write(1 << 50)], [1536, "3MiB", "1024TiB"]
        )
        for value in (
            0,
            -1,
            1.5,
            True,
            "",
            "1GB",
            "1.5GiB",
            "-1GiB",
            "1025TiB",
            "GiB",
            "1 0",
            "1kib",
            (1 << 50) + 1,
        ):
            self.assert_refused(kind, value)

    def test_flag(self) -> None:
        """A flag is a boolean, and in a variable TOML's word for it."""
        kind = kinds.Flag()
        self.assertIs(kind.read(True), True)
        self.assertEqual([kind.parse("true"), kind.parse("false")], [True, False])
        for value in (1, "yes", "True", "", None):
            self.assert_refused(kind, value)

    def test_choice(self) -> None:
        """A choice names its words."""
        kind = kinds.Choice(("allow", "deny"))
        self.assertEqual(kind.read("deny"), "deny")
        self.assertEqual(str(self.assert_refused(kind, "Deny")), 'must be "allow" or "deny"')

    def test_text_is_one_bounded_line(self) -> None:
        """Empty, long and unprintable texts are refused before a kind looks at them."""
        self.assertEqual(kinds.Text().read("a ü"), "a ü")
        for value in ("", "a" * 4097, "a\nb", "a\0", "\u202e", "\udc80", b"a"):
            self.assertIn("printable", str(self.assert_refused(kinds.Text(), value)))
            self.assert_refused(texts.Path(), value)

    def test_path(self) -> None:
        """A path becomes absolute."""
        self.assertEqual(texts.Path().read("a/../b"), os.path.join(os.getcwd(), "b"))

    def test_hosts(self) -> None:
        """Host, host name and origin give their one spelling."""
        self.assertEqual(texts.Host().read("::0"), "::")
        self.assertEqual(texts.HostName().read("A:443"), "a")
        self.assertEqual(texts.Origin().read("HTTP://A:80/"), "http://a")
        self.assertEqual(str(self.assert_refused(texts.Origin(), "https://a/b")), "must not have a path")
        self.assertEqual(
            str(self.assert_refused(texts.Host(), "a b")), "must be an IP address or a host name"
        )
        self.assertEqual(str(self.assert_refused(texts.HostName(), "a b")), "must be host or host:port")

    def test_network(self) -> None:
        """An address, a network without bits past its prefix, or the word; each in one spelling."""
        for text, spelled in (
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3"),
            ("2001:DB8:0::7", "2001:db8::7"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("unix", "unix"),
        ):
            self.assertEqual(texts.Network().read(text), spelled)
        for text in ("10.1.2.3/8", "10.0.0.0/33", "proxy.internal", "10.0.0", "UNIX", "10.0.0.1:80"):
            self.assertIn("such as 10.0.0.0/8", str(self.assert_refused(texts.Network(), text)))

    def test_namespace(self) -> None:
        """A namespace is canonical, fits a directory's name, and is not the reserved one."""
        self.assertEqual(texts.Namespace().read("Index.docker.io:443"), "docker.io")
        self.assertIn("must not be local", str(self.assert_refused(texts.Namespace(), "LOCAL")))
        longest = ".".join(["a" * 62] * 4) + ":5000"
        self.assertIn("255", str(self.assert_refused(texts.Namespace(), longest)))

    def test_label(self) -> None:
        """A label holds no blank, so that it is one word in logs and metrics."""
        self.assertEqual(texts.Label().read("Hub_1:[x]"), "Hub_1:[x]")
        for value in ("a b", "a/b", 'a"', "é", "a" * 261):
            self.assert_refused(texts.Label(), value)

    def test_prefix(self) -> None:
        """A prefix is one component of a repository name, other than the reserved namespace."""
        self.assertEqual(texts.Prefix().read("my-hub"), "my-hub")
        for value in ("Hub", "a/b", "a:1", "-a", "local", "a" * 256):
            self.assert_refused(texts.Prefix(), value)

    def test_pattern(self) -> None:
        """A pattern is a name with stars."""
        for value in ("team/*", "*", "a*b/c"):
            self.assertEqual(texts.Pattern().read(value), value)
        for value in ("/a", "a/", "a//b", "A", "a?", "[a]", "*" * 256):
            self.assert_refused(texts.Pattern(), value)

    def test_secret(self) -> None:
        """A secret shows itself nowhere, neither taken nor refused, and its mask is none."""
        kind = texts.SecretText()
        secret = kind.read("hunter2")
        self.assertEqual((secret.reveal(), kind.parse("hunter2")), ("hunter2", Secret("hunter2")))
        self.assertEqual([str(secret), repr(secret), f"{secret}", kind.write(secret)], ["***"] * 4)
        for value in ("***", "hunter2\n", 5):
            refused = self.assert_refused(kind, value)
            self.assertEqual(refused.value, "***")
            self.assertNotIn("hunter2", str(refused))

    def test_maybe(self) -> None:
        """The empty text stands for nothing."""
        kind = kinds.Maybe(texts.Prefix())
        self.assertEqual(
            [kind.read(""), kind.parse(""), kind.read("a"), kind.parse("a")], [None, None, "a", "a"]
        )
        self.assertEqual([kind.write(None), kind.write("a")], ["", "a"])
        self.assertTrue(kind.allows.endswith(", or empty"))
        self.assert_refused(kind, None)

    def test_several(self) -> None:
        """A list names the item that is wrong, and has each value once."""
        kind = kinds.Several(texts.HostName())
        self.assertEqual([kind.read([]), kind.parse(" "), kind.parse("a, b:1")], [(), (), ("a", "b:1")])
        self.assertEqual(kind.write(("a", "b")), ["a", "b"])
        refused = self.assert_refused(kind, ["a", 5])
        self.assertEqual((refused.item, refused.value), (2, 5))
        refused = self.assert_refused(kind, ["a", "A:443"])
        self.assertEqual((refused.item, str(refused)), (2, "must not be listed twice"))
        self.assert_refused(kind, ["a", ""])
        with self.assertRaises(Refused):
            kind.parse("a,,b")
        with self.assertRaises(Refused):
            kind.parse(",".join(f"h{n}" for n in range(257)))
        self.assert_refused(kind, [f"h{n}" for n in range(257)])
        self.assert_refused(kind, {"a": 1})

    def test_several_secrets(self) -> None:
        """A refused secret in a list stays hidden."""
        refused = self.assert_refused(kinds.Several(texts.SecretText()), ["hunter2\n"])
        self.assertEqual((refused.item, refused.value), (1, "***"))


class AnyValueTests(SynchronousTestCase):
    """All kinds, against anything."""

    @given(st.sampled_from(EVERY_KIND), st.one_of(SCALARS, st.lists(SCALARS, max_size=3)))
    def test_read(self, kind: Kind, value: object) -> None:
        """A value is refused, or written so that it reads as itself."""
        try:
            kept = kind.read(value)
        except Refused:
            return
        if not isinstance(kept, Secret):
            self.assertEqual(kind.read(kind.write(kept)), kept)

    @given(
        st.sampled_from(EVERY_KIND),
        st.one_of(st.text(max_size=40), st.from_regex(r"[0-9]{1,20}[.KMG]?[0-9iB]*")),
    )
    def test_parse(self, kind: Kind, text: str) -> None:
        """A text is refused, or written so that it reads as itself."""
        try:
            kept = kind.parse(text)
        except Refused:
            return
        if not isinstance(kept, Secret):
            self.assertEqual(kind.read(kind.write(kept)), kept)
