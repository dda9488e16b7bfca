"""What manifests and configurations say to a person, whoever wrote them."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Descriptor, Digest
from nora.oci.errors import Unverified
from nora.oci.images import (
    MAX_PAIRS,
    MAX_PARTS,
    MAX_TEXT,
    platform_of,
    read_configuration,
    read_contained,
)

DIGEST = Digest.of(b"it")
LAYER = {"mediaType": "x/layer", "digest": str(DIGEST), "size": 2}

_WORDS = st.sampled_from(
    (
        *(
            "config",
            "layers",
            "manifests",
            "subject",
            "annotations",
            "platform",
            "digest",
            "size",
            "mediaType",
        ),
        *("os", "architecture", "variant", "history", "created", "Labels", "Env", "Cmd", "created_by"),
    )
)
_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just(str(DIGEST)), _WORDS
)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.one_of(_WORDS, st.text(max_size=5)), inner)
    ),
    max_leaves=30,
)


class ContainedTests(SynchronousTestCase):
    """Manifests."""

    def test_image(self) -> None:
        """Configuration and layers, each counted once for the size."""
        document = {"config": {**LAYER, "digest": str(Digest.of(b"c")), "size": 7}, "layers": [LAYER, LAYER]}
        told = read_contained(json.dumps(document).encode())
        self.assertEqual(told.layers, (Descriptor("x/layer", DIGEST, 2),) * 2)
        self.assertEqual((told.size, told.children, told.platforms), (9, (), ()))

    def test_index(self) -> None:
        """The platforms of an index, each once and without what is for none."""
        platforms = [{"os": "linux", "architecture": "amd64"}] * 2
        others = [{"os": "unknown", "architecture": "unknown"}, {"os": "linux"}, 7, None]
        listed = [{**LAYER, "platform": platform} for platform in [*platforms, *others]]
        told = read_contained(json.dumps({"manifests": listed}).encode())
        self.assertEqual((told.platforms, len(told.children)), (("linux/amd64",), 6))

    def test_left_out(self) -> None:
        """What goes beyond the bound is counted."""
        told = read_contained(json.dumps({"layers": [LAYER] * (MAX_PARTS + 3)}).encode())
        self.assertEqual((len(told.layers), told.left_out), (MAX_PARTS, 3))

    def test_platforms(self) -> None:
        """A platform is written as engines write it."""
        self.assertEqual(platform_of({"os": "linux", "architecture": "arm", "variant": "v7"}), "linux/arm/v7")
        self.assertEqual(
            platform_of({"os": "windows", "architecture": "amd64", "variant": ""}), "windows/amd64"
        )
        nothings: list[object] = [None, {}, [], {"os": "linux"}, {"os": "", "architecture": "x"}]
        for nothing in nothings:
            self.assertIsNone(platform_of(nothing))

    def test_no_object(self) -> None:
        """What is no JSON object is refused."""
        for body in (b"", b"{", b"[]", b"7", b"\xff\xfe", b"[" * 100_000):
            for read in (read_contained, read_configuration):
                self.assertRaises(Unverified, read, body)


class ConfigurationTests(SynchronousTestCase):
    """Configurations."""

    def test_moments(self) -> None:
        """A moment is one of UTC by the calendar, or none."""
        for text, read in (
            ("2024-02-29T12:00:00Z", "2024-02-29T12:00:00Z"),
            ("2024-02-29T12:00:00.123456789Z", "2024-02-29T12:00:00Z"),
            ("2023-02-29T12:00:00Z", None),
            ("0000-01-01T00:00:00Z", None),
            ("2024-01-01T00:00:00+01:00", None),
            ("yesterday", None),
        ):
            self.assertEqual(read_configuration(json.dumps({"created": text}).encode()).created, read, text)

    def test_bounds(self) -> None:
        """Texts are cut, and so are lists."""
        document = {
            "author": "x" * 10_240,
            "config": {"Env": ["y" * 10_240] * 1000, "Labels": {str(n): "z" * 10_240 for n in range(1000)}},
            "history": [{"created_by": "w" * 10_240}] * 1000,
        }
        told = read_configuration(json.dumps(document).encode())
        assert told.author is not None
        self.assertEqual(
            [len(told.author), len(told.environment[0]), len(told.history[0].created_by)], [MAX_TEXT] * 3
        )
        self.assertEqual([len(told.environment), len(told.labels), len(told.history)], [MAX_PAIRS] * 3)


class AnythingTests(SynchronousTestCase):
    """Whatever is JSON is read without a failure."""

    @given(st.dictionaries(st.one_of(_WORDS, st.text(max_size=5)), _JSON))
    def test_anything(self, document: dict[str, object]) -> None:
        """Sizes are no less than nothing, texts are texts, and nothing is raised."""
        body = json.dumps(document).encode()
        told = read_contained(body)
        self.assertGreaterEqual(told.size, 0)
        self.assertTrue(all(isinstance(each, str) and each for each in told.platforms))
        configuration = read_configuration(body)
        self.assertTrue(all(isinstance(key + value, str) for key, value in configuration.labels))
