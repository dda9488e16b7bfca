"""URLs that go out as they are.

treq writes every URL anew: it encodes some characters of a query, which a signature may cover, and takes the host for
a domain name, which an IPv6 address is not. `nora.upstream.origin` has checked the URL by then, so nothing is gained.
"""

from __future__ import annotations

from hyperlink import EncodedURL


class VerbatimURL(EncodedURL):
    """A URL of printable ASCII, as treq takes it, whose text stays what it was."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._verbatim = text

    def to_uri(self) -> VerbatimURL:
        """Give itself: nothing is left to encode."""
        return self

    def to_text(self, with_password: bool = False) -> str:
        """Give the text."""
        return self._verbatim

    def __repr__(self) -> str:
        """Tell nothing of it: it may be signed."""
        return "VerbatimURL(***)"
