"""The doorkeeper: who a request comes from and what it may do, before an endpoint sees it."""

from __future__ import annotations

from typing import Protocol

from nora.access import ANONYMOUS, Rights
from nora.oci.errors import NoraError
from nora.web.requests import RegistryRequest


class Doorkeeper(Protocol):
    """Asked once for every request under `/v2`, at its headers: before any of its body is read."""

    async def admit(self, request: RegistryRequest) -> Rights:
        """Tell the rights of who asks. Raises `Unauthorized`, `Overloaded` after too many wrong passwords."""

    def answer(self, request: RegistryRequest, error: NoraError) -> NoraError:
        """Give the error that goes out: an anonymous client's `NotAllowed` is a challenge where it could log in."""


class OpenDoor:
    """Lets everyone pull."""

    async def admit(self, request: RegistryRequest) -> Rights:
        """Let it in as anonymous."""
        return ANONYMOUS

    def answer(self, request: RegistryRequest, error: NoraError) -> NoraError:
        """Leave the error as it is."""
        return error
