"""The one table of errors, and that it forgets none."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import nora
from nora.oci import errors as oci
from nora.web.errors import DEFECT, TABLE, NotOffered, classify, tell

DOCS = Path(__file__).parents[2] / "docs"
_ENTRANCES = ("nora.tap", "nora.__main__", "nora.cli", "nora.daemon")


def tree(kind: type[oci.NoraError]) -> Iterator[type[oci.NoraError]]:
    """Walk an exception and all its kinds."""
    for child in kind.__subclasses__():
        yield child
        yield from tree(child)


class TableTests(SynchronousTestCase):
    """`TABLE`."""

    def test_every_error_is_mapped(self) -> None:
        """With all rooms imported, no kind of `NoraError` is left without an answer of its own."""
        for module in pkgutil.walk_packages(nora.__path__, "nora."):
            if module.name not in _ENTRANCES:
                importlib.import_module(module.name)
        found = list(tree(oci.NoraError))
        self.assertIn(oci.NoSpace, found)
        for kind in found:
            self.assertIsNotNone(classify(kind.__new__(kind)), f"{kind} is in no row of the table")

    def test_the_root_is_not_mapped(self) -> None:
        """Else the test above could not fail."""
        self.assertNotIn(oci.NoraError, TABLE)
        self.assertIsNone(classify(oci.NoraError("x")))

    def test_documented(self) -> None:
        """Each code, and each status with it, stands in docs/errors.md."""
        text = (DOCS / "errors.md").read_text("utf-8")
        for status, code in [*TABLE.values(), DEFECT]:
            self.assertRegex(text, rf"(?m)^\| `{code}` \| {status} \|", f"{status} {code}")


class TellTests(SynchronousTestCase):
    """`tell`."""

    def test_the_body(self) -> None:
        """The body has the specification's form, with the right length."""
        told = tell(oci.BlobUnknown("not here", [{"upstream": "a"}]))
        self.assertEqual(
            json.loads(told.body),
            {
                "errors": [
                    {"code": "BLOB_UNKNOWN", "message": "not here", "detail": [{"upstream": "a"}]},
                ]
            },
        )
        self.assertIn((b"Content-Length", b"%d" % len(told.body)), told.headers)

    def test_defects_show_nothing(self) -> None:
        """Neither a defect nor a bare `NoraError` is more than UNKNOWN; the first one's words stay here."""
        told = tell(ValueError("secret"))
        self.assertEqual(told.status, 500)
        self.assertNotIn(b"secret", told.body)
        self.assertEqual(tell(oci.NoraError("x")).status, 500)

    def test_bounds(self) -> None:
        """Long messages are cut, and a detail that is long or no JSON is left out."""
        self.assertLess(len(tell(oci.Denied("x" * 100_000)).body), 2000)
        for detail in ("y" * 100_000, object(), {1: {2}}):
            entry = json.loads(tell(oci.Denied("no", detail)).body)["errors"][0]
            self.assertEqual(entry, {"code": "DENIED", "message": "no"})

    def test_unknown_by_endpoint(self) -> None:
        """What is only absent is named by what was asked for."""
        for endpoint, code in (("manifest", b"MANIFEST"), ("blob", b"BLOB"), ("other", b"NAME")):
            self.assertIn(code + b"_UNKNOWN", tell(oci.Unknown("x"), endpoint).body)
        self.assertIn(b"NAME_UNKNOWN", tell(oci.NameUnknown("x"), "blob").body)

    def test_headers(self) -> None:
        """The headers that a status demands are there."""
        for error, header in (
            (oci.InvalidRange(7), (b"Content-Range", b"bytes */7")),
            (oci.Overloaded("x", 3), (b"Retry-After", b"3")),
            (oci.Limited("x", -1), (b"Retry-After", b"0")),
            (oci.Unsupported("x"), (b"Allow", b"GET, HEAD")),
        ):
            self.assertIn(header, tell(error).headers)
        self.assertEqual(len(tell(oci.Limited("x")).headers), 2)
        self.assertEqual(len(tell(NotOffered("x")).headers), 2)
