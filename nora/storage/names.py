"""Names: which are hosted here, and which belong to an upstream. None is both.

The argument. `_hosted` and `_owner` of a name are written under one lock of that name, across processes, and each only
after a look at the other. A pull that resolved an owner while a first push was under way finds the name hosted, and
remembers nothing; a push that comes a moment too late finds the owner. `thing` and `library/thing` share their lock,
because at Docker Hub they are one.

Nothing is remembered here: whether a name is hosted is one `stat`, so every worker knows it from the moment that the
record has its name.
"""

from __future__ import annotations

from collections.abc import Callable

from nora.oci import check_name
from nora.oci.errors import Overloaded
from nora.storage.interfaces import Lock, Locks, OwnerRecord, Records, Repositories

_WAIT = 10.0
"""Seconds that a push waits for a name's lock, which is held for two small writes."""
_LIBRARY = "library/"


def hosted_key(name: str) -> str:
    """Give the key of the record that makes `name` hosted. Raises `InvalidName`."""
    return f"names/{check_name(name)}/_hosted"


class RecordedNames:
    """The names of one store: see `nora.storage.interfaces.Hosted`."""

    def __init__(
        self, records: Records, repositories: Repositories, locks: Locks, now: Callable[[], float]
    ) -> None:
        """`now` gives seconds since the epoch."""
        self._records = records
        self._repositories = repositories
        self._locks = locks
        self._now = now

    def known(self, name: str) -> bool:
        """Tell, by one `stat`, whether `name` is hosted."""
        return self._records.stamp(hosted_key(name)) is not None

    async def owned(self, name: str) -> bool:
        """Tell whether `name`, or for one component `library/<name>`, resolved to an upstream."""
        return any([await self._repositories.owner(each) is not None for each in _both(name)])

    async def mark(self, name: str, *, covered: bool = False) -> bool:
        """Make `name` hosted; False, and it is not, where it is `owned` and not `covered`.

        Raises `Overloaded` when another has the name's lock for too long, `NoSpace`, `OSError`.
        """
        if self.known(name):
            return True
        lock = await self._lock(name)
        if lock is None:
            raise Overloaded(f"{name} is being resolved or pushed by others", 1)
        try:
            if self.known(name):
                return True
            if not covered and await self.owned(name):
                return False
            await self._repositories.remove_owner(name)
            await self._records.put(hosted_key(name), {"since": self._now()})
        finally:
            lock.release()
        return True

    async def resolved(self, name: str, record: OwnerRecord) -> bool:
        """Remember what the unqualified `name` resolved to; False, and nothing is written, where it is hosted.

        What cannot be locked is not remembered either: the next pull resolves it again.
        """
        if self.known(name):
            return False
        lock = await self._lock(name)
        if lock is None:
            return False
        try:
            if self.known(name):
                return False
            await self._repositories.put_owner(name, record)
        finally:
            lock.release()
        return True

    async def _lock(self, name: str) -> Lock | None:
        plain = name if "/" in name else f"{_LIBRARY}{name}"
        return await self._locks.hold(f"name:{plain}", _WAIT)


def _both(name: str) -> tuple[str, ...]:
    return (name,) if "/" in name else (name, f"{_LIBRARY}{name}")
