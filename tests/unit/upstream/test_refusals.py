"""A refused credential is not shown again and again: not to the fake upstream, and not by the fake clock."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.oci.errors import Unavailable
from nora.upstream.credential import Credential, Kind
from nora.upstream.outcomes import Absent
from nora.upstream.refusals import FIRST_PAUSE, LONGEST_PAUSE, CredentialRefused, Refusals
from tests.support.credential_case import ONE, PASSWORD, USER, CredentialTestCase, basic
from tests.support.fake_upstream import Fault
from tests.support.upstreams import IMAGE, REACTOR, REPOSITORY

OURS = Credential(Kind.BASIC, "me", "wrong")
OTHER = Credential(Kind.BASIC, "me", "another")


class Ahead:
    """The reactor, but for its time: it is `by` seconds ahead."""

    def __init__(self) -> None:
        self.by = 0.0

    def seconds(self) -> float:
        """Tell it."""
        return float(REACTOR.seconds()) + self.by

    def __getattr__(self, name: str) -> Any:
        return getattr(REACTOR, name)


class RefusalsTests(SynchronousTestCase):
    """The memory of refusals alone."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.refusals = Refusals(self.clock, lambda: 1.0)
        self.shown = 0

    def show(self, credential: Credential = OURS, *, taken: bool = False) -> Deferred[None]:
        """Show it to somebody who does not take it."""

        async def work() -> None:
            self.shown += 1
            if not taken:
                raise CredentialRefused
            self.refusals.taken(credential)

        return Deferred.fromCoroutine(self.refusals.show(credential, work))

    def is_refused(self, credential: Credential = OURS) -> bool:
        """Show it, and tell whether it was shown indeed."""
        before = self.shown
        error: Any = self.failureResultOf(self.show(credential), CredentialRefused).value
        self.assertEqual(error.shown, self.shown > before)
        return bool(error.shown)

    def test_pauses(self) -> None:
        """Each pause is twice the one before, up to the longest; within it nothing is shown."""
        pauses = []
        for _ in range(8):
            self.assertTrue(self.is_refused())
            self.assertFalse(self.is_refused())
            pauses.append(round(self.refusals.next_try(), 3))
            self.clock.advance(pauses[-1] - 0.1)
            self.assertFalse(self.is_refused())
            self.clock.advance(0.2)
        self.assertEqual(pauses, [30, 60, 120, 240, 480, 900, 900, 900])

    def test_another(self) -> None:
        """Another credential is shown at once, and has pauses of its own."""
        for _ in range(3):
            self.is_refused()
            self.clock.advance(LONGEST_PAUSE)
        self.is_refused()
        self.assertTrue(self.is_refused(OTHER))
        self.assertEqual(self.refusals.next_try(), FIRST_PAUSE)

    def test_taken_once(self) -> None:
        """That it was taken ends the pause; refused again soon it is kept back for longer, much later as at first."""
        self.is_refused()
        self.clock.advance(FIRST_PAUSE)
        self.successResultOf(self.show(taken=True))
        self.is_refused()
        self.assertEqual(self.refusals.next_try(), 2 * FIRST_PAUSE)
        self.clock.advance(2 * LONGEST_PAUSE + 1)
        self.is_refused()
        self.assertEqual(self.refusals.next_try(), FIRST_PAUSE)

    def test_forgotten(self) -> None:
        """A person's word ends the pause."""
        self.is_refused()
        self.refusals.forget()
        self.assertTrue(self.is_refused())

    @given(st.floats(0, 1))
    def test_jitter(self, random: float) -> None:
        """Chance shortens a pause by half at most."""
        self.setUp()
        self.refusals = Refusals(self.clock, lambda: random)
        self.is_refused()
        self.assertTrue(FIRST_PAUSE / 2 <= self.refusals.next_try() <= FIRST_PAUSE)

    def waiting(self, count: int) -> tuple[list[Deferred[None]], list[Deferred[None]]]:
        """Let `count` show it at once to somebody who does not answer yet; gives them, and the answers awaited."""
        answers: list[Deferred[None]] = []

        async def work() -> None:
            answer: Deferred[None] = Deferred()
            answers.append(answer)
            await answer

        return [Deferred.fromCoroutine(self.refusals.show(OURS, work)) for _ in range(count)], answers

    def test_one_at_a_time(self) -> None:
        """Of many who come at once one shows it; its refusal is everybody's."""
        shows, answers = self.waiting(50)
        self.assertEqual(len(answers), 1)
        answers[0].errback(CredentialRefused())
        for show in shows:
            self.failureResultOf(show, CredentialRefused)
        self.assertEqual(len(answers), 1)

    def test_taken_by_all(self) -> None:
        """Once it was taken nobody waits for anybody."""
        shows, answers = self.waiting(50)
        self.refusals.taken(OURS)
        answers[0].callback(None)
        self.assertEqual(len(answers), 50)
        for answer in answers[1:]:
            answer.callback(None)
        for show in shows:
            self.successResultOf(show)

    def test_an_outage_is_no_refusal(self) -> None:
        """One who got no answer, or left, makes way for the next."""
        shows, answers = self.waiting(3)
        answers[0].errback(Unavailable("no connection"))
        self.failureResultOf(shows[0], Unavailable)
        self.assertEqual(len(answers), 2)
        shows[1].addErrback(lambda _: None)
        shows[1].cancel()
        self.assertEqual(len(answers), 3)
        answers[2].callback(None)
        self.successResultOf(shows[2])

    def test_late_refusals(self) -> None:
        """Refusals of what was under way together count once."""
        self.refusals.taken(OURS)
        shows, answers = self.waiting(5)
        for answer in answers:
            answer.errback(CredentialRefused())
        for show in shows:
            self.failureResultOf(show, CredentialRefused)
        self.assertEqual(self.refusals.next_try(), FIRST_PAUSE)


class ShownTests(CredentialTestCase):
    """What an upstream sees of a credential that it refuses."""

    async def test_token_service(self) -> None:
        """A token service sees it once a pause, and the registry is not asked either meanwhile."""
        upstream = await self.token_service()
        ahead = Ahead()
        registry = self.ours(upstream, reactor=ahead, auth=f"{USER}:wrong-secret")
        for round_, pause in enumerate((FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE), 1):
            for _ in range(5):
                await self.fails(registry.manifest(REPOSITORY, ONE), CredentialRefused)
                await self.fails(registry.describe("team/other", ONE), CredentialRefused)
            self.assertEqual((upstream.count("/token"), self.notes.refused), (round_, round_))
            ahead.by += pause
        self.assertEqual(len(upstream.requests), 3 + 1, "one 401 told where the token service is")
        trouble = registry.credential_trouble()
        assert trouble is not None
        self.assertEqual((trouble.text, trouble.next_try), ("our credential was refused", 0.0))

    async def test_basic(self) -> None:
        """A registry that takes Basic sees it once a pause."""
        upstream = await self.takes_basic()
        ahead = Ahead()
        registry = self.ours(upstream, reactor=ahead, auth=f"{USER}:wrong-secret")
        for round_ in (1, 2):
            for _ in range(5):
                await self.fails(registry.manifest(REPOSITORY, ONE), CredentialRefused)
            self.assertEqual(len(self.sent(upstream)), round_)
            ahead.by += LONGEST_PAUSE

    async def test_many_at_once(self) -> None:
        """A hundred clients with a hundred names do not make a hundred failed logins."""
        for make in (self.token_service, self.takes_basic):
            upstream = await make()
            registry = self.ours(upstream, auth=f"{USER}:wrong-secret")
            asks = [
                Deferred.fromCoroutine(self.fails(registry.manifest(f"team/app{i}", ONE), CredentialRefused))
                for i in range(100)
            ]
            await gatherResults(asks, consumeErrors=True)
            self.assertEqual(len(self.sent(upstream)), 1)

    async def test_changed_within_the_pause(self) -> None:
        """Another secret in the file is shown at once, and what was wrong is mended."""
        upstream = await self.token_service()
        path = self.file("password", "wrong-secret")
        registry = self.ours(upstream, username=USER, password_file=path)
        for _ in range(3):
            await self.fails(registry.manifest(REPOSITORY, ONE), CredentialRefused)
        self.file("password", PASSWORD)
        await registry.manifest(REPOSITORY, ONE)
        self.assertEqual(upstream.count("/token"), 2)
        self.assertIsNone(registry.credential_trouble())

    async def test_changed_without_a_trace(self) -> None:
        """A file of the same size, time and inode is read again all the same."""
        upstream = await self.token_service()
        path = self.file("password", "x" * len(PASSWORD))
        found = os.stat(path)
        registry = self.ours(upstream, username=USER, password_file=path)
        await self.fails(registry.manifest(REPOSITORY, ONE), CredentialRefused)
        self.file("password", PASSWORD)
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
        await registry.manifest(REPOSITORY, ONE)

    async def test_a_program_gives_another(self) -> None:
        """A program is run again within the pause, after one of its own, and what else it gives is shown at once."""
        upstream = await self.takes_basic()
        self.file("password", "wrong-secret")
        ran = self.folder / "ran"
        self.program(
            "fake",
            f'echo x >> "{ran}"; printf \'{{"Username":"{USER}","Secret":"%s"}}\' "$(cat "{self.folder}/password")"',
        )
        ahead = Ahead()
        registry = self.ours(upstream, reactor=ahead, docker_config=self.config(credsStore="fake"))
        for _ in range(5):
            await self.fails(registry.manifest(REPOSITORY, ONE), CredentialRefused)
        self.assertEqual((len(self.sent(upstream)), ran.read_text()), (1, "x\nx\n"))
        self.file("password", PASSWORD)
        await self.fails(registry.manifest(REPOSITORY, ONE), CredentialRefused)
        ahead.by += 10
        await registry.manifest(REPOSITORY, ONE)
        self.assertEqual((len(self.sent(upstream)), ran.read_text()), (2, "x\n" * 3))

    async def test_a_word_from_the_operator(self) -> None:
        """A reload has the same secret shown again: the account may have been mended."""
        upstream = await self.token_service()
        upstream.logins = set()
        registry = self.ours(upstream, auth=f"{USER}:{PASSWORD}")
        await self.fails(registry.manifest(REPOSITORY, ONE), CredentialRefused)
        upstream.logins = {basic()}
        await self.fails(registry.manifest(REPOSITORY, ONE), CredentialRefused)
        registry.try_again()
        await registry.manifest(REPOSITORY, ONE)

    async def test_nobody_has_it_kept_back(self) -> None:
        """A 401 for one repository does not speak against a credential that works for others."""
        for make, where in ((self.token_service, "/token"), (self.takes_basic, "/v2/team/theirs/*")):
            upstream = await make()
            registry = self.ours(upstream, auth=f"{USER}:{PASSWORD}")
            await registry.manifest(REPOSITORY, ONE)
            upstream.fault(where, Fault(status=401, times=1))
            error = await self.fails(registry.manifest("team/theirs", ONE), Absent)
            self.assertTrue(error.denied)
            self.assertEqual((await registry.manifest(REPOSITORY, ONE)).digest, IMAGE.digest)
        self.assertEqual(self.notes.refused, 0)

    async def test_revoked(self) -> None:
        """One that worked and works no more is kept back like any other."""
        for make in (self.token_service, self.takes_basic):
            upstream = await make()
            registry = self.ours(upstream, auth=f"{USER}:{PASSWORD}")
            await registry.manifest(REPOSITORY, ONE)
            upstream.logins = upstream.keys = {"nobody's"}
            upstream.revoke()
            upstream.requests.clear()
            for _ in range(5):
                await self.fails(registry.manifest(REPOSITORY, ONE), CredentialRefused)
            self.assertEqual(len(self.sent(upstream)), 2, "once, and once to be sure")
