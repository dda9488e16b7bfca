"""Endpoints and hosting together, over the real store: an image is pushed, listed, referred to, removed by HTTP."""

from __future__ import annotations

import json
from typing import Any

from nora.oci import Digest
from nora.oci.manifest import OCI_MANIFEST
from tests.support.hosting import APP, Hosting, descriptor, image
from tests.support.http_client import Reply
from tests.support.push_site import PushSiteTestCase
from tests.support.storage_fakes import temporary_folder


class HostingTests(PushSiteTestCase):
    """A site over a registry of its own."""

    def build(self) -> Any:
        """Build it over the store."""
        self.here = Hosting(temporary_folder(self), clock=self.clock)
        self.addCleanup(self.here.close)
        site = super().build()
        here, backend = self.here, self.backend
        backend.routing, backend.pull, backend.discovery = here.routing, here.pull, here.discovery
        backend.push, backend.removal, backend.catalog = here.push, here.removal, here.catalog  # type: ignore[assignment]
        return site

    async def put(self, path: str, body: bytes) -> Reply:
        """Push a manifest."""
        headers = (f"Content-Type: {OCI_MANIFEST}", f"Content-Length: {len(body)}")
        client = await self.client()
        client.request("PUT", path, *headers)
        client.transport.write(body)
        return await client.reply()

    async def test_life(self) -> None:
        """From the push to the removal, every endpoint tells the same."""
        subject = descriptor(b"subject", OCI_MANIFEST)
        body = image(b"{}", b"layer", subject=subject)
        digest = Digest.of(body)
        path = f"/v2/{APP.name}/manifests"
        missing = await self.put(f"{path}/1", body)
        self.assertEqual((missing.status, missing.error()["code"]), (400, "MANIFEST_BLOB_UNKNOWN"))
        for data in (b"{}", b"layer"):
            await self.here.put_blob(data)
        reply = await self.put(f"{path}/{digest}?tag=1&tag=2", body)
        self.assertEqual((reply.status, reply.headers["oci-subject"]), (201, subject["digest"]))
        for reference in ("1", "2", str(digest)):
            found = await self.ask("GET", f"{path}/{reference}")
            self.assertEqual((found.status, found.body), (200, body))
            self.assertEqual(found.headers["content-type"], OCI_MANIFEST)
        listed = await self.ask("GET", f"/v2/{APP.name}/tags/list")
        self.assertEqual(json.loads(listed.body), {"name": APP.name, "tags": ["1", "2"]})
        referrers = await self.ask("GET", f"/v2/{APP.name}/referrers/{subject['digest']}")
        self.assertEqual([each["digest"] for each in json.loads(referrers.body)["manifests"]], [str(digest)])
        catalog = await self.ask("GET", "/v2/_catalog")
        self.assertEqual(json.loads(catalog.body), {"repositories": [APP.name]})
        for gone, left in ((f"{path}/1", ["2"]), (f"{path}/{digest}", [])):
            self.assertEqual((await self.ask("DELETE", gone)).status, 202)
            self.assertEqual((await self.ask("HEAD", gone)).status, 404)
            listed = await self.ask("GET", f"/v2/{APP.name}/tags/list")
            self.assertEqual(json.loads(listed.body)["tags"], left)
        blob = f"/v2/{APP.name}/blobs/{Digest.of(b'layer')}"
        self.assertEqual((await self.ask("DELETE", blob)).status, 202)
        self.assertEqual((await self.ask("HEAD", blob)).status, 404)
