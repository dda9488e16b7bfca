"""JSON from outside costs no more than it is allowed to, whoever sent it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Digest, Manifest
from nora.oci.document import MAX_DEPTH, MAX_PARTS, Unreadable, read_object
from nora.oci.errors import InvalidManifest, Unverified
from nora.oci.listing import compose_referrers, parse_referrers, parse_tags
from nora.oci.manifest import OCI_INDEX, OCI_MANIFEST
from nora.oci.pushed import read_pushed

_KINDS = {"list": (b"[", b"]"), "object": (b'{"a":', b"}")}
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
_DESCRIPTOR: dict[str, Any] = {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(b"x")), "size": 1}


def nested(depth: int, kind: str = "list") -> bytes:
    """Make an object in which `depth` lists or objects stand in each other, itself counted."""
    opening, closing = _KINDS[kind]
    return b'{"schemaVersion":2,"x":' + opening * (depth - 1) + b"0" + closing * (depth - 1) + b"}"


def on_a_full_stack(frames: int, call: Callable[[], object]) -> object:
    """Make a call with so many frames below it."""
    return call() if frames == 0 else on_a_full_stack(frames - 1, call)


class DocumentTests(SynchronousTestCase):
    """What is read, and what is not."""

    @given(st.dictionaries(st.text(max_size=4), _VALUES, max_size=4))
    def test_read(self, document: dict[str, Any]) -> None:
        """An object is read as it was written, however its strings look."""
        self.assertEqual(read_object(json.dumps(document, ensure_ascii=False).encode()), document)

    @given(st.integers(2, 3000), st.sampled_from(sorted(_KINDS)))
    def test_depth(self, depth: int, kind: str) -> None:
        """So deep and no deeper, and never a `RecursionError`."""
        body = nested(depth, kind)
        if depth <= MAX_DEPTH:
            self.assertEqual(json.dumps(read_object(body), separators=(",", ":")).encode(), body)
        else:
            with self.assertRaisesRegex(Unreadable, "is nested too deep"):
                read_object(body)

    def test_parts(self) -> None:
        """Brackets and commas are counted before anything is read."""
        fits = b'{"x":[' + b"0," * (MAX_PARTS - 2) + b"0]}"
        self.assertEqual(len(read_object(fits)["x"]), MAX_PARTS - 1)
        for more in (fits.replace(b"0]", b"0,0]"), b"," * (MAX_PARTS + 1), b"[" * 1_000_000):
            with self.assertRaisesRegex(Unreadable, "more parts than anything has"):
                read_object(more)
        self.assertRaises(Unreadable, read_object, fits, MAX_PARTS - 1)

    def test_no_objects(self) -> None:
        """Anything else is refused, and why is said."""
        for body, why in (
            (b"", "JSON"),
            (b"\xff", "JSON"),
            (b"[]", "object"),
            (b"1", "object"),
            (b"{", "JSON"),
        ):
            with self.assertRaisesRegex(Unreadable, f"is not .*{why}"):
                read_object(body)
        self.assertEqual(read_object(b"\xef\xbb\xbf{}"), {})


class NestedTests(SynchronousTestCase):
    """Everything that reads such documents refuses one that is nested too deep, on whatever stack."""

    @given(
        st.sampled_from([MAX_DEPTH + 1, 300, 900, 990, 5000, 90_000]),
        st.sampled_from(sorted(_KINDS)),
        st.integers(0, 600),
    )
    def test_refused(self, depth: int, kind: str, frames: int) -> None:
        """Manifests from upstreams and from clients, and lists."""
        body = nested(depth, kind)
        room = max(0, sys.getrecursionlimit() - 400 - len_of_stack())
        for call, error in (
            (lambda: Manifest.verify(body, OCI_MANIFEST), Unverified),
            (lambda: Manifest.verify(body, OCI_INDEX), Unverified),
            (lambda: read_pushed(body, OCI_MANIFEST), InvalidManifest),
            (lambda: parse_tags(body), Unverified),
            (lambda: parse_referrers(body), Unverified),
        ):
            with self.assertRaisesRegex(error, "nested too deep"):
                on_a_full_stack(min(frames, room), call)

    def test_composed_again(self) -> None:
        """What is read of a list of referrers can be written on a much fuller stack."""
        deep: Any = 0
        for _ in range(MAX_DEPTH - 3):
            deep = [deep]
        body = compose_referrers([{**_DESCRIPTOR, "x": deep}])
        listed = parse_referrers(body)
        room = sys.getrecursionlimit() - 200 - len_of_stack()
        self.assertEqual(on_a_full_stack(room, lambda: compose_referrers(listed)), body)
        self.assertRaises(Unverified, parse_referrers, compose_referrers([{**_DESCRIPTOR, "x": [deep]}]))


def len_of_stack() -> int:
    """Count the frames that are there now."""
    frame, count = sys._getframe(), 0
    while frame.f_back is not None:
        frame, count = frame.f_back, count + 1
    return count
