"""Tokens and redirects on real sockets: what is sent to whom."""

from __future__ import annotations

import attrs

from nora.oci import Digest, Tag
from nora.oci.errors import Limited, TimedOut, Unavailable, Unverified
from nora.upstream.outcomes import Absent
from tests.support.fake_upstream import FakeUpstream, Fault, make_image
from tests.support.upstreams import REPOSITORY, UpstreamTestCase

ONE = Tag("1")
LAYER = b"layer" * 1000


def bearers(upstream: FakeUpstream, pattern: str = "/v2/*") -> list[str | None]:
    return [seen.headers.get("authorization") for seen in upstream.seen(pattern)]


class TokenDanceTests(UpstreamTestCase):
    """A registry that wants a token for each repository."""

    upstream: FakeUpstream

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.image = make_image([LAYER])
        self.layer = Digest.of(LAYER)
        self.upstream = await self.fake(auth=True)
        for repository in (REPOSITORY, "team/other"):
            self.upstream.add_image(repository, "1", self.image)
        self.client = self.registry(self.upstream.url, proxy_timeout=5.0)

    async def test_dance(self) -> None:
        """A 401, a token for the repository that is wanted, once more; the placeholder in the challenge is not used."""
        await self.client.manifest(REPOSITORY, ONE)
        self.assertEqual(
            [(seen.method, seen.path) for seen in self.upstream.requests],
            [("GET", "/v2/team/app/manifests/1"), ("GET", "/token"), ("GET", "/v2/team/app/manifests/1")],
        )
        self.assertEqual(
            self.upstream.seen("/token")[0].query,
            {"service": ["fake"], "scope": ["repository:team/app:pull"]},
        )
        self.assertEqual(bearers(self.upstream), [None, "Bearer token-1"])
        self.assertEqual(bearers(self.upstream, "/token"), [None])
        self.assertEqual(self.notes.tokens, 1)

    async def test_kept_and_asked_for_ahead(self) -> None:
        """The token serves again; for another repository one is asked for before the first request."""
        await self.client.manifest(REPOSITORY, ONE)
        await self.download(self.client, self.layer)
        await self.client.describe("team/other", ONE)
        self.assertEqual(bearers(self.upstream), [None, "Bearer token-1", "Bearer token-1", "Bearer token-2"])

    async def test_one_request_with_a_token_in_hand(self) -> None:
        """A HEAD after the first dance is one request; when the token's time is up, the token's own comes before it."""
        await self.client.manifest(REPOSITORY, ONE)
        self.upstream.requests.clear()
        await self.client.describe(REPOSITORY, ONE)
        self.assertEqual([seen.method for seen in self.upstream.requests], ["HEAD"])
        self.upstream.token_answer = {"expires_in": 1}
        for _ in range(2):
            self.upstream.requests.clear()
            await self.client.describe("team/other", ONE)
            self.assertEqual(
                [(seen.method, seen.path) for seen in self.upstream.requests],
                [("GET", "/token"), ("HEAD", "/v2/team/other/manifests/1")],
            )

    async def test_revoked(self) -> None:
        """A token that is refused is dropped, and another asked for, once."""
        await self.client.manifest(REPOSITORY, ONE)
        self.upstream.revoke()
        await self.client.manifest(REPOSITORY, ONE)
        self.assertEqual(bearers(self.upstream)[2:], ["Bearer token-1", "Bearer token-2"])

    async def test_expired_by_403(self) -> None:
        """A 403 that says that the token expired is cured by another token; any other 403 is a no."""
        await self.client.manifest(REPOSITORY, ONE)
        self.upstream.fault("/v2/*", Fault(status=403, code="DENIED: token has EXPIRED", times=1))
        await self.client.manifest(REPOSITORY, ONE)
        self.assertEqual(self.upstream.tokens, 2)
        self.upstream.fault("/v2/*", Fault(status=403))
        self.assertTrue((await self.fails(self.client.manifest(REPOSITORY, ONE), Absent)).denied)
        self.assertEqual(self.upstream.tokens, 2)

    async def test_denied_with_a_token(self) -> None:
        """A new token that is refused is a no: as Docker Hub says it of what is private or missing."""
        self.upstream.fault("/v2/team/secret/*", Fault(status=401, headers=self.challenge()))
        for expected in (1, 2):
            denied = await self.fails(self.client.manifest("team/secret", ONE), Absent)
            self.assertTrue(denied.denied)
            self.assertEqual(self.upstream.tokens, expected)
        self.assertEqual(self.upstream.count("/v2/*"), 3)
        await self.client.manifest(REPOSITORY, ONE)

    async def test_endless_dance(self) -> None:
        """A registry that asks for another service's token each time is given up."""
        urls = [f'Bearer realm="{self.upstream.url}/token",service="s{number}"' for number in range(10)]
        for challenge in urls:
            headers = (("WWW-Authenticate", challenge),)
            self.upstream.fault("/v2/*", Fault(status=401, headers=headers, times=1))
        await self.fails(self.client.manifest(REPOSITORY, ONE), Unavailable)
        self.assertEqual(self.upstream.count("/v2/*"), 4)

    async def test_no_bearer(self) -> None:
        """Where only a password would help, an anonymous client is denied."""
        self.upstream.challenge = 'Basic realm="{url}/",service="ecr"'
        self.assertTrue((await self.fails(self.client.manifest(REPOSITORY, ONE), Absent)).denied)
        self.assertEqual(self.upstream.tokens, 0)

    async def test_challenge_among_others(self) -> None:
        """The Bearer challenge is found among others, with commas in quotes."""
        self.upstream.challenge = (
            'Negotiate abc=, Basic realm="a, b", Bearer service="f,g", realm="{url}/token?x=1"'
        )
        await self.client.manifest(REPOSITORY, ONE)
        self.assertEqual(
            self.upstream.seen("/token")[0].query,
            {"x": ["1"], "service": ["f,g"], "scope": ["repository:team/app:pull"]},
        )

    async def test_token_service(self) -> None:
        """What the token service answers decides: a refusal is a no, a limit a limit, anything else not known."""
        for fault, kind in (
            (Fault(status=401), Absent),
            (Fault(status=403), Absent),
            (Fault(status=429, headers=(("Retry-After", "9"),)), Limited),
            (Fault(status=500), Unavailable),
            (Fault(html=True), Unavailable),
            (Fault(drop=True), Unavailable),
        ):
            self.upstream.fault("/token", fault)
            error = await self.fails(self.client.manifest(REPOSITORY, ONE), kind)
            if isinstance(error, Limited):
                self.assertEqual(error.retry_after, 9)
                again = self.registry(self.upstream.url)
                await self.fails(again.manifest(REPOSITORY, ONE), Limited)
                count = len(self.upstream.requests)
                await self.fails(again.manifest(REPOSITORY, ONE), Limited)
                self.assertEqual(len(self.upstream.requests), count)
                self.client = self.registry(self.upstream.url)

    async def test_token_answer_is_bounded(self) -> None:
        """An answer of more than 64 KiB is no token."""
        self.upstream.token_answer = {"padding": "x" * 70_000}
        await self.fails(self.client.manifest(REPOSITORY, ONE), Unverified)

    async def test_budget_covers_the_token(self) -> None:
        """Challenge and token are within the one budget."""
        client = self.registry(self.upstream.url, proxy_timeout=0.2)
        self.upstream.fault("/token", Fault(hold=True))
        await self.fails(client.manifest(REPOSITORY, ONE), TimedOut)

    def challenge(self) -> tuple[tuple[str, str], ...]:
        return (("WWW-Authenticate", self.upstream.challenge.replace("{url}", self.upstream.url)),)


class RedirectTests(UpstreamTestCase):
    """A registry that sends its readers elsewhere, and a storage that takes no token."""

    upstream: FakeUpstream
    storage: FakeUpstream

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.image = make_image([LAYER])
        self.layer = Digest.of(LAYER)
        self.upstream = await self.fake(auth=True)
        self.storage = await self.fake()
        self.storage.presigned = True
        for registry in (self.upstream, self.storage):
            registry.add_image(REPOSITORY, "1", self.image)
        self.client = self.registry(self.upstream.url, proxy_timeout=5.0)

    def send_on(self, target: str, pattern: str = "/v2/*/blobs/*") -> None:
        """Redirect whoever holds a token."""
        self.upstream.auth = False
        self.upstream.fault(pattern, Fault(redirect=target))

    async def test_token_stays_behind(self) -> None:
        """The token goes to the registry, and not to the storage that it redirects to; the signed URL stays exact."""
        await self.client.manifest(REPOSITORY, ONE)
        self.send_on(self.storage.url + "{path}?X-Sig=a%2Bb%2f&X-Empty=&x")
        self.assertEqual(await self.download(self.client, self.layer), LAYER)
        self.assertEqual(bearers(self.upstream)[-1], "Bearer token-1")
        (seen,) = self.storage.requests
        self.assertNotIn("authorization", seen.headers)
        self.assertEqual(seen.query, {"X-Sig": ["a+b/"]})

    async def test_token_is_not_restored(self) -> None:
        """Led away and back, the token is not taken up again."""
        await self.client.manifest(REPOSITORY, ONE)
        self.send_on(self.storage.url + "/back")
        self.storage.presigned = False
        self.storage.fault("/back", Fault(redirect=f"{self.upstream.url}/elsewhere"))
        await self.fails(self.client.blob(REPOSITORY, self.layer), Absent)
        self.assertEqual(bearers(self.upstream)[-1], "Bearer token-1")
        self.assertEqual(bearers(self.upstream, "/elsewhere"), [None])
        self.assertEqual(bearers(self.storage, "/back"), [None])

    async def test_token_stays_on_the_same_origin(self) -> None:
        """A relative redirect on the same host keeps the token."""
        await self.client.manifest(REPOSITORY, ONE)
        self.send_on("/elsewhere?x")
        await self.fails(self.client.blob(REPOSITORY, self.layer), Absent)
        self.assertEqual(bearers(self.upstream, "/elsewhere"), ["Bearer token-1"])

    async def test_range_goes_along(self) -> None:
        """The storage is asked for the same range."""
        self.send_on(self.storage.url + "{path}")
        self.assertEqual(await self.download(self.client, self.layer, 100), LAYER[100:])
        self.assertEqual(self.storage.requests[0].headers["range"], "bytes=100-")

    async def test_head_stays_head(self) -> None:
        """A HEAD is redirected as a HEAD."""
        self.send_on(self.storage.url + "{path}")
        self.assertEqual(await self.client.describe_blob(REPOSITORY, self.layer), len(LAYER))
        self.assertEqual([seen.method for seen in self.storage.requests], ["HEAD"])

    async def test_at_most_five(self) -> None:
        """Five redirects are followed, a sixth is not."""
        self.upstream.auth = False
        path = f"/v2/{REPOSITORY}/blobs/{self.layer}"
        self.upstream.fault(path, Fault(redirect="/hop", times=1))
        self.upstream.fault("/hop", Fault(redirect=path))
        self.upstream.fault("/hop", Fault(redirect="/hop", times=3))
        self.assertEqual(await self.download(self.client, self.layer), LAYER)
        self.assertEqual(self.upstream.count("/hop"), 4)
        self.upstream.fault("/hop", Fault(redirect="/hop"))
        self.upstream.fault(path, Fault(redirect="/hop"))
        await self.fails(self.client.blob(REPOSITORY, self.layer), Unverified)
        self.assertEqual(self.upstream.count("/hop"), 4 + 5)

    async def test_bad_locations(self) -> None:
        """Where a redirect must not lead is not asked, and the error does not quote it."""
        for target in (
            "",
            "ftp://127.0.0.1/x",
            f"http://user:secret@127.0.0.1:{self.storage.port}/",
            "https://",
            "http://127.0.0.1:99999/",
        ):
            self.send_on(target)
            error = await self.fails(self.client.blob(REPOSITORY, self.layer), Unverified)
            self.assertNotIn("secret", error.message)
        self.assertEqual(self.storage.requests, [])

    async def test_storage_that_refuses(self) -> None:
        """A storage's 403 is not the registry's no: it may be an expired signature. Its 404 is one."""
        self.send_on(self.storage.url + "{path}")
        self.storage.fault("*", Fault(status=403))
        await self.fails(self.client.blob(REPOSITORY, self.layer), Unavailable)
        self.storage.fault("*", Fault(status=401))
        await self.fails(self.client.blob(REPOSITORY, self.layer), Unavailable)
        self.storage.fault("*", Fault(status=404))
        await self.fails(self.client.blob(REPOSITORY, self.layer), Absent)

    async def test_errors_do_not_quote_signed_urls(self) -> None:
        """Whatever goes wrong behind a redirect, its query is in no message."""
        self.send_on(self.storage.url + "{path}?X-Signature=secret")
        for fault in (
            Fault(status=403),
            Fault(status=500),
            Fault(drop=True),
            Fault(redirect="/{path}?more=secret"),
        ):
            self.storage.fault("*", fault)
            error = await self.failure(self.client.blob(REPOSITORY, self.layer))
            self.assertNotIn("secret", str(error))
            self.assertNotIn("secret", self.client.state().last_error or "")

    async def test_bodies_of_redirects(self) -> None:
        """A redirect's body is read only if it is short and comes at once; else its connection is closed."""
        self.upstream.auth = False
        for fault in (Fault(padding=10_000_000), Fault(padding=1000, stall=10)):
            target = self.storage.url + "{path}"
            self.upstream.fault("/v2/*", attrs.evolve(fault, redirect=target))
            self.assertEqual(await self.download(self.client, self.layer), LAYER)
            await self.until(lambda: self.upstream.connections == self.upstream.closed)
        self.assertLess(sum(self.upstream.sent.values()), 9_000_000)

    async def test_second_registry(self) -> None:
        """A registry behind the redirect with a challenge of its own gets a token of its own, for its own name."""
        behind = await self.fake(auth=True)
        behind.add_image("images/team/app", "1", self.image)
        self.upstream.auth = False
        for kind in ("manifests/1", f"blobs/{self.layer}"):
            target = f"{behind.url}/v2/images/{REPOSITORY}/{kind}"
            self.upstream.fault(f"/v2/{REPOSITORY}/{kind}", Fault(redirect=target))
        self.assertEqual((await self.client.manifest(REPOSITORY, ONE)).digest, self.image.digest)
        self.assertEqual(behind.seen("/token")[0].query["scope"], ["repository:images/team/app:pull"])
        self.assertEqual(bearers(behind), [None, "Bearer token-1"])
        self.assertEqual(await self.download(self.client, self.layer), LAYER)
        self.assertEqual((bearers(behind)[2:], behind.tokens), (["Bearer token-1"], 1))
        self.assertEqual(set(bearers(self.upstream)), {None})
        behind.fault("/v2/*", Fault(status=403))
        self.assertTrue((await self.fails(self.client.manifest(REPOSITORY, ONE), Absent)).denied)

    async def test_second_registry_without_a_name(self) -> None:
        """Where the path behind the redirect holds no repository's name, the token is for the one that is wanted."""
        behind = await self.fake(auth=True)
        for path in ("/v2/UPPER/manifests/1", "/elsewhere"):
            self.send_on(behind.url + path, "/v2/*/manifests/*")
            await self.failure(self.client.manifest(REPOSITORY, ONE))
            self.assertEqual(behind.seen("/token")[-1].query["scope"], [f"repository:{REPOSITORY}:pull"])

    async def test_tokens_of_both(self) -> None:
        """The first registry's token and the second's go each to its own."""
        behind = await self.fake(auth=True)
        behind.add_image(REPOSITORY, "1", self.image)
        behind.token_answer = {"token": "of-the-second"}
        await self.client.describe(REPOSITORY, ONE)
        self.send_on(behind.url + "{path}", "/v2/*/manifests/*")
        behind.valid.add(("of-the-second", f"repository:{REPOSITORY}:pull"))
        self.assertEqual((await self.client.manifest(REPOSITORY, ONE)).digest, self.image.digest)
        self.assertEqual(bearers(self.upstream)[2:], ["Bearer token-1"] * 2)
        self.assertEqual(bearers(behind), [None, "Bearer of-the-second"])
