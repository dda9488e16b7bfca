"""Which bytes are a manifest."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Descriptor, Digest, Manifest
from nora.oci.errors import Unverified
from nora.oci.manifest import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, is_index

DIGEST = str(Digest.of(b"x"))


def described(**changes: Any) -> dict[str, Any]:
    """Make a descriptor."""
    return {"mediaType": "application/octet-stream", "digest": DIGEST, "size": 1, **changes}


def image(**changes: Any) -> dict[str, Any]:
    """Make an image manifest."""
    return {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described(),
        "layers": [described()],
        **changes,
    }


class ManifestTests(SynchronousTestCase):
    """What is verified, and what is read."""

    def verify(
        self, document: object, media_type: str = OCI_MANIFEST, digest: Digest | None = None
    ) -> Manifest:
        return Manifest.verify(json.dumps(document).encode(), media_type, digest)

    def test_image(self) -> None:
        """An image manifest lists its configuration and layers; parameters of its type do not matter."""
        manifest = self.verify(image(), f"{OCI_MANIFEST}; charset=utf-8")
        listed = Descriptor("application/octet-stream", Digest.of(b"x"), 1)
        self.assertEqual((manifest.blobs, manifest.manifests), ((listed, listed), ()))
        self.assertEqual(manifest.digest, Digest.of(manifest.body))
        self.assertEqual(manifest.descriptor, Descriptor(OCI_MANIFEST, manifest.digest, len(manifest.body)))

    def test_index(self) -> None:
        """An index lists manifests."""
        for kind in (OCI_INDEX, DOCKER_LIST):
            manifest = self.verify({"schemaVersion": 2, "manifests": [described()]}, kind)
            self.assertEqual((len(manifest.blobs), len(manifest.manifests)), (0, 1))
            self.assertTrue(is_index(kind))
        self.assertFalse(is_index(DOCKER_MANIFEST))

    def test_digest(self) -> None:
        """The bytes must hash to the digest that was asked for, of either algorithm."""
        body = json.dumps(image()).encode()
        for algorithm in ("sha256", "sha512"):
            digest = Digest.of(body, algorithm)
            self.assertEqual(Manifest.verify(body, OCI_MANIFEST, digest).digest, digest)
        self.assertRaises(Unverified, Manifest.verify, body, OCI_MANIFEST, Digest.of(b"other"))

    def test_lies(self) -> None:
        """What is no manifest, or two kinds at once, is refused."""
        for document, kind in (
            (image(), "text/html"),
            (image(), ""),
            (image(schemaVersion=1), OCI_MANIFEST),
            (image(), DOCKER_MANIFEST),
            (image(manifests=[]), OCI_MANIFEST),
            ({"schemaVersion": 2, "manifests": [], "layers": []}, OCI_INDEX),
            ({"schemaVersion": 2, "manifests": [], "config": {}}, OCI_INDEX),
            ([], OCI_MANIFEST),
            (image(layers="none"), OCI_MANIFEST),
            (image(layers=[7]), OCI_MANIFEST),
            (image(config=None), OCI_MANIFEST),
            (image(layers=[described(size=-1)]), OCI_MANIFEST),
            (image(layers=[described(size=True)]), OCI_MANIFEST),
            (image(layers=[described(digest=7)]), OCI_MANIFEST),
        ):
            self.assertRaises(Unverified, self.verify, document, kind)

    def test_bounds(self) -> None:
        """4 MiB is the most, and nesting without end is no JSON."""
        self.assertRaises(Unverified, Manifest.verify, b" " * (4 * 1024 * 1024 + 1), OCI_MANIFEST)
        self.assertRaises(Unverified, Manifest.verify, b"[" * 1_000_000, OCI_MANIFEST)

    def test_unknown_algorithms_are_left_out(self) -> None:
        """A child of an algorithm that is not known here does not make a manifest wrong."""
        manifest = self.verify(
            image(layers=[described(digest="blake3:" + "a" * 64), described(mediaType=None)])
        )
        self.assertEqual(len(manifest.blobs), 2)

    @given(st.binary(max_size=200))
    def test_noise(self, body: bytes) -> None:
        """Noise is refused, and never anything worse."""
        self.assertRaises(Unverified, Manifest.verify, body, OCI_MANIFEST)
