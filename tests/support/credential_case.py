"""What tests of our credential at an upstream share."""

from __future__ import annotations

import base64
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from twisted.logger import globalLogPublisher

from nora.oci import Tag
from nora.upstream.registry import Registry
from nora.upstream.sources import make_source
from tests.support.fake_upstream import FakeUpstream
from tests.support.upstreams import REACTOR, UpstreamTestCase

ONE = Tag("1")
USER, PASSWORD = "puller", "hunter2-secret"


def basic(user: str = USER, password: str = PASSWORD) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


class CredentialTestCase(UpstreamTestCase):
    """Upstreams that want a login; all that they were asked is looked through at the end."""

    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.logged: list[Any] = []
        observer: Any = self.logged.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(lambda: globalLogPublisher.removeObserver(observer))

    async def fake(self, **options: Any) -> FakeUpstream:
        upstream = await super().fake(**options)
        self.addCleanup(self.look_through, upstream)
        return upstream

    def look_through(self, upstream: FakeUpstream) -> None:
        """Of all that a host was asked, nothing holds a credential unless that is meant for it."""
        for seen in upstream.requests:
            shown = seen.headers.get("authorization", "")
            for_registry = upstream.keys is not None and seen.path.startswith("/v2/")
            for_service = upstream.logins is not None and seen.path == "/token"
            if shown and not shown.startswith("Bearer token-"):
                self.assertTrue(for_registry or for_service, seen)
            if b"secret" in seen.body:
                self.assertTrue(for_service and seen.method == "POST", seen)
            told = {name: value for name, value in seen.headers.items() if name != "authorization"}
            self.assertNotIn("secret", f"{seen.path} {seen.query} {told}")

    def file(self, name: str, text: str, mode: int = 0o600) -> str:
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    def program(self, name: str, script: str) -> None:
        """Write a credential helper, and put it on the PATH."""
        path = self.folder / f"docker-credential-{name}"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(stat.S_IRWXU)
        self.patch(os, "environ", {**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}"})

    def config(self, **members: object) -> str:
        return self.file("config.json", json.dumps(members))

    def ours(
        self,
        upstream: FakeUpstream,
        *,
        realms: tuple[str, ...] = (),
        reactor: Any = REACTOR,
        **kept: Any,
    ) -> Registry:
        """Build a client with the credential that is `kept` somewhere; `reactor` is its time."""
        source = make_source(REACTOR, upstream.url, **kept)
        return self.registry(upstream.url, source=source, realms=realms, reactor=reactor, proxy_timeout=5.0)

    async def token_service(self, **options: Any) -> FakeUpstream:
        """Start a registry whose token service wants our login."""
        upstream = await self.filled(auth=True)
        upstream.logins = {basic()}
        return upstream

    async def takes_basic(self) -> FakeUpstream:
        """Start a registry such as ECR: it wants Basic itself."""
        upstream = await self.filled(auth=True)
        upstream.keys = {basic()}
        upstream.challenge = 'Basic realm="https://ecr.example/",service="ecr.amazonaws.com"'
        return upstream

    def said(self) -> str:
        return "\n".join(str(event) for event in self.logged)

    def sent(self, upstream: FakeUpstream) -> list[str]:
        """Give the credentials that an upstream saw, tokens of its own aside."""
        shown = [seen.headers.get("authorization", "") for seen in upstream.requests]
        return [each for each in shown if each and not each.startswith("Bearer token-")]
