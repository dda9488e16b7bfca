"""Bearer tokens: asked for once, kept for a while, dropped when refused."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, urlencode

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.concurrency import Background
from nora.oci.errors import Limited, NoraError, Unavailable
from nora.upstream.challenge import Challenge
from nora.upstream.origin import Origin
from nora.upstream.outcomes import Absent
from nora.upstream.tokens import MAX_TOKENS, Fetched, Service, Token, Tokens

HUB = Origin("https", "registry-1.docker.io", 443)
CHALLENGE = Challenge(
    "bearer",
    {"realm": "https://auth.example/token", "service": "hub", "scope": "repository:some/placeholder:pull"},
)
URL = "https://auth.example/token?service=hub&scope=repository%3A"

_documents = st.recursive(
    st.none() | st.text(max_size=5) | st.floats() | st.integers(),
    lambda inner: st.dictionaries(st.sampled_from(["token", "access_token", "expires_in"]), inner),
).map(lambda value: json.dumps(value).encode())


class TokensTests(SynchronousTestCase):
    """One upstream's tokens, over a token service that the test plays."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.background = Background()
        self.urls: list[str] = []
        self.answers: list[Fetched] = []
        self.pending: Deferred[None] | None = None
        self.tokens = Tokens(self.fetch, self.clock, self.background)

    async def fetch(self, url: str) -> Fetched:
        self.urls.append(url)
        if self.pending is not None:
            await self.pending
        if self.answers:
            return self.answers.pop(0)
        return Fetched(200, json.dumps({"token": f"t{len(self.urls)}", "expires_in": 300}).encode())

    def answer(self, **members: object) -> None:
        self.answers.append(Fetched(200, json.dumps(members).encode()))

    def renew(
        self, repository: str = "a/b", challenge: Challenge | None = CHALLENGE
    ) -> Deferred[Token | None]:
        return Deferred.fromCoroutine(self.tokens.renew(HUB, repository, challenge))

    def ahead(self, repository: str = "a/b", origin: Origin = HUB) -> Deferred[Token | None]:
        return Deferred.fromCoroutine(self.tokens.ahead(origin, repository))

    def text(self, asked: Deferred[Token | None]) -> str | None:
        token = self.successResultOf(asked)
        return token.text if token is not None else None

    def test_scope_is_ours(self) -> None:
        """The scope is the repository's that is wanted, whatever the challenge says; the service is the challenge's."""
        self.assertEqual(self.text(self.renew("team/app")), "t1")
        self.assertEqual(self.urls, [URL + "team%2Fapp%3Apull"])
        self.assertEqual(len(self.urls), 1)

    def test_scope_of_another_form(self) -> None:
        """A scope that names no repository serves all, so one token does."""
        challenge = Challenge("bearer", {"realm": "https://public.ecr.aws/token/", "scope": "aws"})
        self.assertEqual(self.text(self.renew("a", challenge)), "t1")
        self.assertEqual(self.urls, ["https://public.ecr.aws/token/?scope=aws"])
        self.assertEqual(self.text(self.ahead("b")), "t1")

    def test_query_of_the_realm_stays(self) -> None:
        """A realm's own query is kept, its fragment is not sent."""
        challenge = Challenge("bearer", {"realm": "https://h/auth?account=x#y"})
        self.successResultOf(self.renew("a", challenge))
        self.assertEqual(self.urls, ["https://h/auth?account=x&scope=repository%3Aa%3Apull"])

    def test_scope_in_the_realm(self) -> None:
        """A repository's scope in the realm's own query is not asked for: it may be another's."""
        for query, expected in (
            ("?scope=repository:user/image:pull", "?"),
            ("?a=1&scope=repository%3Auser%2Fimage%3Apull&b", "?a=1&b&"),
            ("?scope=aws", "?scope=aws&"),
            ("?", "?"),
        ):
            service = Service(f"https://auth.example/token{query}", None, None)
            wanted = f"https://auth.example/token{expected}scope=repository%3Aa%2Fb%3Apull"
            self.assertEqual(service.url_for("a/b", HUB), wanted)

    @given(
        st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=4),
        st.none() | st.text(min_size=1, max_size=12),
        st.none() | st.text(min_size=1, max_size=12),
    )
    def test_any_challenge(self, own: list[tuple[str, str]], service: str | None, scope: str | None) -> None:
        """Whatever a challenge says, its realm is asked, its own query first, and nothing of it becomes more."""
        parameters = {"realm": f"https://auth.example:8443/token?{urlencode(own)}#x"}
        parameters.update({key: value for key, value in (("service", service), ("scope", scope)) if value})
        url = Service.of(Challenge("bearer", parameters)).url_for("a/b", HUB)
        self.assertEqual(Origin.of(url), Origin("https", "auth.example", 8443))
        wanted = "repository:a/b:pull" if scope is None or scope.startswith("repository:") else scope
        kept = [pair for pair in own if pair[0] != "scope" or not pair[1].startswith("repository:")]
        added = [("service", service)] if service else []
        self.assertEqual(
            parse_qsl(url.partition("?")[2], keep_blank_values=True), [*kept, *added, ("scope", wanted)]
        )

    def test_ahead(self) -> None:
        """Before any challenge there is nothing to ask; afterwards a new repository's token is asked for ahead."""
        self.assertIsNone(self.text(self.ahead()))
        self.assertIsNone(self.successResultOf(self.renew(challenge=None)))
        self.successResultOf(self.renew())
        self.assertEqual(self.text(self.ahead("other")), "t2")
        self.assertEqual(self.text(self.ahead("other")), "t2")
        self.assertIsNone(self.text(self.ahead("other", Origin("https", "else", 443))))
        self.assertEqual(len(self.urls), 2)

    def test_fresh_or_kept(self) -> None:
        """A token says whether it was given just now, and by which service."""
        first, second = self.successResultOf(self.renew()), self.successResultOf(self.ahead())
        assert first is not None
        assert second is not None
        self.assertEqual(first.fresh, Service.of(CHALLENGE))
        self.assertIsNone(second.fresh)
        self.assertNotIn("t1", repr(first))

    def test_lifetime(self) -> None:
        """A token is used for 5 minutes, or its `expires_in` where that is shorter, less a margin."""
        table: list[tuple[object, int]] = [(300, 295), (60, 55), (43200, 295), (1e9, 295)]
        table += [(unusable, 295) for unusable in (None, True, "9", 0, -5, float("nan"))]
        for told, lifetime in table:
            self.tokens = Tokens(self.fetch, self.clock, self.background)
            self.answer(token="kept", expires_in=told)
            self.successResultOf(self.renew())
            self.clock.advance(lifetime - 1)
            self.assertEqual(self.text(self.ahead()), "kept", told)
            self.clock.advance(1)
            self.assertNotEqual(self.text(self.ahead()), "kept", told)

    def test_too_short_to_keep(self) -> None:
        """A token that expires within the margin serves its one request."""
        self.answer(token="once", expires_in=4)
        self.assertEqual(self.text(self.renew()), "once")
        self.assertEqual(len(self.tokens), 0)

    def test_lifetime_runs_from_the_question(self) -> None:
        """The time that the token service took is not added to the token's."""
        self.pending = Deferred()
        asked = self.renew()
        self.clock.advance(100)
        pending, self.pending = self.pending, None
        pending.callback(None)
        self.assertEqual(self.text(asked), "t1")
        self.clock.advance(195)
        self.assertEqual(self.text(self.ahead()), "t2")

    def test_access_token(self) -> None:
        """`access_token` is the same by another name."""
        self.answer(access_token="other")
        self.assertEqual(self.text(self.renew()), "other")

    def test_refused(self) -> None:
        """A refused token is dropped, but not one that took its place meanwhile."""
        self.successResultOf(self.renew())
        self.tokens.refused(HUB, "a/b", "Bearer an older one")
        self.assertEqual(self.text(self.ahead()), "t1")
        self.tokens.refused(HUB, "a/b", "Bearer t1")
        self.assertIsNone(self.tokens.kept(HUB, "a/b"))
        self.assertEqual(self.text(self.ahead()), "t2")
        self.tokens.refused(Origin("https", "else", 443), "a/b", "t2")
        self.assertEqual(self.text(self.ahead()), "t2")

    def test_single_flight(self) -> None:
        """Any number who want one token ask once; each repository has its own."""
        self.pending = Deferred()
        waiting = [self.renew() for _ in range(10)]
        waiting[3].addErrback(lambda _: None)
        waiting[3].cancel()
        self.assertEqual(len(self.urls), 1)
        pending, self.pending = self.pending, None
        pending.callback(None)
        self.assertEqual([self.text(each) for each in waiting[:3] + waiting[4:]], ["t1"] * 9)

    def test_failure_is_shared_and_not_kept(self) -> None:
        """All who wait hear of a failure; the next one asks again."""
        self.pending = Deferred()
        self.answers.append(Fetched(500, b""))
        waiting = [self.renew() for _ in range(3)]
        pending, self.pending = self.pending, None
        pending.callback(None)
        for each in waiting:
            self.failureResultOf(each, Unavailable)
        self.assertEqual(self.text(self.renew()), "t2")

    def test_bounded(self) -> None:
        """At most 10,000 tokens are kept; the least recently used go first."""
        self.successResultOf(self.renew("r0"))
        self.successResultOf(self.renew("r1"))
        for number in range(2, MAX_TOKENS):
            self.successResultOf(self.ahead(f"r{number}"))
        self.successResultOf(self.ahead("r0"))
        self.successResultOf(self.ahead("one/more"))
        self.assertEqual(len(self.tokens), MAX_TOKENS)
        self.assertIsNotNone(self.tokens.kept(HUB, "r0"))
        self.assertIsNone(self.tokens.kept(HUB, "r1"))

    def test_services_are_bounded(self) -> None:
        """Of any number of origins with token services at most 64 are remembered."""
        for number in range(100):
            origin = Origin("https", f"h{number}", 443)
            self.successResultOf(Deferred.fromCoroutine(self.tokens.renew(origin, "a", CHALLENGE)))
        self.assertIsNone(self.text(self.ahead("a", Origin("https", "h0", 443))))
        self.assertIsNotNone(self.text(self.ahead("a", Origin("https", "h99", 443))))

    def test_outcomes(self) -> None:
        """What a token service answers in place of a token."""
        table: list[tuple[Fetched, type[NoraError]]] = [
            (Fetched(401, b""), Absent),
            (Fetched(403, b""), Absent),
            (Fetched(429, b"", 7), Limited),
            (Fetched(404, b""), Unavailable),
            (Fetched(500, b""), Unavailable),
            (Fetched(200, b"<html>"), Unavailable),
            (Fetched(200, b"[]"), Unavailable),
            (Fetched(200, b"[" * 50_000), Unavailable),
            (Fetched(200, b"{}"), Unavailable),
            (Fetched(200, b'{"token": ""}'), Unavailable),
            (Fetched(200, b'{"token": 5}'), Unavailable),
            (Fetched(200, b'{"token": "a b"}'), Unavailable),
            (Fetched(200, b'{"token": "a\\r\\nX: y"}'), Unavailable),
            (Fetched(200, json.dumps({"token": "x" * 40_000}).encode()), Unavailable),
        ]
        for answer, kind in table:
            self.answers.append(answer)
            error = self.failureResultOf(self.renew(), kind).value
            if isinstance(error, Absent):
                self.assertTrue(error.denied)
            if isinstance(error, Limited):
                self.assertEqual(error.retry_after, 7)
        self.assertEqual(len(self.tokens), 0)

    def test_unsafe_realms(self) -> None:
        """A realm that is no http(s) URL, holds user information, or leads from https to http is not asked."""
        for realm in ("ftp://h/", "/token", "https://u:p@h/", "http://h/token", "https://h/\u00e4"):
            error = self.failureResultOf(
                self.renew(challenge=Challenge("bearer", {"realm": realm})), Unavailable
            ).value
            self.assertNotIn("u:p", error.message)
        self.assertEqual(self.urls, [])

    def test_http_for_http(self) -> None:
        """An http upstream may have its token service on http."""
        challenge = Challenge("bearer", {"realm": "http://h/token"})
        asked = Deferred.fromCoroutine(self.tokens.renew(Origin("http", "h", 80), "a", challenge))
        self.assertEqual(self.text(asked), "t1")

    @given(st.binary(max_size=60) | _documents)
    def test_any_answer(self, body: bytes) -> None:
        """Any body gives a token that can be sent, or an error of the domain."""
        self.tokens = Tokens(self.fetch, self.clock, self.background)
        self.answers = [Fetched(200, body)]
        asked = self.renew()
        failures: list[object] = []
        asked.addErrback(lambda failure: failures.append(failure.trap(NoraError)))
        if not failures:
            text = self.text(asked)
            assert text
            self.assertTrue(text.isascii() and text.isprintable() and " " not in text)
