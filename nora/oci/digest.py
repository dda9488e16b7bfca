"""Digests: what content is called.

Grammar and algorithms are those of the image-spec ("descriptor.md", section Digests): `algorithm:encoded`,
with lower-case hexadecimal of exactly the algorithm's length. Only the two registered algorithms are known;
anything else is refused, because it cannot be verified.
"""

from __future__ import annotations

import hashlib
import re
from typing import Protocol

import attrs

from nora.oci.errors import InvalidDigest

_LENGTHS = {"sha256": 64, "sha512": 128}
ALGORITHMS = tuple(_LENGTHS)
_HEX = re.compile(r"[0-9a-f]+\Z")


class Hasher(Protocol):
    """The part of a `hashlib` object that is used."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take in more bytes."""

    def hexdigest(self) -> str:
        """Tell the digest of all bytes so far, in hexadecimal."""


@attrs.frozen(order=True)
class Digest:
    """The name of a byte string: `algorithm` (`sha256`, `sha512`) and `hex`, lower-case."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read `algorithm:hex`; raises `InvalidDigest`."""
        algorithm, colon, encoded = text.partition(":")
        length = _LENGTHS.get(algorithm)
        if not colon or length is None or len(encoded) != length or not _HEX.match(encoded):
            raise InvalidDigest("a digest is sha256: or sha512: and lower-case hexadecimal of that length")
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """Tell the digest of `data`."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    def hasher(self) -> Hasher:
        """Start a hash of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def matches(self, hasher: Hasher) -> bool:
        """Tell whether what `hasher` took in is the content of this name."""
        return hasher.hexdigest() == self.hex

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"
