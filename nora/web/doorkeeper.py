"""The doorkeeper: who a request comes from and what it may do, before an endpoint sees it."""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

from typing import Protocol

from nora.access import ANONYMOUS, Action, Rights, Rules
from nora.oci.errors import Denied, NoraError, NotAllowed
from nora.web import challenges, origins
from nora.web.requests import RegistryRequest
from nora.web.visitors import visitor

_PULL = frozenset({Action.PULL})
_PUSH = frozenset({Action.PULL, Action.PUSH, Action.DELETE})
_ADMIN = frozenset({Action.ADMIN})
_WHO = {
    "loopback": "only programs on this machine may, by a loopback name",
    "never": "nobody may",
    "always": "it is closed to you all the same",
}


class Doorkeeper(Protocol):
    """Asked once for every request under `/v2`, at its headers: before any of its body is read."""

    async def admit(self, request: RegistryRequest) -> Rights:
        """Tell the rights of who asks. Raises `Unauthorized`, `Overloaded` after too many wrong passwords."""

    def at_once(self, request: RegistryRequest) -> Rights | None:
        """Tell what `admit` would, where that takes no time and nothing is wrong; else None."""

    def answer(self, request: RegistryRequest, error: NoraError) -> NoraError:
        """Give the error that goes out: an anonymous client's `NotAllowed` is a challenge where it could log in."""


class OpenDoor:
    """Lets everyone pull."""

    async def admit(self, request: RegistryRequest) -> Rights:
        """Let it in as anonymous."""
        return ANONYMOUS

    def at_once(self, request: RegistryRequest) -> Rights | None:
        """Let it in as anonymous."""
        return ANONYMOUS

    def answer(self, request: RegistryRequest, error: NoraError) -> NoraError:
        """Leave the error as it is."""
        return error


class LoopbackDoor:
    """The door while nobody can log in: everybody pulls, and `push` says who pushes: `loopback`, `always`, `never`.

    Whatever `Authorization` a client sends is ignored. A program on this machine is its administrator too.
    """

    def __init__(self, push: str, rules: Rules | None = None) -> None:
        self._push = push
        self._rights = {
            (pushes, local): Rights(
                None, (_PUSH if pushes else _PULL) | (_ADMIN if local else frozenset()), rules
            )
            for pushes in (False, True)
            for local in (False, True)
        }

    async def admit(self, request: RegistryRequest) -> Rights:
        """Tell the rights of who asks."""
        return self.at_once(request)

    def at_once(self, request: RegistryRequest) -> Rights:
        """Tell the rights of who asks."""
        local = self._is_local(request)
        pushes = self._push == "always" or (self._push == "loopback" and local)
        return self._rights[pushes, local]

    def answer(self, request: RegistryRequest, error: NoraError) -> NoraError:
        """Tell who may not push which key says so."""
        need = challenges.needed(request)
        if not isinstance(error, NotAllowed) or need is None or need[1] is Action.PULL:
            return error
        return Denied(
            f'{error.message}: without [auth] the key docker.push says who may, and it is "{self._push}": '
            f"{_WHO[self._push]}",
            error.detail,
        )

    def _is_local(self, request: RegistryRequest) -> bool:
        """Tell whether a program on this machine asks, or our own page in its browser; others send their `Origin`."""
        seen = visitor(request)
        return seen.local and origins.is_at(request, seen)
