"""The parent of several workers: it prepares what they share, starts them, and keeps them running.

It serves nobody itself. What it promises: the store is prepared once, before the first worker; it is ready when every
worker is; a configuration is taken over by one worker before the others hear of it, so one that is refused changes
nothing anywhere; a worker that is started again has the configuration that the others have; and at the end it is the
last to leave.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from nora.concurrency import Waiters
from nora.process.interfaces import CannotReload, CannotStart
from nora.process.member import Launch, Member, Refused, WorkerFailed
from nora.process.neighbours import pass_on

_LOOK = 1.0
_LATE = 5.0
"""Seconds between two looks after which it was this process that did not run."""
_PATIENCE = 0.5
"""For how many seconds, beside its start, connections may wait for the next process of their worker."""
_CLOSING = 8.0
"""Seconds past the drain after which a worker is killed: before the service gives the whole stop up."""


class Ground(Protocol):
    """What all workers stand on, made and taken down by the composition root."""

    async def open(self) -> None:
        """Prepare the store, take it, bind the sockets. Raises `CannotStart` and `OSError`."""

    def launch(self, number: int, again: bool, heard: Any, ended: Any) -> Any:
        """Start a worker with the configuration in force: a `Launch`."""

    def forget(self, number: int) -> None:
        """Clear away what a dead worker said of the present."""

    def withdraw(self, number: int) -> None:
        """Have the connections of a worker that will be away for longer go to the others, until it is launched."""

    def reread(self) -> object:
        """Give the configuration that workers are to take over. Raises `CannotReload`."""

    def take_over(self, config: object) -> None:
        """Have workers that are started from now on begin with `config`, which a worker has taken over."""

    def stop_listening(self) -> None:
        """Close the parent's own copies of the sockets."""

    def close(self) -> None:
        """Let the store and everything else go. Called once, however far `open` came."""


class Supervisor:
    """An `Application` of `count` workers; see `nora.process.interfaces`."""

    _log = Logger()

    def __init__(self, ground: Ground, clock: Any, count: int) -> None:
        self._ground = ground
        self._clock = clock
        launch: Launch = ground.launch
        self._members = [
            Member(number, launch, clock, self._changed, self._pass_on) for number in range(1, count + 1)
        ]
        self._starting: Waiters[None] = Waiters()
        self._complete = False
        self._stopping = False
        self._hurried = False
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock
        self._looked = 0.0

    def start(self) -> Deferred[None]:
        """Prepare the ground and start all workers; fires when every one of them listens."""
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        await self._ground.open()
        self._looked = self._clock.seconds()
        self._looking.start(_LOOK, now=False)
        starting = self._starting.wait()
        for member in self._members:
            member.start()
        await starting
        self._complete = True
        for member in self._members:
            member.kept = True

    def stop(self, deadline: float) -> Deferred[None]:
        """Have all workers drain for `deadline` seconds and end; kill those that do not; then close the ground."""
        return Deferred.fromCoroutine(self._stop(deadline))

    async def _stop(self, deadline: float) -> None:
        self._stopping = True
        if self._looking.running:
            self._looking.stop()
        self._ground.stop_listening()
        for member in self._members:
            member.stop()
            if self._hurried:
                member.say("hurry")
        end: IDelayedCall = self._clock.callLater(deadline + _CLOSING, self._kill_all)
        for member in self._members:
            await member.gone()
        if end.active():
            end.cancel()
        self._ground.close()

    def hurry(self) -> None:
        """Have the workers cut off what is in flight."""
        self._hurried = True
        for member in self._members:
            member.say("hurry")

    def reload(self) -> Deferred[None]:
        """Have all workers take the new configuration over, or none. Fails with `CannotReload`."""
        return Deferred.fromCoroutine(self._reload())

    async def _reload(self) -> None:
        config = self._ground.reread()
        serving = [member for member in self._members if member.serving]
        if not serving:
            raise CannotReload("no worker serves now")
        first = serving[0]
        try:
            await first.take(config)
        except Refused as refused:
            raise CannotReload(*refused.lines) from None
        except WorkerFailed as failed:
            raise CannotReload(f"{failed}, when it was to take it over") from None
        self._ground.take_over(config)
        others = [member for member in self._members if member is not first]
        taking = [Deferred.fromCoroutine(self._follow(member, config)) for member in others]
        for each in taking:
            await each

    async def _follow(self, member: Member, config: object) -> None:
        """Have one more worker take over what another has taken."""
        try:
            await member.take(config)
        except Refused as refused:
            # What it reads besides, a file with a certificate say, has changed since the first one read it.
            self._log.error(
                "worker {number} refuses what another took over; it begins anew: {why}",
                number=member.number,
                why=str(refused),
            )
            member.kill()
        except WorkerFailed as failed:
            self._log.warn("{failed}; it begins anew with the new configuration", failed=str(failed))

    def reopen_logs(self) -> None:
        """Have the workers open their logs again."""
        for member in self._members:
            member.say("reopen")

    def healthy(self) -> bool:
        """Tell whether any worker serves, or all are on their way to."""
        return not self._complete or any(member.serving for member in self._members)

    def _changed(self, member: Member, failed: WorkerFailed | None) -> None:
        if failed is not None:
            self._ground.forget(member.number)
            if member.waits > _PATIENCE:
                self._ground.withdraw(member.number)
            if not self._complete and not self._stopping:
                self._starting.fail(_cannot_start(failed))
        elif not member.serving:
            self._ground.withdraw(member.number)
            self._log.info("worker {number} drains; new connections go to the others", number=member.number)
        elif not self._complete and all(each.serving for each in self._members):
            self._starting.succeed(None)

    def _pass_on(self, member: Member, word: str, value: Any) -> None:
        pass_on(self._members, member, word, value)

    def _look(self) -> None:
        now = self._clock.seconds()
        late, self._looked = abs(now - self._looked) > _LATE, now
        for member in self._members:
            if late:
                member.excuse()
            else:
                member.look()

    def _kill_all(self) -> None:
        for member in self._members:
            member.kill()


def _cannot_start(failed: WorkerFailed) -> CannotStart:
    error = CannotStart(str(failed))
    error.status = failed.status or error.status
    return error
