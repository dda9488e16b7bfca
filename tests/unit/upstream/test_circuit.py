"""The circuit breaker: what opens it, what closes it, and when it probes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.concurrency import Background
from nora.oci.errors import Limited, NoraError, TimedOut, Unavailable, Unverified
from nora.upstream.circuit import FIRST_DELAY, IDLE, LONGEST_DELAY, Circuit
from nora.upstream.outcomes import Absent


def refused() -> Unavailable:
    error = Unavailable("connection refused")
    error.answered = False
    return error


class CircuitTests(SynchronousTestCase):
    """With a clock and a die of its own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.dice = 1.0
        self.background = Background()
        self.probes: list[Deferred[None]] = []
        self.told: list[bool] = []
        self.circuit = Circuit(self.clock, lambda: self.dice, self.background, self.probe, self.told.append)

    async def probe(self) -> None:
        waiting: Deferred[None] = Deferred()
        self.probes.append(waiting)
        await waiting

    def fail_times(self, count: int, error: NoraError | None = None) -> None:
        for _ in range(count):
            self.circuit.failed(error or refused(), self.clock.seconds())

    def objects(self) -> bool:
        return self.circuit.objection() is not None

    def open_up(self) -> None:
        self.fail_times(3)
        self.assertEqual(self.circuit.state().word, "open")

    def test_three_in_a_row(self) -> None:
        """Three failures to get an answer open it, two do not; it says why."""
        self.fail_times(2)
        self.assertFalse(self.objects())
        self.assertEqual(self.circuit.state().word, "closed")
        self.fail_times(1)
        objection = self.circuit.objection()
        assert objection is not None
        self.assertEqual(objection.message, "circuit open: connection refused")
        state = self.circuit.state()
        self.assertEqual((state.word, state.since, state.next_probe), ("open", 1_000_000, FIRST_DELAY))
        self.assertEqual(state.reason, "connection refused")
        self.assertEqual(self.told, [True])

    def test_timeouts_count(self) -> None:
        """No headers in time is a failure like a refused connection."""
        self.fail_times(3, TimedOut("no answer"))
        self.assertTrue(self.objects())

    def test_an_answer_between(self) -> None:
        """Any answer begins the count anew."""
        for answer in (Absent("no"), Absent("no", denied=True), Limited("wait", 5), Unverified("lies")):
            self.fail_times(2)
            self.fail_times(1, answer)
        self.fail_times(2)
        self.circuit.succeeded()
        self.fail_times(2)
        self.assertFalse(self.objects())

    def test_of_somebody_else(self) -> None:
        """What says nothing of the registry neither opens the circuit nor begins the count anew."""
        self.fail_times(5, Unavailable("the token service answered 500"))
        self.assertFalse(self.objects())
        self.fail_times(2)
        self.fail_times(1, Unavailable("our credential cannot be read"))
        self.fail_times(1)
        self.assertTrue(self.objects())

    def test_idle(self) -> None:
        """Failures with more than 30 s of quiet between them are unconnected."""
        for _ in range(5):
            self.fail_times(2)
            self.clock.advance(IDLE + 0.1)
        self.assertFalse(self.objects())
        self.fail_times(1)
        self.clock.advance(IDLE)
        self.fail_times(1)
        self.clock.advance(IDLE)
        self.fail_times(1)
        self.assertTrue(self.objects())

    def test_slow_death(self) -> None:
        """Tries that hang for a minute each, one after the other, open it as well."""
        for _ in range(3):
            since = self.clock.seconds()
            self.clock.advance(60)
            self.circuit.failed(TimedOut("no answer"), since)
            self.clock.advance(1)
        self.assertTrue(self.objects())

    def test_faults_of_repositories(self) -> None:
        """A 5xx counts once a repository: three different ones open it."""
        for _ in range(10):
            self.circuit.faulted(503, "a", self.clock.seconds())
        self.circuit.faulted(500, "b", self.clock.seconds())
        self.assertFalse(self.objects())
        self.circuit.faulted(502, "c", self.clock.seconds())
        self.assertEqual(self.circuit.state().reason, "it answered 502")
        self.assertTrue(self.objects())

    def test_an_answer_forgives_faults(self) -> None:
        """A 5xx here and there among answers never opens it."""
        for name in "abcdefgh":
            self.circuit.faulted(503, name, self.clock.seconds())
            self.circuit.succeeded()
        self.assertFalse(self.objects())

    def test_an_answer_closes(self) -> None:
        """An answer to the last resort closes it at once."""
        self.open_up()
        self.circuit.succeeded()
        self.assertFalse(self.objects())
        self.assertEqual(self.told, [True, False])
        self.assertEqual(self.circuit.state().since, None)

    def test_patience(self) -> None:
        """While it is open nothing is waited for longer than 5 s; closed, as long as configured."""
        self.assertEqual(self.circuit.patience(60), 60)
        self.open_up()
        self.assertEqual((self.circuit.patience(60), self.circuit.patience(2)), (5, 2))
        self.circuit.succeeded()
        self.assertEqual(self.circuit.patience(60), 60)

    def test_probe(self) -> None:
        """Before its time there is no probe, then exactly one; an answer to it closes the circuit."""
        self.open_up()
        self.clock.advance(FIRST_DELAY - 0.01)
        self.assertTrue(self.objects())
        self.assertEqual(self.probes, [])
        self.clock.advance(0.01)
        for _ in range(100):
            self.assertTrue(self.objects())
        self.assertEqual(len(self.probes), 1)
        self.assertEqual((self.circuit.state().word, self.circuit.state().next_probe), ("half-open", None))
        self.probes[0].callback(None)
        self.assertFalse(self.objects())
        self.assertEqual(self.told, [True, False])

    def fail_probe(self) -> float:
        """Wait for the next probe to be due, fail it, and tell how long that was."""
        state = self.circuit.state()
        assert state.next_probe is not None
        self.clock.advance(state.next_probe)
        self.assertTrue(self.objects())
        self.probes[-1].errback(TimedOut("no answer within 5 s"))
        return state.next_probe

    def test_back_off(self) -> None:
        """Each failed probe doubles the wait, up to a minute; jitter takes up to a half of it."""
        self.open_up()
        waits = [self.fail_probe() for _ in range(8)]
        self.assertEqual([round(wait, 3) for wait in waits], [1, 2, 4, 8, 16, 32, 60, 60])
        self.assertEqual(self.circuit.state().reason, "no answer within 5 s")
        self.dice = 0.0
        self.fail_probe()
        self.assertAlmostEqual(self.circuit.state().next_probe or 0, LONGEST_DELAY / 2, places=3)
        self.assertEqual(self.told, [True])
        self.assertEqual(len(self.background), 0)

    def test_a_front_before_nothing(self) -> None:
        """Closed by probes alone it keeps its patience; a real answer ends it."""
        waits = []
        for _ in range(3):
            for name in "abc":
                self.circuit.faulted(503, name, self.clock.seconds())
            waits.append(round(self.circuit.state().next_probe or 0, 3))
            self.clock.advance(60)
            self.assertTrue(self.objects())
            self.probes[-1].callback(None)
            self.assertFalse(self.objects())
        self.assertEqual(waits, [1, 2, 4])
        self.circuit.succeeded()
        self.open_up()
        self.assertEqual(self.circuit.state().next_probe, FIRST_DELAY)

    def test_a_late_probe(self) -> None:
        """What a probe says after an answer closed the circuit is old news."""
        self.open_up()
        self.clock.advance(2)
        self.assertTrue(self.objects())
        self.circuit.succeeded()
        self.probes[0].errback(refused())
        self.assertEqual(self.circuit.state().word, "closed")

    def test_failures_while_open(self) -> None:
        """What a last resort fails with is told, and neither hurries nor delays the probe."""
        self.open_up()
        self.fail_times(50, TimedOut("slow"))
        state = self.circuit.state()
        self.assertEqual((state.reason, state.next_probe), ("slow", FIRST_DELAY))
        self.assertEqual(self.told, [True])

    def test_retired(self) -> None:
        """One that is configured no longer says that it is closed, and then nothing."""
        self.open_up()
        self.circuit.retire()
        self.assertEqual(self.told, [True, False])
        self.clock.advance(60)
        self.assertTrue(self.objects())
        self.circuit.succeeded()
        self.open_up()
        self.assertEqual((self.told, self.probes), ([True, False], []))


_EVENTS = st.one_of(
    st.tuples(st.just("wait"), st.floats(0, 90)),
    st.tuples(st.sampled_from(["ask", "refused", "found", "probe lives", "probe dies"]), st.just(0.0)),
    st.tuples(st.just("fault"), st.sampled_from([1.0, 2.0, 3.0, 4.0])),
)


class AnyCourseTests(SynchronousTestCase):
    """Whatever happens in whatever order."""

    @given(st.lists(_EVENTS, max_size=60), st.floats(0, 1))
    def test_invariants(self, events: list[tuple[str, float]], dice: float) -> None:
        """One probe at a time; an answer always closes; opening and closing are told in turn; waits have bounds."""
        clock = Clock()
        told: list[bool] = []
        probes: list[Deferred[None]] = []

        async def probe() -> None:
            assert not probes, "two probes at once"
            waiting: Deferred[None] = Deferred()
            probes.append(waiting)
            try:
                await waiting
            finally:
                probes.clear()

        circuit = Circuit(clock, lambda: dice, Background(), probe, told.append)
        for what, value in events:
            if what == "wait":
                clock.advance(value)
            elif what == "ask":
                assert (circuit.objection() is None) == (circuit.state().word == "closed")
            elif what == "refused":
                circuit.failed(refused(), clock.seconds())
            elif what == "fault":
                circuit.faulted(500, str(value), clock.seconds())
            elif what == "found":
                circuit.succeeded()
                assert circuit.state().word == "closed"
            elif probes:
                probes[0].callback(None) if what == "probe lives" else probes[0].errback(refused())
            state = circuit.state()
            assert told == [number % 2 == 0 for number in range(len(told))]
            assert (state.word == "closed") == (len(told) % 2 == 0)
            assert 0 <= (state.next_probe or 0) <= LONGEST_DELAY
