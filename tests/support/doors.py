"""Doors for tests: users with passwords that cost little, and requests that no socket brought."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bcrypt
from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers

from nora.access.limits import Attempts
from nora.access.passwords import File, Passwords, StaticToken
from nora.access.rules import Rule, RuleSet
from nora.access.tokens import Tokens
from nora.telemetry import Metrics
from nora.web.guarded import GuardedDoor
from nora.web.logins import Logins
from nora.web.requests import Visit

PASSWORD = "tests-secret"
TOKEN = "a-token-of-many-letters"


def basic(user: str, password: str) -> str:
    """Write the value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def write_users(path: Path, *users: str) -> None:
    """Write an htpasswd file in which each of `users` has `PASSWORD`."""
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    path.write_text("".join(f"{user}:{hashed}\n" for user in users))


class Threads:
    """Threads that work at once."""

    def run(self, work: Any, *arguments: Any) -> Deferred[Any]:
        """Do the work."""
        return execute(work, *arguments)


class House:
    """A door with the users alice, bob, and ci, who has a token; `now` is the time of tokens."""

    def __init__(self, folder: Path, clock: IReactorTime, metrics: Metrics) -> None:
        self.users = folder / "users"
        write_users(self.users, "alice", "bob")
        self._clock = clock
        self.now = 1_000_000.0
        self.attempts = Attempts(clock.seconds)
        self._metrics = metrics

    def door(
        self, *rules: Rule, anonymous_pull: bool = True, public_url: str | None = None, file: bool = True
    ) -> GuardedDoor:
        """Make a door."""
        seconds = self._clock.seconds
        found = File(str(self.users), Threads(), seconds) if file else None
        passwords = Passwords(found, [StaticToken("ci", TOKEN)], Threads(), seconds, b"key")
        return GuardedDoor(
            Logins(passwords, self.attempts, self._metrics),
            Tokens(lambda: b"k" * 32, lambda: self.now, lambda: "id", 300),
            RuleSet(rules),
            anonymous_pull=anonymous_pull,
            public_url=public_url,
        )


class AtTheDoor:
    """As much of a request as a door looks at."""

    isSecure = staticmethod(lambda: False)

    def __init__(
        self, method: str, path: str, *headers: Sequence[str], query: dict[bytes, list[bytes]] | None = None
    ):
        self.method = method.encode()
        self.path = self.uri = path.encode()
        self.args = query or {}
        self.requestHeaders = Headers({name.encode(): [value.encode()] for name, value in headers})
        self.visit: Visit | None = None
