"""Our credential at an upstream: it is used where it must be, and nobody else ever sees it."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Digest
from nora.oci.errors import Unavailable
from nora.upstream import programs
from nora.upstream.credential import Credential, Kind
from nora.upstream.login import Realms
from nora.upstream.origin import Origin
from nora.upstream.outcomes import Absent
from nora.upstream.refusals import CredentialRefused
from nora.upstream.registry import Registry
from nora.upstream.sources import make_source
from tests.support.credential_case import ONE, PASSWORD, USER, CredentialTestCase, basic
from tests.support.fake_upstream import FakeUpstream, Fault
from tests.support.upstreams import IMAGE, LAYER, REACTOR, REPOSITORY


class UseTests(CredentialTestCase):
    """Which credential goes where."""

    async def test_token_service(self) -> None:
        """A token service is asked with Basic credentials; the registry sees its tokens alone."""
        upstream = await self.token_service()
        registry = self.ours(upstream, auth=f"{USER}:{PASSWORD}")
        self.assertEqual((await registry.manifest(REPOSITORY, ONE)).digest, IMAGE.digest)
        self.assertEqual(await self.download(registry, Digest.of(LAYER)), LAYER)
        self.assertEqual([seen.path for seen in upstream.requests if seen.headers.get("authorization") == basic()],
                         ["/token"])  # fmt: skip
        self.assertEqual(upstream.tokens, 1)
        self.assertEqual(upstream.seen("/token")[0].query["scope"], [f"repository:{REPOSITORY}:pull"])

    async def test_token_services_are_observed(self) -> None:
        """Each exchange with a token service is counted with its outcome, ours and an anonymous client's."""
        for make, own in ((self.token_service, True), (lambda: self.filled(auth=True), False)):
            upstream = await make()
            for status, outcome in (
                (200, "found"), (403, "denied" if not own else "unavailable"), (429, "limited"), (503, "unavailable")
            ):  # fmt: skip
                upstream.fault("/token", Fault(status=status) if status != 200 else Fault())
                kept: dict[str, Any] = {"auth": f"{USER}:{PASSWORD}"} if own else {}
                self.notes.answers.clear()
                asking = self.ours(upstream, **kept).manifest(REPOSITORY, ONE)
                await (asking if status == 200 else self.failure(asking))
                told = [outcome for _, kind, outcome in self.notes.answers if kind == "token"]
                self.assertEqual(told, [outcome], (own, status))

    async def test_anonymous_twin(self) -> None:
        """The twin without our credential sends none, and is refused where we are not."""
        upstream = await self.token_service()
        registry = self.ours(upstream, auth=f"{USER}:{PASSWORD}")
        await registry.manifest(REPOSITORY, ONE)
        assert registry.anonymous is not None
        upstream.requests.clear()
        error = await self.fails(registry.anonymous.describe(REPOSITORY, ONE), Absent)
        self.assertTrue(error.denied)
        self.assertEqual(self.sent(upstream), [])
        self.assertEqual([seen.headers.get("authorization") for seen in upstream.requests], [None, None])

    async def test_basic_as_ecr_private(self) -> None:
        """A Basic challenge is answered with the credential itself, sent ahead from then on."""
        upstream = await self.takes_basic()
        registry = self.ours(upstream, auth=f"{USER}:{PASSWORD}")
        await registry.manifest(REPOSITORY, ONE)
        await registry.describe(REPOSITORY, ONE)
        self.assertEqual(
            [seen.headers.get("authorization") for seen in upstream.requests], [None, basic(), basic()]
        )

    async def test_token_file(self) -> None:
        """A bearer token from a file is sent at once."""
        upstream = await self.filled(auth=True)
        upstream.keys = {"Bearer direct"}
        registry = self.ours(upstream, token_file=self.file("token", "direct\n"))
        await registry.manifest(REPOSITORY, ONE)
        self.assertEqual(upstream.count(), 1)

    async def test_identity_token(self) -> None:
        """An identity token is exchanged by POST, and is in no URL."""
        upstream = await self.filled(auth=True)
        upstream.logins = {"identity-secret"}
        upstream.token_member = "access_token"
        entry = {"auth": "", "identitytoken": "identity-secret"}
        registry = self.ours(upstream, docker_config=self.config(auths={f"127.0.0.1:{upstream.port}": entry}))
        await registry.manifest(REPOSITORY, ONE)
        [asked] = upstream.seen("/token")
        self.assertEqual((asked.method, asked.query), ("POST", {}))
        self.assertIn(b"grant_type=refresh_token", asked.body)

    async def test_redirects(self) -> None:
        """Where a registry redirects to, neither Basic nor our token goes, and not back again either."""
        for make in (self.takes_basic, self.token_service):
            upstream, storage = await make(), await self.filled()
            upstream.fault("*/blobs/*", Fault(redirect=storage.url + "{path}"))
            storage.presigned = True
            self.assertEqual(
                await self.download(self.ours(upstream, auth=f"{USER}:{PASSWORD}"), Digest.of(LAYER)), LAYER
            )
            self.assertEqual([seen.headers.get("authorization") for seen in storage.requests], [None])

    async def test_redirected_token_service(self) -> None:
        """A token service that redirects takes our credential nowhere: GET goes on without, POST does not."""
        upstream, other = await self.token_service(), await self.filled(auth=True)
        upstream.fault("/token", Fault(redirect=other.url + "/token"))
        await self.failure(self.ours(upstream, auth=f"{USER}:{PASSWORD}").manifest(REPOSITORY, ONE))
        self.assertEqual(self.sent(other), [])
        entry = {"identitytoken": "identity-secret"}
        path = self.config(auths={f"127.0.0.1:{upstream.port}": entry})
        other.requests.clear()
        await self.failure(self.ours(upstream, docker_config=path).manifest(REPOSITORY, ONE))
        self.assertEqual(other.count(), 0)

    async def test_foreign_realm(self) -> None:
        """A token service on another host gets nothing, unless it is listed; the operator is told once."""
        upstream, other = await self.token_service(), await self.filled(auth=True)
        other.logins = {basic()}
        foreign = f"localhost:{other.port}"
        upstream.challenge = f'Bearer realm="http://{foreign}/token",service="fake"'
        registry = self.ours(upstream, auth=f"{USER}:{PASSWORD}")
        for _ in range(2):
            error = await self.fails(registry.manifest(REPOSITORY, ONE), Unavailable)
            self.assertIn("realms", error.message)
        self.assertEqual(other.count(), 0)
        self.assertEqual(sum("realms" in str(event) for event in self.logged), 1)
        listed = self.ours(upstream, auth=f"{USER}:{PASSWORD}", realms=(foreign,))
        await self.failure(listed.manifest(REPOSITORY, ONE))
        self.assertEqual(self.sent(other), [basic()])

    async def test_second_registry(self) -> None:
        """A second registry behind a redirect is asked anonymously, whatever its challenge says."""
        upstream, second = await self.takes_basic(), await self.filled(auth=True)
        second.challenge = 'Basic realm="x"'
        upstream.fault("*/manifests/*", Fault(redirect=second.url + "{path}"))
        await self.failure(self.ours(upstream, auth=f"{USER}:{PASSWORD}").manifest(REPOSITORY, ONE))
        second.challenge = 'Bearer realm="{url}/token"'
        await self.ours(upstream, auth=f"{USER}:{PASSWORD}").manifest(REPOSITORY, ONE)
        self.assertEqual(self.sent(second), [])


class RefusedTests(CredentialTestCase):
    """A credential that is not taken."""

    async def loudly(self, registry: Registry, upstream: FakeUpstream) -> None:
        for _ in range(2):
            error = await self.fails(registry.manifest(REPOSITORY, ONE), CredentialRefused)
            self.assertEqual(error.message, "our credential was refused")
        self.assertEqual(registry.state().last_error, "our credential was refused")
        self.assertEqual(self.notes.refused, 1, "the second time it was not shown")
        self.assertEqual({outcome for _, _, outcome in self.notes.answers}, {"unavailable"})
        self.assertEqual(sum("our credential was refused" in str(event) for event in self.logged), 1)
        self.assertNotIn("wrong-secret", self.said())

    async def test_by_the_token_service(self) -> None:
        """It is an outage, not an absence, and the log tells it once."""
        upstream = await self.token_service()
        await self.loudly(self.ours(upstream, auth=f"{USER}:wrong-secret"), upstream)

    async def test_by_the_token_service_with_403(self) -> None:
        """A 403 to a login without a scope too says that it is the credential."""
        upstream = await self.token_service()
        upstream.fault("/token", Fault(status=403))
        await self.loudly(self.ours(upstream, auth=f"{USER}:wrong-secret"), upstream)

    async def test_by_a_registry_that_takes_basic(self) -> None:
        """A 401 to the credential itself says so."""
        upstream = await self.takes_basic()
        await self.loudly(self.ours(upstream, auth=f"{USER}:wrong-secret"), upstream)

    async def test_by_a_registry_that_takes_bearers(self) -> None:
        """A 401 to the token from a file says so."""
        upstream = await self.filled(auth=True)
        upstream.keys = {"Bearer other"}
        await self.loudly(self.ours(upstream, token_file=self.file("token", "wrong-secret")), upstream)

    async def test_a_repository_that_is_not_ours(self) -> None:
        """A 403 for the repository alone is an absence: the credential is fine."""
        upstream = await self.token_service()
        upstream.member_of = {"team/other"}
        error = await self.fails(
            self.ours(upstream, auth=f"{USER}:{PASSWORD}").manifest(REPOSITORY, ONE), Absent
        )
        self.assertTrue(error.denied)
        direct = await self.takes_basic()
        direct.fault("*/manifests/*", Fault(status=403))
        registry = self.ours(direct, auth=f"{USER}:{PASSWORD}")
        await self.fails(registry.manifest("team/x", ONE), Absent)
        direct.heal()
        await registry.manifest(REPOSITORY, ONE)
        direct.fault("*/manifests/*", Fault(status=403))
        await self.fails(registry.manifest(REPOSITORY, ONE), Absent)
        await self.fails(registry.describe(REPOSITORY, ONE), Absent)
        self.assertEqual(self.notes.refused, 0)

    async def test_no_way_to_log_in(self) -> None:
        """A 401 without a challenge, and a Basic challenge to a token, are told, and nothing is sent."""
        upstream = await self.token_service()
        upstream.challenge = ""
        error = await self.fails(
            self.ours(upstream, auth=f"{USER}:{PASSWORD}").manifest(REPOSITORY, ONE), Unavailable
        )
        self.assertIn("how to log in", error.message)
        upstream.challenge = 'Basic realm="x"'
        path = self.config(auths={f"127.0.0.1:{upstream.port}": {"identitytoken": "identity-secret"}})
        await self.fails(self.ours(upstream, docker_config=path).manifest(REPOSITORY, ONE), Unavailable)
        self.assertEqual(self.sent(upstream), [])

    async def test_refused_then_changed(self) -> None:
        """A file is read again when it changes; a token kept for the old credential is of no use to it."""
        upstream = await self.token_service()
        path = self.file("password", "wrong-secret")
        registry = self.ours(upstream, username=USER, password_file=path)
        await self.fails(registry.manifest(REPOSITORY, ONE), CredentialRefused)
        self.file("password", f"{PASSWORD}\n")
        await registry.manifest(REPOSITORY, ONE)
        upstream.logins = {basic(password="third")}
        upstream.revoke()
        self.file("password", "third")
        await registry.manifest(REPOSITORY, ONE)


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
