"""Our credential at an upstream: it is used where it must be, and nobody else ever sees it."""

from __future__ import annotations

from typing import Any

from nora.oci import Digest
from nora.oci.errors import Unavailable
from nora.upstream.outcomes import Absent
from nora.upstream.refusals import CredentialRefused
from nora.upstream.registry import Registry
from tests.support.credential_case import ONE, PASSWORD, USER, CredentialTestCase, basic
from tests.support.fake_upstream import FakeUpstream, Fault
from tests.support.upstreams import IMAGE, LAYER, REPOSITORY


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
