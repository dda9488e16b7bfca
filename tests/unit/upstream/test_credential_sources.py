"""Where a credential comes from: programs, files, and the rules of what is one."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.oci.errors import Unavailable
from nora.upstream import programs
from nora.upstream.credential import Credential, Kind
from nora.upstream.login import Realms
from nora.upstream.origin import Origin
from nora.upstream.sources import make_source
from tests.support.credential_case import ONE, PASSWORD, USER, CredentialTestCase, basic
from tests.support.fake_upstream import Fault
from tests.support.upstreams import REACTOR, REPOSITORY


class ProgramTests(CredentialTestCase):
    """Credential helpers."""

    async def test_expired_password(self) -> None:
        """The program runs once for many, and again, once, when what it gave has expired (ECR's 403)."""
        upstream = await self.takes_basic()
        upstream.keys = {basic("AWS", "first"), basic("AWS", "second")}
        host = f"127.0.0.1:{upstream.port}"
        self.file("password", "first")
        self.program(
            "fake",
            f'read server; echo "$1 $server" >> "{self.folder}/asked"; '
            f'printf \'{{"ServerURL":"","Username":"AWS","Secret":"%s"}}\' "$(cat "{self.folder}/password")"',
        )
        registry = self.ours(upstream, docker_config=self.config(credHelpers={host: "fake"}))
        for _ in range(3):
            await registry.manifest(REPOSITORY, ONE)
        asked = self.folder / "asked"
        self.assertEqual(asked.read_text().splitlines(), [f"get {host}"])
        self.file("password", "second")
        upstream.keys = {basic("AWS", "second")}
        expired = Fault(status=403, code="Your authorization token has expired.", times=1)
        upstream.fault("*/manifests/*", expired)
        await registry.manifest(REPOSITORY, ONE)
        self.assertEqual(len(asked.read_text().splitlines()), 2)
        self.assertEqual(self.notes.refused, 0)

    async def test_expired_password_and_head(self) -> None:
        """A 403 to a HEAD has no body: the registry's own endpoint tells that the password expired."""
        upstream = await self.takes_basic()
        self.file("password", PASSWORD)
        self.program(
            "fake", f'printf \'{{"Username":"{USER}","Secret":"%s"}}\' "$(cat "{self.folder}/password")"'
        )
        registry = self.ours(upstream, docker_config=self.config(credsStore="fake"))
        await registry.describe(REPOSITORY, ONE)
        upstream.keys = {basic(password="new")}
        self.file("password", "new")
        upstream.fault("*/manifests/*", Fault(status=403, times=1))
        await registry.describe(REPOSITORY, ONE)
        self.assertEqual(upstream.count("/v2/"), 1)
        self.assertEqual(self.sent(upstream)[-1], basic(password="new"))

    async def test_that_fail(self) -> None:
        """One that is missing, fails, says nonsense, too much or what cannot be: unavailable, once for a while."""
        upstream = await self.takes_basic()
        host = f"127.0.0.1:{upstream.port}"
        for number, script in enumerate(
            (
                "exit 3",
                "echo wrong-secret",
                "echo '[]'",
                """echo '{"Username":"a:b","Secret":"x"}'""",
                """echo '{"Username":"a","Secret":"x\\ny"}'""",
                "head -c 100000 /dev/zero",
                "kill -9 $$",
            )
        ):
            self.program(f"bad{number}", f'echo x >> "{self.folder}/ran{number}"; {script}')
            registry = self.ours(upstream, docker_config=self.config(credsStore=f"bad{number}"))
            for _ in range(2):
                error = await self.fails(registry.manifest(REPOSITORY, ONE), Unavailable)
                self.assertEqual(error.message, "our credential cannot be read")
            self.assertEqual((self.folder / f"ran{number}").read_text(), "x\n", script)
        for name in ("missing", "../../bin/sh", 5):
            registry = self.ours(upstream, docker_config=self.config(credHelpers={host: name}))
            await self.fails(registry.manifest(REPOSITORY, ONE), Unavailable)
        self.assertEqual(upstream.count(), 0)
        self.assertNotIn("wrong-secret", self.said())

    async def test_environment(self) -> None:
        """A program sees the environment, but not our own variables, which may hold other upstreams' secrets."""
        upstream = await self.takes_basic()
        self.program("fake", f'env > "{self.folder}/env"; exit 1')
        self.patch(
            os, "environ", {**os.environ, "AWS_PROFILE": "x", "NORA_DOCKER_UPSTREAMS_1_AUTH": "a:secret"}
        )
        registry = self.ours(upstream, docker_config=self.config(credsStore="fake"))
        await self.fails(registry.manifest(REPOSITORY, ONE), Unavailable)
        seen = (self.folder / "env").read_text()
        self.assertIn("AWS_PROFILE=x", seen)
        self.assertNotIn("NORA", seen)

    async def test_that_hangs(self) -> None:
        """One that takes too long is killed."""
        self.patch(programs, "TIMEOUT", 0.2)
        upstream = await self.takes_basic()
        self.program("slow", "exec sleep 600")
        registry = self.ours(upstream, docker_config=self.config(credsStore="slow"))
        await self.fails(registry.manifest(REPOSITORY, ONE), Unavailable)
        self.assertIn("took more than", self.said())


class FileTests(CredentialTestCase):
    """Files with credentials."""

    async def read(self, url: str = "https://ghcr.io", **kept: Any) -> Credential:
        source = make_source(REACTOR, url, **kept)
        assert source is not None
        return await source.read()

    async def test_docker_config(self) -> None:
        """Each way in which Docker writes a registry's name and credential is understood."""
        auth = base64.b64encode(b"me:pass:word").decode()
        for url, auths in (
            ("https://ghcr.io", {"ghcr.io": {"auth": auth}}),
            ("https://ghcr.io", {"https://ghcr.io": {"auth": auth}}),
            ("https://ghcr.io", {"x.io": {}, "ghcr.io": {"username": "me", "password": "pass:word"}}),
            ("https://registry-1.docker.io", {"https://index.docker.io/v1/": {"auth": auth}}),
            ("http://127.0.0.1:5000", {"127.0.0.1:5000": {"auth": auth}}),
        ):
            found = await self.read(url, docker_config=self.config(auths=auths))
            self.assertEqual(found, Credential(Kind.BASIC, "me", "pass:word"))
        token = base64.b64encode(b"<token>:identity").decode()
        found = await self.read(docker_config=self.config(auths={"ghcr.io": {"auth": token}}))
        self.assertEqual(found, Credential(Kind.IDENTITY, "", "identity"))

    async def test_what_is_no_credential(self) -> None:
        """What is missing, foreign, no text or no credential is told by its path alone."""
        for text in (
            "", "[]", "{", '{"auths": 5}', '{"auths": {"quay.io": {"auth": "bWU6cA=="}}}',
            '{"auths": {"ghcr.io": {"auth": "?"}}}', '{"auths": {"ghcr.io": {"auth": "bWU="}}}',
            '{"auths": {"ghcr.io": {"auth": 5}}}', '{"auths": {"ghcr.io": 5}}', "[" * 100_000,
        ):  # fmt: skip
            path = self.file("config.json", text)
            error = await self.failure(self.read(docker_config=path))
            self.assertIn(path, str(error))
        for data in ("", "two\nlines", "\0"):
            await self.failure(self.read(username="me", password_file=self.file("p", data)))
            await self.failure(self.read(token_file=self.file("t", data)))
        Path(self.folder, "latin").write_bytes(b"\xff")
        Path(self.folder, "long").write_bytes(b"x" * 100_000)
        for name in ("latin", "long", "missing", "."):
            error = await self.failure(self.read(token_file=str(self.folder / name)))
            self.assertIn(str(self.folder), str(error))

    async def test_readable_by_everybody(self) -> None:
        """It is told once."""
        source = make_source(REACTOR, "https://ghcr.io", token_file=self.file("token", "x", 0o644))
        assert source is not None
        for _ in range(2):
            await source.read()
        self.assertEqual(sum("everybody" in str(event) for event in self.logged), 1)


class RuleTests(SynchronousTestCase):
    """Rules without sockets."""

    def test_realms(self) -> None:
        """Same host, the table, or listed; never from https to http."""
        hub = Realms(Origin.of("https://registry-1.docker.io"))
        for url, trusted in (
            ("https://auth.docker.io/token", True),
            ("http://auth.docker.io/token", False),
            ("https://auth.docker.io:444/token", False),
            ("https://registry-1.docker.io/token", True),
            ("http://registry-1.docker.io/token", False),
            ("https://auth.docker.io.evil.example/token", False),
            ("https://evil.example/auth.docker.io", False),
        ):
            self.assertEqual(hub.trusts(Origin.of(url)), trusted, url)
        gitlab = Realms(Origin.of("https://registry.gitlab.com"))
        self.assertTrue(gitlab.trusts(Origin.of("https://gitlab.com/jwt/auth")))
        own = Realms(Origin.of("https://r.example"), frozenset({"auth.example:8443"}))
        self.assertTrue(own.trusts(Origin.of("https://auth.example:8443/x")))
        self.assertFalse(own.trusts(Origin.of("https://auth.example/x")))

    @given(st.text(min_size=8), st.text(min_size=8))
    def test_never_shown(self, user: str, secret: str) -> None:
        """No way of writing a credential out holds its secret."""
        for kind in Kind:
            credential = Credential(kind, f"u{user}", f"s3cr3t{secret}")
            shown = f"{credential} {credential!r} {[credential]} {attrs.fields(Credential)}"
            self.assertNotIn("s3cr3t", shown)
