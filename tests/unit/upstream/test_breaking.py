"""Dead upstreams on real sockets: what the circuit makes of them, and what it costs those who pull."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry

from nora.oci import Digest, Repository, Tag
from nora.oci.errors import Limited, ManifestUnknown, NoraError, TimedOut, Unavailable, Unverified
from nora.telemetry import Metrics
from nora.upstream import circuit
from nora.upstream.chain import Found, first
from nora.upstream.interfaces import Candidate
from nora.upstream.outcomes import Absent
from nora.upstream.registry import Registry
from tests.support.authority import Authority
from tests.support.fake_upstream import FakeUpstream, Fault
from tests.support.upstreams import IMAGE, LAYER, REACTOR, REPOSITORY, UpstreamTestCase

ONE = Tag("1")


class BreakingTests(UpstreamTestCase):
    """One registry that dies in many ways, and one that lives."""

    upstream: FakeUpstream
    live: Registry

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.upstream = await self.filled()
        self.live = self.registry(self.upstream.url, name="live")

    def word(self, registry: Registry) -> str:
        return registry.circuit.state().word

    async def try_three(self, registry: Registry, kind: type[NoraError] = Unavailable) -> None:
        for _ in range(3):
            self.assertEqual(self.word(registry), "closed")
            await self.fails(registry.manifest(REPOSITORY, ONE), kind)

    async def test_every_way_of_being_dead(self) -> None:
        """A refused connection, a failed handshake, a silence, an unknown name, and a connection that is cut."""
        stranger = await self.fake(authority=Authority())
        _, silent = self.silent()
        self.upstream.refusing = True
        for url, kind in (
            ("http://127.0.0.1:1", Unavailable),
            (stranger.url, Unavailable),
            (silent, TimedOut),
            ("http://nowhere.invalid", Unavailable),
            (self.upstream.url, Unavailable),
        ):
            dead = self.registry(url, proxy_timeout=0.2 if kind is TimedOut else 5.0)
            await self.try_three(dead, kind)
            self.assertEqual(self.word(dead), "open", url)
        self.assertEqual(self.notes.circuits.count(True), 5)

    async def test_answers_are_life(self) -> None:
        """404, 401, 403, 429 and a lie, however often, open nothing."""
        for fault in (
            Fault(status=404),
            Fault(status=401),
            Fault(status=403),
            Fault(status=429),
            Fault(html=True),
        ):
            self.upstream.fault("*", fault)
            for name in ("a", "b", "c", "d"):
                error = await self.failure(self.live.manifest(name, ONE))
                self.assertIsInstance(error, NoraError)
            self.assertEqual(self.word(self.live), "closed", fault)

    async def test_a_body_that_stops_is_no_silence(self) -> None:
        """After the headers came, it lives, whatever becomes of the body."""
        self.upstream.fault("*", Fault(stall=10))
        slow = self.registry(self.upstream.url, proxy_timeout=0.2)
        for _ in range(4):
            await self.fails(slow.manifest(REPOSITORY, ONE), TimedOut)
        self.assertEqual(self.word(slow), "closed")

    async def test_faults_of_one_repository(self) -> None:
        """503 for one repository is its own affair; for three it is the upstream's."""
        self.upstream.fault("/v2/team/*", Fault(status=503))
        for _ in range(5):
            await self.fails(self.live.manifest(REPOSITORY, ONE), Unavailable)
        self.assertEqual(self.word(self.live), "closed")
        await self.fails(self.live.manifest("team/b", ONE), Unavailable)
        await self.fails(self.live.manifest("team/c", ONE), Unavailable)
        self.assertEqual(self.word(self.live), "open")
        self.assertEqual(self.live.circuit.state().reason, "it answered 503")

    async def test_a_dead_token_service(self) -> None:
        """Who cannot give tokens cannot give images: that counts."""
        locked = await self.fake(auth=True)
        locked.challenge = 'Bearer realm="http://127.0.0.1:1/token",service="fake"'
        registry = self.registry(locked.url)
        await self.try_three(registry)
        self.assertEqual(self.word(registry), "open")

    async def ask_chain(
        self, ask: Callable[[Candidate], Awaitable[object]], *chain: Registry
    ) -> tuple[Found[object], float]:
        since = REACTOR.seconds()
        found = await first(
            [Candidate(Repository("fake.example", REPOSITORY), each) for each in chain], ask, ManifestUnknown
        )
        return found, REACTOR.seconds() - since

    async def test_the_fourth_pull(self) -> None:
        """After three pulls past a silent upstream the fourth costs next to nothing more than past none."""

        async def pull(candidate: Candidate) -> object:
            return await candidate.upstream.manifest(candidate.repository.name, ONE)

        _, silent = self.silent()
        dead = self.registry(silent, name="dead", proxy_timeout=0.4)
        spent = [(await self.ask_chain(pull, dead, self.live))[1] for _ in range(3)]
        self.assertGreater(min(spent), 0.4)
        direct = min([(await self.ask_chain(pull, self.live))[1] for _ in range(3)])
        found, fourth = await self.ask_chain(pull, dead, self.live)
        self.assertTrue(found.provisional)
        self.assertLess(fourth, direct + 0.05)

    async def test_it_returns(self) -> None:
        """A probe finds out that it lives again; who started the probe did not wait for it."""
        self.upstream.refusing = True
        back = self.registry(self.upstream.url)
        await self.try_three(back)
        self.assertIsNotNone(back.circuit.objection())
        self.upstream.refusing = False
        await self.until(lambda: back.circuit.objection() is None)
        self.assertEqual(self.upstream.count("/v2/"), 1)
        self.assertEqual(self.notes.circuits[-2:], [True, False])
        await back.manifest(REPOSITORY, ONE)

    async def test_a_failing_probe(self) -> None:
        """A 5xx to the probe is no life sign; the wait grows."""
        self.upstream.refusing = True
        sick = self.registry(self.upstream.url)
        await self.try_three(sick)
        self.upstream.refusing = False
        self.upstream.fault("/v2/", Fault(status=500))
        await self.until(lambda: sick.circuit.objection() is not None and self.upstream.count("/v2/") == 1)
        await self.until(lambda: self.word(sick) == "open")
        state = sick.circuit.state()
        self.assertEqual(state.reason, "it answered 500")
        self.assertGreater(state.next_probe or 0, 0.5)

    async def test_the_last_resort_revives(self) -> None:
        """An answer to who asked in spite of it closes the circuit."""
        self.upstream.refusing = True
        back = self.registry(self.upstream.url)
        await self.try_three(back)
        self.upstream.refusing = False
        await self.fails(back.describe_blob(REPOSITORY, Digest.of(b"nothing")), Absent)
        self.assertEqual(self.word(back), "closed")

    async def test_a_last_resort_that_hangs(self) -> None:
        """Asked in spite of its open circuit it has little time, and so has its probe; the others' answers count."""
        self.patch(circuit, "PATIENCE", 0.2)
        self.upstream.refusing = True
        slow = self.registry(self.upstream.url, proxy_timeout=60.0)
        await self.try_three(slow)
        self.upstream.refusing = False
        self.upstream.fault("*", Fault(hold=True))
        other = await self.fake()

        async def pull(candidate: Candidate) -> object:
            return await candidate.upstream.manifest(candidate.repository.name, ONE)

        chain = self.ask_chain(pull, slow, self.registry(other.url, name="other"))
        error = await self.fails(chain, TimedOut)
        assert isinstance(error.detail, list)
        self.assertEqual([told["outcome"] for told in error.detail], ["unavailable", "absent"])
        self.assertEqual(error.detail[0]["reason"], "no answer within 0.2 s")
        await self.until(lambda: slow.circuit.objection() is not None and self.word(slow) == "half-open")
        await self.until(lambda: self.word(slow) == "open")

    async def test_lies_are_life(self) -> None:
        """What cannot be used is an answer."""
        _, talker = self.silent(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx")
        liar = self.registry(talker)
        for _ in range(4):
            await self.fails(liar.manifest(REPOSITORY, ONE), Unverified)
        self.assertEqual(self.word(liar), "closed")


class MeasuredTests(UpstreamTestCase):
    """The metrics of an upstream, fed by the real client before a real socket."""

    async def test_metrics(self) -> None:
        """Requests by outcome, seconds, bytes, tokens, quota and circuit, each under the upstream's name."""
        collector = CollectorRegistry()
        upstream = await self.filled(auth=True)
        registry = self.registry(upstream.url, name="hub", observer=Metrics(collector))

        def value(name: str, **labels: str) -> float | None:
            return collector.get_sample_value(f"nora_{name}", {"upstream": "hub", **labels})

        def counted(kind: str, outcome: str) -> float | None:
            return value("upstream_requests_total", kind=kind, outcome=outcome)

        self.assertEqual(value("upstream_circuit_open"), 0)
        self.assertIsNone(value("upstream_quota_remaining"))
        quota = (("ratelimit-remaining", "17;w=21600"),)
        upstream.fault("/v2/*/manifests/*", Fault(headers=quota))
        await registry.describe(REPOSITORY, ONE)
        await registry.manifest(REPOSITORY, ONE)
        await self.download(registry, Digest.of(LAYER))
        self.assertEqual(
            [counted("head", "found"), counted("manifest", "found"), counted("blob", "found")], [1, 1, 1]
        )
        self.assertEqual(value("received_bytes_total"), len(IMAGE.manifest) + len(LAYER))
        self.assertEqual(value("upstream_tokens_total"), upstream.tokens)
        self.assertGreater(upstream.tokens, 0)
        self.assertEqual(value("upstream_quota_remaining"), 17)
        self.assertEqual(value("upstream_seconds_count", kind="manifest"), 1)
        self.assertGreater(value("upstream_seconds_sum", kind="manifest") or 0, 0)

        for status, kind, outcome in (
            (404, Absent, "absent"),
            (403, Absent, "denied"),
            (429, Limited, "limited"),
            (503, Unavailable, "unavailable"),
        ):
            upstream.fault("/v2/*", Fault(status=status))
            await self.fails(registry.manifest(REPOSITORY, ONE), kind)
            self.assertEqual(counted("manifest", outcome), 1)
        upstream.refusing = True
        upstream.cut()
        for _ in range(3):
            await self.fails(registry.describe_blob(REPOSITORY, Digest.of(LAYER)), Unavailable)
        self.assertEqual(value("upstream_circuit_open"), 1)
        upstream.heal()
        await registry.describe_blob(REPOSITORY, Digest.of(LAYER))
        self.assertEqual(value("upstream_circuit_open"), 0)
