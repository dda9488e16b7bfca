"""Locks across processes: byte ranges of one file.

The argument. An OFD lock (`fcntl(2)`, "Open file description locks") of one byte at the hash of a key belongs to
an open file description, not to a process or a thread: the kernel frees it when the last descriptor goes, also
by `kill -9`, and closing some other descriptor of the same file does not. There are no leftovers, because the file
stays empty. Two holders in one process share the description, so the kernel would let both in: a table beside it
keeps them apart, and makes them wait in the order they came. Across processes a lock is looked for every 10 ms; it
is handed to the next who waits here without being freed in between.

Two keys with one hash (of 2 to the 62) would only wait for each other needlessly.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import math
import os
import struct
import time
from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from nora.oci import Digest
from nora.storage.layout import StoreError

_POLL = 0.01
_STORE_POLL = 0.1
_FLOCK = "hhqqi0q"
"""struct flock: l_type, l_whence, l_start, l_len, l_pid. `l_pid` must be 0 for an OFD lock."""
_TAKEN = frozenset({errno.EAGAIN, errno.EACCES})


def seize(descriptor: int, offset: int) -> bool:
    """Take the OFD lock of the byte at `offset`; False when another description holds it."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, offset))
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True


def free(descriptor: int, offset: int) -> None:
    """Free the OFD lock of the byte at `offset`."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, offset))


def seized(descriptor: int, offset: int) -> bool:
    """Tell whether another description holds the byte at `offset`."""
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, offset))
    return bool(struct.unpack_from("h", answer)[0] != fcntl.F_UNLCK)


def _flock(kind: int, offset: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, offset, 1, 0)


def _offset(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 2


def of_blob(digest: Digest) -> str:
    """Give the key of the lock that is held while a blob is published and linked, or its bytes are removed."""
    return f"blob:{digest}"


class DiskLock:
    """A lock that this process holds."""

    def __init__(self, locks: DiskLocks, offset: int) -> None:
        self._locks: DiskLocks | None = locks
        self._offset = offset

    def release(self) -> None:
        """Free it; a second call does nothing."""
        locks, self._locks = self._locks, None
        if locks is not None:
            locks._released(self._offset)


class _Waiting:
    """One who waits: the Deferred is its own, the timer ends the waiting."""

    def __init__(self, result: Deferred[DiskLock | None], timer: IDelayedCall) -> None:
        self.result = result
        self.timer = timer


class DiskLocks:
    """The locks of one store, in the file at `path`. Used on the reactor alone."""

    def __init__(self, path: str, clock: IReactorTime) -> None:
        self._path = path
        self._clock = clock
        self._descriptor = -1
        self._closed = False
        self._mine: set[int] = set()
        self._queues: dict[int, deque[_Waiting]] = {}
        self._poll: IDelayedCall | None = None
        self._freed: deque[int] = deque()
        self._granting = False

    def open(self) -> None:
        """Open the file, made when it is missing. The first use opens it too. Raises `OSError`."""
        if self._closed:
            raise RuntimeError("the locks are closed")
        if self._descriptor < 0:
            self._descriptor = os.open(
                self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666
            )

    async def hold(self, key: str, wait: float = 0.0) -> DiskLock | None:
        """Take the lock of `key`, waiting up to `wait` seconds; None when another holds it still.

        Nobody overtakes those in this process who wait already: with `wait` 0 that is None too.
        """
        self.open()
        offset = _offset(key)
        if offset not in self._mine and offset not in self._queues and seize(self._descriptor, offset):
            self._mine.add(offset)
            return DiskLock(self, offset)
        if wait <= 0:
            return None
        return await self._queue(offset, wait)

    def held(self, key: str) -> bool:
        """Tell whether anyone, in any process, holds `key` now."""
        self.open()
        offset = _offset(key)
        return offset in self._mine or seized(self._descriptor, offset)

    def close(self) -> None:
        """Free all locks; those who wait get None, and no lock can be taken after that."""
        self._closed = True
        queues, self._queues = self._queues, {}
        self._mine.clear()
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        for queue in queues.values():
            for waiting in queue:
                waiting.timer.cancel()
                waiting.result.callback(None)

    def _queue(self, offset: int, wait: float) -> Deferred[DiskLock | None]:
        def give_up() -> None:
            self._leave(offset, waiting)
            result.callback(None)

        def cancelled(_: Deferred[DiskLock | None]) -> None:
            waiting.timer.cancel()
            self._leave(offset, waiting)

        result: Deferred[DiskLock | None] = Deferred(cancelled)
        waiting = _Waiting(result, self._clock.callLater(wait, give_up))
        self._queues.setdefault(offset, deque()).append(waiting)
        self._schedule()
        return result

    def _leave(self, offset: int, waiting: _Waiting) -> None:
        queue = self._queues[offset]
        queue.remove(waiting)
        if not queue:
            del self._queues[offset]

    def _schedule(self) -> None:
        """Look again in 10 ms as long as someone here waits for a lock that is not this process's."""
        if self._poll is None and any(offset not in self._mine for offset in self._queues):
            self._poll = self._clock.callLater(_POLL, self._look)

    def _look(self) -> None:
        self._poll = None
        for offset in list(self._queues):
            if offset in self._queues and offset not in self._mine and seize(self._descriptor, offset):
                self._mine.add(offset)
                self._released(offset)
        self._schedule()

    def _released(self, offset: int) -> None:
        """Give the lock at `offset`, which is this process's, to the first who waits here, or free it.

        One loop answers all: who gets a lock and frees it at once would else answer the next from within, and
        a long queue would end in a stack overflow.
        """
        self._freed.append(offset)
        if self._granting:
            return
        self._granting = True
        try:
            while self._freed:
                self._pass_on(self._freed.popleft())
        finally:
            self._granting = False

    def _pass_on(self, offset: int) -> None:
        if offset not in self._mine:
            return  # all were closed meanwhile
        queue = self._queues.get(offset)
        if queue is None:
            self._mine.discard(offset)
            free(self._descriptor, offset)
            return
        waiting = queue.popleft()
        if not queue:
            del self._queues[offset]
        waiting.timer.cancel()
        waiting.result.callback(DiskLock(self, offset))


class StoreBusy(StoreError):
    """Another daemon has the store. `pid` is what it wrote down, None when it could not be read."""

    def __init__(self, path: str, pid: int | None, waited: float) -> None:
        who = "another daemon" if pid is None else f"the daemon with process id {pid}"
        super().__init__(
            os.path.dirname(path),
            f"{who} has this store, and kept it for the {waited:g} s that were waited; "
            "stop it first, or give this one a storage path of its own",
        )
        self.pid = pid


class StoreLock:
    """The lock of the one daemon of a store, at `path`. It ends with `close`, or with the death of all who hold it.

    Workers that inherit `descriptor` hold it too: a second daemon waits for the last of them.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        """Its file."""
        self.descriptor = -1
        """The file's descriptor, to be inherited by workers; -1 while the lock is not held."""

    def acquire(self, wait_seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        """Take the lock, waiting up to `wait_seconds`. Blocks: it is called before the reactor runs.

        Raises `StoreBusy` when another has it still, and `StoreError` when the file cannot be used.
        """
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise StoreError(self.path, f"cannot be locked: {error.strerror or error}") from error
        try:
            tries = math.ceil(wait_seconds / _STORE_POLL)
            while not seize(descriptor, 0):
                if tries <= 0:
                    raise StoreBusy(self.path, _read_pid(descriptor), wait_seconds)
                sleep(_STORE_POLL)
                tries -= 1
        except BaseException:
            os.close(descriptor)
            raise
        self.descriptor = descriptor
        _write_pid(descriptor)

    def inherit(self, descriptor: int) -> None:
        """Hold the lock by the `descriptor` of a parent that took it."""
        os.set_inheritable(descriptor, False)
        self.descriptor = descriptor

    def close(self) -> None:
        """Free the lock, as far as this process holds it; a second call does nothing."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _read_pid(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None


def _write_pid(descriptor: int) -> None:
    """Write down who holds the store; only a message is poorer when the disk is full."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
