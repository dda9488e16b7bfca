"""Passwords: whether a user is who it says, found out off the reactor, and remembered for a short while.

bcrypt is slow on purpose, so it runs in threads, few at once, with few waiting. A success is remembered under a keyed
hash of user and password, so that a client that sends them with every request costs microseconds from then on; a
change of the file forgets all. Who is not there takes as long as who is.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import attrs
import bcrypt
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from nora.access import htpasswd
from nora.access.htpasswd import BadHtpasswd, Users
from nora.concurrency import Background, SingleFlight
from nora.oci.errors import Overloaded

MAX_PASSWORD = 4096
MAX_WAITING = 64
"""How many passwords may be checked, or wait for that, at once."""
LIFETIME = 60.0
"""For how many seconds a success is remembered."""
_MAX_REMEMBERED = 4096
_LOOK_INTERVAL = 1.0
"""Seconds between two looks at the file."""
_BCRYPT_BYTES = 72
"""What bcrypt takes of a password; `htpasswd` cuts there too."""


class Threads(Protocol):
    """Where passwords are checked; a `nora.storage.interfaces.Disk` with few threads is one."""

    def run(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Call `work(*arguments)` in a thread; the result arrives on the reactor."""


@attrs.frozen
class StaticToken:
    """A secret of the configuration: a password of `user`, and a bearer token."""

    user: str
    secret: str = attrs.field(repr=False)


class File:
    """The htpasswd file as it was when it last could be used."""

    _log = Logger()

    def __init__(self, path: str, threads: Threads, seconds: Callable[[], float]) -> None:
        """Read it at once; raises `BadHtpasswd`."""
        self._path = path
        self._threads = threads
        self._seconds = seconds
        self._stamp = htpasswd.stamp(path)
        self.users = htpasswd.read(path)
        self.nobody = self.users.nobody
        self._looked_at = seconds()
        self._reading = False

    @property
    def due(self) -> bool:
        """Whether it is time to look whether it has changed."""
        return not self._reading and self._seconds() - self._looked_at >= _LOOK_INTERVAL

    async def renew(self) -> bool:
        """Read it again when it has changed; tells whether there are new users now.

        While one caller reads, the others go on with what is there. A file that is broken changes nothing.
        """
        if not self.due:
            return False
        self._looked_at = self._seconds()
        stamp = htpasswd.stamp(self._path)
        if stamp == self._stamp:
            return False
        self._reading = True
        try:
            users: Users = await self._threads.run(htpasswd.read, self._path)
        except BadHtpasswd as error:
            self._log.error(
                "the new {path} is not taken over, the old users stay: {error}", path=self._path, error=error
            )
            return False
        finally:
            self._reading = False
            self._stamp = stamp
        self.users, self.nobody = users, users.nobody
        self._log.info("{path} was read again: {count} users", path=self._path, count=len(users.hashes))
        return True


class Passwords:
    """The users of one configuration: of `file`, and of `tokens`. `key` is random, of this process alone."""

    def __init__(
        self,
        file: File | None,
        tokens: Iterable[StaticToken],
        threads: Threads,
        seconds: Callable[[], float],
        key: bytes,
    ) -> None:
        self._file = file
        self._threads = threads
        self._seconds = seconds
        self._key = key
        self._tokens = tuple((token.user, self._hash(token.secret)) for token in tokens)
        self._token_users = frozenset(user for user, _ in self._tokens)
        self._remembered: OrderedDict[bytes, float] = OrderedDict()
        self._background = Background()
        self._checking: SingleFlight[bytes, bool] = SingleFlight(self._background)

    def knows(self, user: str) -> bool:
        """Tell whether there is such a user now."""
        return user in self._token_users or (self._file is not None and user in self._file.users.hashes)

    def remembers(self, user: str, password: str) -> bool:
        """Tell whether this was right a short while ago."""
        until = self._remembered.get(self._hash(user, password))
        return until is not None and self._seconds() < until

    def bearer(self, text: str) -> str | None:
        """Tell whose token of the configuration `text` is."""
        found = None
        given = self._hash(text)
        for user, hashed in self._tokens:
            if hmac.compare_digest(given, hashed):
                found = user
        return found

    @property
    def due(self) -> bool:
        """Whether `renew` would look at the htpasswd file: the users may not be those of now."""
        return self._file is not None and self._file.due

    async def renew(self) -> None:
        """Take over a new htpasswd file."""
        if self._file is not None and await self._file.renew():
            self._remembered.clear()

    async def check(self, user: str, password: str) -> bool:
        """Tell whether it is the user's password; raises `Overloaded` when too many are being checked."""
        if len(password) > MAX_PASSWORD or "\0" in password:
            return False
        key = self._hash(user, password)
        if key not in self._checking and len(self._background) >= MAX_WAITING:
            raise Overloaded("too many logins are being checked", 2)
        return await self._checking.run(key, lambda: self._check(key, user, password))

    async def _check(self, key: bytes, user: str, password: str) -> bool:
        file = self._file
        users = None if file is None else file.users
        right = self._is_token(user, password) or await self._matches(user, password)
        if right and (file is None or file.users is users):
            self._remember(key)
        return right

    def _is_token(self, user: str, password: str) -> bool:
        right = False
        given = self._hash(password)
        for owner, hashed in self._tokens:
            right |= hmac.compare_digest(given, hashed) and owner == user
        return right

    async def _matches(self, user: str, password: str) -> bool:
        if self._file is None:
            return False
        hashed = self._file.users.hashes.get(user)
        given = password.encode()[:_BCRYPT_BYTES]
        right: bool = await self._threads.run(bcrypt.checkpw, given, hashed or self._file.nobody)
        return right and hashed is not None

    def _remember(self, key: bytes) -> None:
        self._remembered[key] = self._seconds() + LIFETIME
        self._remembered.move_to_end(key)
        while len(self._remembered) > _MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _hash(self, *texts: str) -> bytes:
        return hmac.digest(self._key, "\0".join(texts).encode("utf-8", "surrogatepass"), hashlib.sha256)
