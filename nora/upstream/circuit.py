"""The circuit breaker of one upstream: who does not answer is not waited for again and again.

**It opens** after 3 failures in a row to get any answer (connecting, TLS, the name, headers in time), with no answer
between them and never more than 30 s idle from the end of one to the beginning of the next; a slow death, each try
hanging for a minute, counts like a quick one. A 5xx speaks for one repository, so such answers open it only
when they were for 3 different ones. Every other answer is a sign of life: found, 404, 401, 403, 429, and a lie too.
What speaks of somebody else (a token service that is out of order, a credential of ours) counts neither way.

**Open** means, to the chain (`nora.upstream.chain.first`): passed over while another candidate is left. It never
means refused: when no other has it, those that were passed over are asked after all, in their order, because only
they can still tell; but for 5 s at most, so that one that hangs does not keep from the client what the others said.
Where a stored copy will do (revalidation) there is no such last resort, and the copy is served at once. What a last
resort hears counts: an answer closes the circuit.

**Half-open**: when its time has come, the next who would ask starts a probe, and is not made to wait for it: a
request to `/v2/`, one at a time, which any living registry answers in some way. An answer closes the circuit; failing,
the time to the next probe doubles, from about 1 s to about a minute, jittered so that many servers do not return at
once. Closed by a probe alone it remembers how long it waited, until a real answer comes: an upstream whose front
answers while everything behind it is broken is not taken for healthy each second.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
from twisted.internet.interfaces import IReactorTime

from nora.concurrency import Background
from nora.oci.errors import NoraError, Unavailable, Unverified

THRESHOLD = 3
"""Failures in a row, or repositories, that open a circuit."""
IDLE = 30.0
"""After how many seconds without a failure the ones before are forgotten."""
FIRST_DELAY = 1.0
LONGEST_DELAY = 60.0
"""Seconds from the opening to the first probe, and the most between two; each is halved at most by jitter."""
PATIENCE = 5.0
"""How many seconds a probe, and whatever else is asked of an upstream whose circuit is open, may take."""


@attrs.frozen
class CircuitState:
    """What an operator sees: `closed`, `open` or `half-open`; `since` when, in seconds since the epoch.

    `next_probe` is in how many seconds a probe may be made, None while closed or probing; `reason` is the last failure.
    """

    word: str
    since: float | None = None
    next_probe: float | None = None
    reason: str | None = None


class Circuit:
    """One upstream's. `random` gives numbers from 0 to 1; `probe` asks the upstream something, and raises as it does.

    `changed` is told when it opens (True) and closes (False).
    """

    def __init__(
        self,
        clock: IReactorTime,
        random: Callable[[], float],
        background: Background,
        probe: Callable[[], Awaitable[None]],
        changed: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._clock = clock
        self._random = random
        self._background = background
        self._probe = probe
        self._changed = changed
        self._failures = 0
        self._faulty: set[str] = set()
        self._last = 0.0
        self._delays = 0
        self._since: float | None = None
        self._due = 0.0
        self._probing = False
        self._reason = ""
        self._retired = False

    def state(self) -> CircuitState:
        """Tell how it is."""
        if self._since is None:
            return CircuitState("closed")
        if self._probing:
            return CircuitState("half-open", self._since, None, self._reason)
        left = max(0.0, self._due - self._clock.seconds())
        return CircuitState("open", self._since, left, self._reason)

    def objection(self) -> Unavailable | None:
        """Tell why the upstream is better not asked now; None when nothing speaks against it.

        Where a probe is due this starts it.
        """
        if self._since is None:
            return None
        if not self._probing and not self._retired and self._clock.seconds() >= self._due:
            self._probing = True
            self._background.start(self._try())
        return Unavailable(f"circuit open: {self._reason}")

    def patience(self, seconds: float) -> float:
        """Tell how many seconds an exchange may take that is given `seconds` when all is well."""
        return seconds if self._since is None else min(seconds, PATIENCE)

    def succeeded(self) -> None:
        """Take note of an answer, whatever it says."""
        self._delays = 0
        self._close()

    def failed(self, error: NoraError, since: float) -> None:
        """Take note of an exchange that began at `since` and ended with `error` in place of a usable answer."""
        if not isinstance(error, Unavailable) or isinstance(error, Unverified):
            self.succeeded()
        elif not error.answered:
            self._note(error.message, None, since)

    def faulted(self, status: int, repository: str, since: float) -> None:
        """Take note of a 5xx."""
        self._note(f"it answered {status}", repository, since)

    def retire(self) -> None:
        """Tell nobody anything any more, and probe no more: the upstream is not configured any longer."""
        if self._since is not None:
            self._changed(False)
        self._retired = True

    def _note(self, reason: str, repository: str | None, since: float) -> None:
        self._reason = reason
        if self._since is not None:
            return
        if since - self._last > IDLE:
            self._forget()
        self._last = self._clock.seconds()
        if repository is None:
            self._failures += 1
        else:
            self._faulty.add(repository)
        if self._failures >= THRESHOLD or len(self._faulty) >= THRESHOLD:
            self._since = self._clock.seconds()
            self._wait()
            self._tell(True)

    def _wait(self) -> None:
        """Set the time of the next probe."""
        longest = min(FIRST_DELAY * 2.0**self._delays, LONGEST_DELAY)
        self._delays = min(self._delays + 1, 16)
        self._due = self._clock.seconds() + longest * (0.5 + 0.5 * self._random())

    async def _try(self) -> None:
        opened = self._since
        try:
            await self._probe()
        except NoraError as error:
            if opened == self._since:
                self._reason = error.message
                self._wait()
        else:
            if opened == self._since:
                self._close()
        finally:
            self._probing = False

    def _close(self) -> None:
        self._forget()
        if self._since is not None:
            self._since = None
            self._tell(False)

    def _forget(self) -> None:
        self._failures = 0
        self._faulty.clear()

    def _tell(self, opened: bool) -> None:
        if not self._retired:
            self._changed(opened)
