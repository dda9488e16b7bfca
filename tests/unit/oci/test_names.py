"""The grammar of names, tags and digests."""

from __future__ import annotations

import hashlib
import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Digest, Tag, check_name, parse_reference
from nora.oci.errors import InvalidDigest, InvalidName, InvalidTag
from nora.oci.reference import NAME_PATTERN

names = st.from_regex(re.compile(NAME_PATTERN + r"\Z"), fullmatch=True).filter(lambda name: len(name) <= 255)


class NameTests(SynchronousTestCase):
    """What is a repository name."""

    def test_known(self) -> None:
        """Names of the specification's grammar pass, and nothing else does."""
        for name in ("a", "library/nginx", "a/b/c", "a.b_c__d-e---f/0", "a" * 255):
            self.assertEqual(check_name(name), name)
        for name in (
            "",
            "A",
            "a//b",
            "/a",
            "a/",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a/../b",
            ".",
            "a" * 256,
            "a\n",
            "é",
        ):
            self.assertRaises(InvalidName, check_name, name)

    @given(names)
    def test_never_a_path(self, name: str) -> None:
        """No name has a part that means something to a file system, or begins as our own folders do."""
        for part in check_name(name).split("/"):
            self.assertNotIn(part, ("", ".", ".."))
            self.assertFalse(part.startswith(("_", ".")))

    @given(st.text(alphabet="aA0._-/\n\0", max_size=12))
    def test_anything(self, text: str) -> None:
        """A text is refused exactly when the grammar does not have it."""
        valid = re.fullmatch(NAME_PATTERN, text) is not None
        if valid:
            self.assertEqual(check_name(text), text)
        else:
            self.assertRaises(InvalidName, check_name, text)


class ReferenceTests(SynchronousTestCase):
    """What is a tag or a digest."""

    def test_tags(self) -> None:
        """Tags have 1 to 128 characters and begin with a letter, digit or underscore."""
        for tag in ("latest", "1.0-rc_1", "_", "a" * 128):
            self.assertEqual(parse_reference(tag), Tag(tag))
        for tag in ("", ".a", "-a", "a" * 129, "a b", "a/b", "a\n", "ä"):
            self.assertRaises(InvalidTag, parse_reference, tag)

    def test_digests(self) -> None:
        """A digest has a known algorithm, and lower-case hexadecimal of its length."""
        for algorithm in ("sha256", "sha512"):
            text = f"{algorithm}:{hashlib.new(algorithm, b'x').hexdigest()}"
            self.assertEqual(str(parse_reference(text)), text)
        good = "a" * 64
        for text in ("sha256:", f"sha256:{good}a", f"sha256:{good[1:]}", f"sha256:{good.upper()}", f"md5:{good[:32]}",
                     f"sha512:{good}", f":{good}", f"sha256:{good}\n", f"SHA256:{good}"):  # fmt: skip
            self.assertRaises(InvalidDigest, parse_reference, text)

    @given(st.binary(), st.sampled_from(["sha256", "sha512"]))
    def test_digest_of_bytes(self, data: bytes, algorithm: str) -> None:
        """A digest made of bytes matches a hash of those bytes, and of no others."""
        digest = Digest.of(data, algorithm)
        hasher = digest.hasher()
        hasher.update(data)
        self.assertTrue(digest.matches(hasher))
        hasher.update(b"more")
        self.assertFalse(digest.matches(hasher))
        self.assertEqual(Digest.parse(str(digest)), digest)
