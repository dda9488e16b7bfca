"""What the audit log and the metrics tell of a request."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import json

from nora.oci import Digest
from nora.oci.errors import (
    Denied,
)
from nora.oci.manifest import OCI_MANIFEST
from tests.support.web_site import SiteTestCase

BODY = b'{"schemaVersion":2,  "config":{}, "layers":[]}\n'
ABSENT = f"sha256:{'0' * 64}"


class AuditTests(SiteTestCase):
    """What the audit log is told."""

    async def test_pull(self) -> None:
        """A pull is told with all that is known."""
        digest = self.pull.add_manifest(BODY, OCI_MANIFEST, "1")
        await self.ask("GET", "/v2/library/x/manifests/1", "User-Agent: docker/1", "X-Request-ID: r1")
        await self.eventually(lambda: bool(self.events.list))
        line = json.loads(self.events.list[0].line())
        self.assertRegex(line.pop("time"), r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")
        self.assertGreaterEqual(line.pop("seconds"), 0)
        self.assertEqual(
            line,
            {
                "id": "r1",
                "client": "127.0.0.1",
                "user": None,
                "agent": "docker/1",
                "method": "GET",
                "action": "pull",
                "repository": "library/x",
                "namespace": "docker.io",
                "reference": "1",
                "digest": str(digest),
                "status": 200,
                "cache": "hit",
                "upstream": "hub",
                "bytes": len(BODY),
                "received": 0,
                "aborted": False,
            },
        )

    async def test_errors(self) -> None:
        """Refused requests are told too, with what the client called things, cut to a bound."""
        self.pull.error = Denied("no")
        await self.ask("GET", "/v2/x/manifests/1")
        await self.ask("GET", f"/v2/{'A' * 1500}/blobs/{ABSENT}")
        await self.ask("GET", "/v2/a%ffb/manifests/%00")
        await self.ask("POST", "/v2/x/manifests/1", "Content-Length: 0")
        await self.ask("GET", "/v2/")
        await self.ask("GET", "/v2/_catalog?n=many")
        await self.eventually(lambda: len(self.events.list) == 5)
        told = [json.loads(event.line()) for event in self.events.list]
        self.assertEqual([line["status"] for line in told], [403, 400, 400, 405, 400])
        self.assertEqual(told[1]["repository"], "A" * 256)
        self.assertEqual(told[2]["repository"], "a\ufffdb")
        self.assertEqual({line["cache"] for line in told}, {"none"})

    async def test_blob_bytes(self) -> None:
        """The bytes of a body sent past the transport are counted."""
        digest, _ = self.pull.add_blob(b"y" * 3_000_000)
        await self.ask("GET", f"/v2/x/blobs/{digest}")
        await self.eventually(lambda: bool(self.events.list))
        self.assertEqual((self.events.list[0].sent, self.events.list[0].aborted), (3_000_000, False))
        self.assertEqual(self.count("nora_sent_bytes_total"), 3_000_000)
        self.assertEqual(self.events.list[0].digest, str(digest))
        self.assertEqual(Digest.parse(self.events.list[0].reference), digest)
