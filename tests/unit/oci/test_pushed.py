"""Manifests as clients push them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Digest
from nora.oci.errors import InvalidDigest, InvalidManifest, NoraError, RequestTooLarge
from nora.oci.manifest import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from nora.oci.pushed import lists, read_pushed, referrer

CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": str(Digest.of(b"c")), "size": 1}
LAYER = {"mediaType": "application/x.anything", "digest": str(Digest.of(b"l", "sha512")), "size": 7}
FIELDS = ["schemaVersion", "config", "layers", "manifests", "subject"]
SUBJECT = {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(b"s")), "size": 2}


def image(**fields: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "config": CONFIG, "layers": [LAYER], **fields}).encode()


def index(**fields: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": [SUBJECT], **fields}).encode()


class AcceptedTests(SynchronousTestCase):
    """What is a manifest."""

    def test_image(self) -> None:
        """Configuration and layers of any type are its blobs; parameters of the type do not count."""
        for kind in (OCI_MANIFEST, DOCKER_MANIFEST):
            read = read_pushed(image(), f"{kind.upper()}; charset=utf-8")
            self.assertEqual(read.descriptor.media_type, kind)
            self.assertEqual(read.descriptor.digest, Digest.of(image()))
            self.assertEqual([str(each.digest) for each in read.blobs], [CONFIG["digest"], LAYER["digest"]])
            self.assertEqual((read.manifests, read.subject), ((), None))

    def test_index(self) -> None:
        """An index lists manifests, none too."""
        for kind in (OCI_INDEX, DOCKER_LIST):
            read = read_pushed(index(), kind)
            self.assertEqual([str(each.digest) for each in read.manifests], [SUBJECT["digest"]])
            self.assertEqual(read.children, read.manifests)
            self.assertEqual(read_pushed(index(manifests=[]), kind).children, ())

    def test_subject(self) -> None:
        """The subject is told, of either form."""
        for body, kind in ((image(subject=SUBJECT), OCI_MANIFEST), (index(subject=SUBJECT), OCI_INDEX)):
            self.assertEqual(str(read_pushed(body, kind).subject), SUBJECT["digest"])

    def test_own_type(self) -> None:
        """Without a Content-Type the document's own counts."""
        self.assertEqual(read_pushed(image(mediaType=OCI_MANIFEST), None).descriptor.media_type, OCI_MANIFEST)

    def test_sha512(self) -> None:
        """It is called as it was asked to be."""
        digest = Digest.of(image(), "sha512")
        self.assertEqual(read_pushed(image(), OCI_MANIFEST, digest).descriptor.digest, digest)

    def test_foreign_layer(self) -> None:
        """A layer that is found elsewhere need not be here."""
        foreign = {**LAYER, "urls": ["https://example.com/layer"]}
        self.assertEqual(len(read_pushed(image(layers=[foreign]), OCI_MANIFEST).blobs), 1)
        self.assertEqual(len(read_pushed(image(layers=[{**LAYER, "urls": []}]), OCI_MANIFEST).blobs), 2)

    def test_unknown_fields(self) -> None:
        """What is not known is no reason to refuse."""
        self.assertTrue(read_pushed(image(more={"a": [1.5, -2, None]}), OCI_MANIFEST).blobs)


class RefusedTests(SynchronousTestCase):
    """What is none."""

    def test_form(self) -> None:
        """Each of these is refused as no manifest."""
        deep = b'{"schemaVersion":2,"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
        for body in (
            b"", b"null", b"[]", b'"x"', b"{", b"\xff\xfe", b"{}", deep,
            image(schemaVersion=1), image(schemaVersion=2.0), image(schemaVersion="2"), image(schemaVersion=True),
            image(mediaType=OCI_INDEX), image(mediaType=7), image(manifests=[]), image(config=None),
            image(layers=None), image(layers={}), image(layers=[None]), image(layers=[{}] * 100_000),
            image(layers=[LAYER] * 10_001), image(layers=[{**LAYER, "size": -1}]),
            image(layers=[{**LAYER, "size": 10**19}]), image(layers=[{**LAYER, "size": True}]),
            image(layers=[{**LAYER, "size": 1.0}]), image(layers=[{**LAYER, "digest": "md5:00"}]),
            image(layers=[{**LAYER, "digest": None}]), image(layers=[{**LAYER, "mediaType": ""}]),
            *(image(layers=[{**LAYER, "mediaType": kind}]) for kind in ("a/\ud800", "a/\0", "a/\u00e9", 5)),
            image(artifactType="\ud800"), image(artifactType="a\nb"),
            image()[:-1] + b',"x":[' + b"[]," * 300_000 + b"[]]}",
            image()[:-1] + b',"x":[' + b"{}," * 100_000 + b"{}]}",
            image(subject="x"), image(subject={}), image(artifactType=5), image(artifactType="x" * 256),
            image(annotations=[]), image(annotations={"a": 1}),
            image()[:-1] + b',"layers":[]}', image()[:-1] + b',"x":{"a":1,"a":2}}',
            image()[:-1] + b',"x":NaN}', image()[:-1] + b',"x":-Infinity}',
            image()[:-1] + b',"x":1' + b"0" * 9999 + b"}",
            image().decode().encode("utf-16"), b"\xef\xbb\xbf" + image(),
        ):  # fmt: skip
            with self.assertRaises(InvalidManifest, msg=body[:100]):
                read_pushed(body, OCI_MANIFEST)

    def test_type(self) -> None:
        """A type that is no manifest's, an old one's, or none at all."""
        for kind in ("application/json", "application/vnd.docker.distribution.manifest.v1+json", "", None):
            with self.assertRaises(InvalidManifest):
                read_pushed(image(), kind)
        with self.assertRaises(InvalidManifest):
            read_pushed(index(), OCI_MANIFEST)
        with self.assertRaises(InvalidManifest):
            read_pushed(image(), OCI_INDEX)

    def test_digest_and_size(self) -> None:
        """Another digest than the reference, and more than 4 MiB."""
        with self.assertRaises(InvalidDigest):
            read_pushed(image(), OCI_MANIFEST, Digest.of(b"other"))
        with self.assertRaises(RequestTooLarge):
            read_pushed(image() + b" " * (4 << 20), OCI_MANIFEST)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=9),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                st.sampled_from([*FIELDS, "mediaType", "digest", "size"]),
                inner, max_size=6,
            ),
        )
    )  # fmt: skip
    def test_any_document(self, document: Any) -> None:
        """Any JSON is a manifest or an error of the domain."""
        for kind in (OCI_MANIFEST, OCI_INDEX, None):
            try:
                read_pushed(json.dumps(document).encode(), kind)
            except NoraError as error:
                self.assertIsInstance(error, InvalidManifest)


class ReferrerTests(SynchronousTestCase):
    """How a referrer is listed."""

    def entry(self, body: bytes, kind: str = OCI_MANIFEST, room: int = 10_000) -> Any:
        made = referrer(body, read_pushed(body, kind).descriptor, None, room)
        return None if made is None else json.loads(made)

    def test_type(self) -> None:
        """Its own artifactType, else its configuration's type; an index has its own alone."""
        own = self.entry(image(subject=SUBJECT, artifactType="x/y"))
        self.assertEqual(own["artifactType"], "x/y")
        self.assertEqual(self.entry(image(subject=SUBJECT))["artifactType"], CONFIG["mediaType"])
        self.assertEqual(
            self.entry(image(subject=SUBJECT, artifactType=""))["artifactType"], CONFIG["mediaType"]
        )
        self.assertNotIn("artifactType", self.entry(index(subject=SUBJECT), OCI_INDEX))

    def test_annotations(self) -> None:
        """All of them, unless there is no room."""
        notes = {"a": "b", "é": "\ud800"}
        body = image(subject=SUBJECT, annotations=notes)
        self.assertEqual(self.entry(body)["annotations"], notes)
        self.assertEqual(self.entry(body)["size"], len(body))
        self.assertNotIn("annotations", self.entry(body, room=200))

    def test_none(self) -> None:
        """What refers to nothing is not listed."""
        self.assertIsNone(self.entry(image()))
        self.assertIsNone(referrer(b"{", read_pushed(image(), OCI_MANIFEST).descriptor, None, 1000))


class ListsTests(SynchronousTestCase):
    """Whether a manifest lists a digest."""

    def test_lists(self) -> None:
        """As configuration, layer or manifest, however the JSON writes it; not in other places."""
        config, layer = Digest.of(b"c"), Digest.of(b"l", "sha512")
        self.assertTrue(lists(image(), layer))
        self.assertTrue(lists(image(), config))
        escaped = image().replace(
            b"sha256:" + config.hex.encode(),
            b"sha256:" + b"".join(b"\\u%04x" % c for c in config.hex.encode()),
        )
        self.assertTrue(lists(escaped, config))
        self.assertTrue(lists(index(), Digest.of(b"s")))
        self.assertFalse(lists(image(subject=SUBJECT), Digest.of(b"s")))
        for body in (
            b"",
            b"{" + config.hex.encode(),
            b'["%s"]' % config.hex.encode(),
            b'{"layers":"%s"}' % config.hex.encode(),
        ):
            self.assertFalse(lists(body, config))
