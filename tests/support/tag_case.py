"""The ground of tests with a tag: a store, two upstreams of different namespaces, and an image under two tags."""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from nora.access import ANONYMOUS
from nora.oci import Digest, Manifest, Reference, Tag
from nora.oci.manifest import OCI_MANIFEST
from nora.pull.interfaces import Answer, Served
from nora.storage.interfaces import OwnerRecord
from nora.upstream.interfaces import Route
from tests.support.pulling import NAME, Pulling, qualified, unqualified
from tests.support.scripted import ScriptedUpstream

LATEST, ONE = Tag("latest"), Tag("1")


def manifest_body(text: str) -> bytes:
    """Make an image manifest that differs by `text`."""
    config = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "size": 2,
        "digest": str(Digest.of(b"{}")),
    }
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config,
            "layers": [],
            "annotations": {"a": text},
        }
    ).encode()


class TwoUpstreamsTestCase(SynchronousTestCase):
    """`here` is one process on the store, `hub` and `ghcr` are the upstreams."""

    def setUp(self) -> None:
        """Begin with an empty store."""
        self.hub = ScriptedUpstream("hub", "docker.io")
        self.ghcr = ScriptedUpstream("github", "ghcr.io")
        self.root = self.mktemp()
        self.start()
        self.route = qualified([self.hub])
        self.chain = unqualified([self.hub, self.ghcr])

    def process(self, **options: object) -> Pulling:
        """Begin one more process on the store."""
        process = Pulling(self.root, **options)  # type: ignore[arg-type]
        self.addCleanup(process.close)
        return process

    def start(self, **options: object) -> None:
        """Let `here` be a new process."""
        self.here = self.process(**options)


class TagTestCase(TwoUpstreamsTestCase):
    """The first upstream has the image, `old`."""

    def setUp(self) -> None:
        """Begin with an empty store."""
        super().setUp()
        self.old = self.hub.add_manifest(NAME, manifest_body("old"), OCI_MANIFEST, LATEST, ONE)

    def getting(self, reference: Reference = LATEST, route: Route | None = None) -> Deferred[Served[Answer]]:
        """Ask by GET."""
        return Deferred.fromCoroutine(self.here.pull.manifest(route or self.route, reference, ANONYMOUS))

    def get(self, reference: Reference = LATEST, route: Route | None = None) -> Served[Answer]:
        """Ask by GET, and have the answer at once."""
        return self.successResultOf(self.getting(reference, route))

    def heading(self, reference: Reference = LATEST, route: Route | None = None) -> Deferred[Served[Answer]]:
        """Ask by HEAD."""
        return Deferred.fromCoroutine(self.here.pull.describe(route or self.route, reference, ANONYMOUS))

    def head(self, reference: Reference = LATEST, route: Route | None = None) -> Served[Answer]:
        """Ask by HEAD, and have the answer at once."""
        return self.successResultOf(self.heading(reference, route))

    def move(self, upstream: ScriptedUpstream | None = None) -> Manifest:
        """Let the tag name another image."""
        return (upstream or self.hub).add_manifest(NAME, manifest_body("new"), OCI_MANIFEST, LATEST)

    def kinds(self, upstream: ScriptedUpstream | None = None) -> list[str]:
        """Tell what an upstream was asked."""
        return [asked[0] for asked in (upstream or self.hub).asked]

    def owner(self) -> OwnerRecord | None:
        """Tell the owner of the unqualified name."""
        return self.successResultOf(Deferred.fromCoroutine(self.here.repositories.owner(NAME)))
