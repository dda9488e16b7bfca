"""The audit log: one JSON object a line for every finished request that touched content.

Recording never blocks and never fails: a line goes into memory, bounded, and is written with others in one
`write` to a file opened for appending, each second or at 64 KiB, in a thread. Such writes are whole, so
several processes can share the file. What cannot be written (a full disk) is dropped and counted; the daemon
goes on, and the log says once that it happened.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

MAX_LINES = 10_000
BATCH_BYTES = 64 * 1024
INTERVAL = 1.0
_MODE = 0o640


class Threads(Protocol):
    """Where the writing is done; a `nora.storage.interfaces.Disk` is one."""

    def run(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Call `work(*arguments)` in a thread; the result arrives on the reactor."""


_LIMIT = 256
"""Characters of any one field: names, agents and references from clients are cut to it."""


@attrs.frozen(kw_only=True)
class AuditEvent:
    """One finished request; `docs/audit.md` has the fields as they are written."""

    time: float
    """When the request arrived, in seconds since the epoch."""
    id: str
    client: str
    """The address of the peer."""
    user: str | None = None
    agent: str = ""
    method: str
    action: str = "pull"
    repository: str
    """As the client named it."""
    namespace: str | None = None
    reference: str = ""
    digest: str | None = None
    status: int | None
    """None when the client left before it had an answer."""
    cache: str = "none"
    upstream: str | None = None
    sent: int
    """Bytes of body that were handed to the socket; written as `bytes`."""
    received: int = 0
    """Bytes of the request's body that came."""
    seconds: float
    aborted: bool
    """The answer did not reach its end: the client left, or NORA broke it off."""

    def line(self) -> bytes:
        """Write the event as one line of JSON, with its newline and with every string cut to a bound."""
        return Repeated(self).line(self.time, self.id, self.seconds)


_ATTRIBUTES = tuple(
    (field.name, "bytes" if field.name == "sent" else field.name) for field in attrs.fields(AuditEvent)
)
FIELDS = tuple(field for _, field in _ATTRIBUTES)
"""The keys of a line, in their order."""
_ITS_OWN = frozenset({"time", "id", "seconds"})
"""What two requests of one client for the same do not share: the first two fields of a line, and the last but one."""

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Repeated:
    """What the lines of all requests share that were as `event` was, but for its time, id and seconds."""

    def __init__(self, event: AuditEvent) -> None:
        self.event = event
        shared: dict[str, object] = {}
        for name, field in _ATTRIBUTES:
            if name not in _ITS_OWN:
                value = getattr(event, name)
                shared[field] = value[:_LIMIT] if type(value) is str else value
        aborted = shared.pop("aborted")
        self._between = f",{_encode(shared)[1:-1]},"
        self._end = f',"aborted":{_encode(aborted)}}}\n'

    def line(self, time: float, id: str, seconds: float) -> bytes:
        """Write the line of one of them."""
        own = f'{{"time":"{_iso(time)}","id":{_encode(id[:_LIMIT])}'
        return f'{own}{self._between}"seconds":{round(seconds, 6)!r}{self._end}'.encode("ascii")


def _iso(time: float) -> str:
    seconds, milliseconds = divmod(int(time * 1000), 1000)
    return f"{_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=2)
def _second(time: int) -> str:
    return datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


class AuditLog:
    """The audit log at `path`. `dropped` is told how many lines were lost, whenever some are."""

    _log = Logger()

    def __init__(
        self,
        path: str,
        clock: IReactorTime,
        threads: Threads,
        dropped: Callable[[int], None] = lambda lines: None,
    ) -> None:
        self._file = _Appending(path)
        self._clock = clock
        self._threads = threads
        self._dropped = dropped
        self._lines: list[bytes] = []
        self._size = 0
        self._timer: IDelayedCall | None = None
        self._writing = False
        self._waiting: list[Deferred[None]] = []
        self._complained = False

    def start(self) -> None:
        """Open the file, making it with mode 0640; raises `OSError`."""
        self._file.open()

    def record(self, event: AuditEvent) -> None:
        """Take an event. It is in the file within about a second, unless the file cannot be written."""
        self.repeat(Repeated(event), event.time, event.id, event.seconds)

    def repeat(self, repeated: Repeated, time: float, id: str, seconds: float) -> None:
        """Take another event that differs from one before in this alone; as `record`."""
        if len(self._lines) >= MAX_LINES:
            self._lost(1, "the disk is too slow for it")
            return
        line = repeated.line(time, id, seconds)
        self._lines.append(line)
        self._size += len(line)
        if self._size >= BATCH_BYTES:
            self._flush()
        elif self._timer is None:
            self._timer = self._clock.callLater(INTERVAL, self._tick)

    async def reopen(self) -> None:
        """Open the file at the path anew, for logrotate: what is recorded from here on goes there."""
        await self._drain()
        await self._run(self._file.reopen)

    async def stop(self) -> None:
        """Write what is in memory and close the file."""
        await self._drain()
        await self._run(self._file.close)

    async def _drain(self) -> None:
        self._flush()
        while self._writing or self._lines:
            if self._writing:
                written: Deferred[None] = Deferred()
                self._waiting.append(written)
                await written
            self._flush()

    async def _run(self, work: Callable[[], None]) -> None:
        try:
            await self._threads.run(work)
        except OSError as error:
            self._complain(str(error.strerror))

    def _tick(self) -> None:
        self._timer = None
        self._flush()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing or not self._lines:
            return
        batch, self._lines, self._size = self._lines, [], 0
        self._writing = True
        self._threads.run(self._file.append, b"".join(batch)).addCallbacks(
            self._written, self._failed, errbackArgs=(len(batch),)
        ).addErrback(self._defect)

    def _written(self, lost: int) -> None:
        if lost:
            self._lost(lost, "the file could not be written")
        else:
            self._complained = False
        self._ended()

    def _failed(self, failure: Failure, lines: int) -> None:
        self._lost(lines, failure.getErrorMessage())
        self._ended()

    def _ended(self) -> None:
        self._writing = False
        if self._size >= BATCH_BYTES:
            self._flush()
        elif self._lines and self._timer is None:
            self._timer = self._clock.callLater(INTERVAL, self._tick)
        waiting, self._waiting = self._waiting, []
        for written in waiting:
            # One whose waiter was cancelled has fired already.
            if not written.called:
                written.callback(None)

    def _defect(self, failure: Failure) -> None:
        self._log.failure("the audit log is broken", failure)

    def _lost(self, lines: int, reason: str) -> None:
        self._dropped(lines)
        self._complain(reason)

    def _complain(self, reason: str) -> None:
        if not self._complained:
            self._complained = True
            self._log.error("the audit log loses lines: {reason}", reason=reason)


class _Appending:
    """The file, used by one thread at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._torn = False

    def open(self) -> int:
        """Open the file unless it is open, and give its descriptor."""
        if self._descriptor is None:
            # Not blocking while it is opened: a pipe that nobody reads shall be an error, not a wait without end.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(self._path, flags, _MODE)
            os.set_blocking(descriptor, True)
            self._descriptor = descriptor
        return self._descriptor

    def reopen(self) -> None:
        """Close it and open what is at the path now."""
        self.close()
        self._torn = False
        self.open()

    def close(self) -> None:
        """Close it; a later `append` opens it again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def append(self, data: bytes) -> int:
        """Append whole lines; tells how many of them did not fit.

        A line that was written in part ends where the disk did; the next batch begins on a line of its own.
        """
        if self._torn:
            data = b"\n" + data
        written = os.write(self.open(), data)
        self._torn = data[written - 1 : written] != b"\n"
        return data.count(b"\n", written)
