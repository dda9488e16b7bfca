"""Upload sessions: growing files that clients write to, a folder each.

The argument. `uploads/<id>/session.json` says whose session it is and `uploads/<id>/data` holds its bytes; both are
there before anyone learns the id, which nobody can guess. Whoever holds the lock `upload:<id>` has the session: one
request, in one process; the lock is freed by death. A request only appends, and takes back no more than it appended
itself, so the first bytes of a file never change once its request has ended. That is why a hash kept from an earlier
request is still the hash of the file's beginning, whichever worker went on with it.

Bytes are hashed in the hop that writes them. The state of the hash stays in this process's memory between requests,
and is lost with it: what is not hashed then is read once, when the digest is asked for. Publishing is a rename; there
is never a second copy.

How many sessions are open is counted from the folder's names at most once a second, and in between by what this process
itself begins and ends.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from nora.concurrency import Background, SingleFlight
from nora.oci import Repository, check_name
from nora.oci.errors import InvalidName, InvalidUpload, Overloaded
from nora.oci.reference import LOCAL
from nora.storage.durable import space_checked
from nora.storage.interfaces import Blobs, Disk, Lock, Locks, OpenUpload, Upload
from nora.storage.layout import Layout
from nora.storage.upload import HashState, UploadFile, unlink_session

ALGORITHMS = ("sha256", "sha512")
_ID = re.compile(r"[0-9a-f]{32}\Z")
_WAIT = 5.0
"""Seconds that a request waits for the one before it, which may still be writing what its client sent last."""
_COUNT_AGE = 1.0
_ROOM_AGE = 2.0
"""Seconds in which who asks for too much makes us look for room once."""
_ROOM = 200
"""Sessions that are ended for one who waits for room."""
_EMPTY_IDLE = 60.0
"""Seconds after which a session without a byte is ended when there is no room for another."""
_RETRY_AFTER = 60
_MOST_STATES = 1024
_MOST_SEEN = 4000
_MOST_SESSION = 4096
"""Bytes of a session's document."""


@attrs.frozen
class _Found:
    """A session in its folder."""

    repository: Repository
    user: str | None
    algorithm: str
    descriptor: int
    size: int


class DiskUploads:
    """The upload sessions of one store, in its `uploads` folder."""

    _log = Logger()

    def __init__(
        self,
        layout: Layout,
        disk: Disk,
        locks: Locks,
        blobs: Blobs,
        now: Callable[[], float],
        most: int,
        token: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        """About `most` sessions may be open at once. `now` gives seconds since the epoch, `token` unguessable ids."""
        self.count = 0
        """How many sessions are open in the store, as last counted."""
        self._layout = layout
        self._disk = disk
        self._locks = locks
        self._blobs = blobs
        self._now = now
        self._most = most
        self._token = token
        self._counted_at = -_COUNT_AGE
        self._room_made_at = -_ROOM_AGE
        self._states: OrderedDict[str, HashState] = OrderedDict()
        self._background = Background()
        self._making_room: SingleFlight[None, None] = SingleFlight(self._background)

    def idle(self) -> Deferred[None]:
        """Tell when nothing works on the folder by itself any more: then the disk may stop."""
        return self._background.idle()

    async def begin(self, repository: Repository, user: str | None, algorithm: str = "sha256") -> Upload:
        """Begin a session whose bytes are hashed by `algorithm` as they come; one that is unknown counts for sha256.

        Raises `Overloaded` when there are too many, `NoSpace`.
        """
        await self.recount(_COUNT_AGE)
        if self.count >= self._most and not 0 <= self._now() - self._room_made_at < _ROOM_AGE:
            await self._making_room.run(None, self._make_room)
        if self.count >= self._most:
            raise Overloaded(
                f"{self._most} uploads are open, which is all that docker.max_uploads allows", _RETRY_AFTER
            )
        algorithm = algorithm if algorithm in ALGORITHMS else "sha256"
        id = self._token()
        lock = await self._locks.hold(_key(id))
        if lock is None:
            raise InvalidUpload("another request has this upload")
        self.count += 1
        document = {
            "namespace": repository.namespace,
            "name": check_name(repository.name),
            "user": user,
            "began": self._now(),
            "algorithm": algorithm,
        }
        try:
            descriptor = await self._disk.run(_make, self._layout.upload(id), json.dumps(document))
        except BaseException:
            self.count -= 1
            lock.release()
            raise
        found = _Found(repository, user, algorithm, descriptor, 0)
        return self._upload(id, found, lock, HashState(hashlib.new(algorithm), 0))

    async def open(self, id: str) -> Upload | None:
        """Take a session for one request; None when there is none, or when `id` is none of ours.

        Raises `InvalidUpload` while another request has it.
        """
        if not _ID.match(id):
            return None
        lock = await self._locks.hold(_key(id), _WAIT)
        if lock is None:
            raise InvalidUpload("another request has this upload")
        try:
            found = await self._disk.run(_find, self._layout.upload(id))
        except BaseException:
            lock.release()
            raise
        if found is None:
            self._states.pop(id, None)
            lock.release()
            return None
        state = self._states.pop(id, None)
        if state is None or state.hashed > found.size:
            state = HashState(hashlib.new(found.algorithm), 0)
        return self._upload(id, found, lock, state)

    async def recount(self, age: float = 0.0) -> None:
        """Count the sessions again, unless that was done within `age` seconds."""
        now = self._now()
        if 0 <= now - self._counted_at < age:
            return
        self._counted_at = now
        self.count = await self._disk.run(_count, self._layout.uploads)

    async def seen(self, most: int) -> list[OpenUpload]:
        """Tell which sessions are open, of all processes: `most` of them, the one that was written to last first.

        Where there are more than a few thousand, it looks at no more than those.
        """
        return await self._disk.run(_see, self._layout.uploads, most)

    async def sweep(self, age: float, idle: float) -> int:
        """End the sessions that began `age` seconds ago, or had nothing written for `idle`; gives their number.

        One that a request has just now is left alone.
        """
        now = self._now()
        swept = await self._end(lambda each: each.began < now - age or each.written < now - idle)
        await self.recount()
        return swept

    async def _make_room(self) -> None:
        """End some of what nobody ever wrote to, the oldest first; then count again."""
        self._room_made_at = self._now()
        before = self._room_made_at - _EMPTY_IDLE
        ended = await self._end(lambda each: each.size == 0 and each.written < before, _ROOM)
        await self.recount()
        self._log.warn(
            "there are {most} uploads, all that docker.max_uploads allows; {ended} without a byte were ended",
            most=self._most,
            ended=ended,
        )

    async def _end(self, is_over: Callable[[_Seen], bool], most: int = sys.maxsize) -> int:
        """End up to `most` sessions of which `is_over` says so, before and after their lock is held."""
        ended = 0
        over = filter(is_over, await self._disk.run(_list, self._layout.uploads))
        for seen in sorted(over, key=lambda each: each.written)[:most]:
            lock = await self._locks.hold(_key(seen.id))
            if lock is None:
                continue
            try:
                folder = self._layout.upload(seen.id)
                again = await self._disk.run(_look, folder, seen.id)
                if again is not None and is_over(again):
                    await self._disk.run(unlink_session, folder)
                    self._states.pop(seen.id, None)
                    ended += 1
            finally:
                lock.release()
        return ended

    def _upload(self, id: str, found: _Found, lock: Lock, state: HashState) -> UploadFile:
        def closed(state: HashState | None) -> None:
            """Keep the hash for the next request, or count the session as ended."""
            if state is None:
                self.count = max(0, self.count - 1)
            else:
                self._states[id] = state
                if len(self._states) > _MOST_STATES:
                    self._states.popitem(last=False)
            lock.release()

        return UploadFile(
            self._layout.upload(id),
            self._disk,
            self._blobs,
            id=id,
            repository=found.repository,
            user=found.user,
            descriptor=found.descriptor,
            size=found.size,
            state=state,
            closed=closed,
        )


@attrs.frozen
class _Seen:
    """What a sweep sees of a session; times in seconds since the epoch."""

    id: str
    began: float
    written: float
    size: int


def _key(id: str) -> str:
    return f"upload:{id}"


def _make(folder: str, document: str) -> int:
    """Make a session's folder and files; gives a descriptor of its data. A crash may leave a part, for the sweep."""
    with space_checked():
        try:
            os.mkdir(folder, 0o700)
            with open(f"{folder}/session.json", "x", encoding="utf-8") as file:
                file.write(document)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            return os.open(f"{folder}/data", flags, 0o600)
        except OSError:
            unlink_session(folder)
            raise


def _find(folder: str) -> _Found | None:
    document = _read(folder)
    namespace, name, user = document.get("namespace"), document.get("name"), document.get("user")
    algorithm = document.get("algorithm")
    if namespace != LOCAL or not isinstance(name, str) or not isinstance(user, str | None):
        return None
    if algorithm not in ALGORITHMS:
        return None
    try:
        repository = Repository(LOCAL, check_name(name))
        descriptor = os.open(f"{folder}/data", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError, InvalidName):
        return None
    return _Found(repository, user, algorithm, descriptor, os.fstat(descriptor).st_size)


def _read(folder: str) -> dict[str, Any]:
    """Read a session's document; empty when there is none, or none that can be understood."""
    try:
        with open(f"{folder}/session.json", "rb") as file:
            document = json.loads(file.read(_MOST_SESSION))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _names(folder: str) -> list[str]:
    return [name for name in os.listdir(folder) if _ID.match(name)]


def _see(folder: str, most: int) -> list[OpenUpload]:
    looks = [_look(f"{folder}/{name}", name) for name in _names(folder)[:_MOST_SEEN]]
    found = sorted(filter(None, looks), key=lambda each: each.written, reverse=True)
    seen = []
    for each in found[:most]:
        document = _read(f"{folder}/{each.id}")
        name, user, began = document.get("name"), document.get("user"), document.get("began")
        if isinstance(name, str) and isinstance(user, str | None) and isinstance(began, int | float):
            seen.append(OpenUpload(Repository(LOCAL, name), user, float(began), each.written, each.size))
    return seen


def _count(folder: str) -> int:
    return len(_names(folder))


def _list(folder: str) -> list[_Seen]:
    seen = [_look(f"{folder}/{name}", name) for name in _names(folder)]
    return [each for each in seen if each is not None]


def _look(folder: str, id: str) -> _Seen | None:
    """Look at a session, or at what a crash left of one: the times of its folder then count."""
    try:
        found = os.lstat(folder)
        began, written, size = found.st_mtime, found.st_mtime, 0
        try:
            data = os.lstat(f"{folder}/data")
        except FileNotFoundError:
            pass
        else:
            written, size = data.st_mtime, data.st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _Seen(id, began, written, size)
