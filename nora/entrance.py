"""What the configuration says about our own clients, for the composition root: who they are, and what they may do."""

from __future__ import annotations

import os
import stat
import time
import uuid
from typing import Any

from nora.access import Action
from nora.access.htpasswd import BadHtpasswd
from nora.access.limits import Attempts
from nora.access.passwords import File, Passwords, StaticToken
from nora.access.rules import Rule, RuleSet
from nora.access.tokens import Tokens
from nora.config import AuthConfig, Config, TokenConfig
from nora.config.texts import MAX_TOKEN, MIN_TOKEN, is_token
from nora.process import CannotStart
from nora.storage.disk import ThreadedDisk
from nora.storage.keys import read_or_make
from nora.storage.layout import Layout, StoreError
from nora.web.doorkeeper import Doorkeeper, LoopbackDoor
from nora.web.guarded import GuardedDoor
from nora.web.logins import LoginObserver, Logins

_THREADS = 2
"""How many passwords are checked at once: that many cores a flood of logins can take, and no more."""


class Entrance:
    """Makes doors, and keeps what outlives a reload: the threads, the count of failed logins, the key of tokens."""

    def __init__(self, reactor: Any, layout: Layout, observer: LoginObserver) -> None:
        self._reactor = reactor
        self._layout = layout
        self._observer = observer
        self._threads = ThreadedDisk(reactor, _THREADS, "passwords")
        self._attempts = Attempts(reactor.seconds)
        self._process_key = os.urandom(32)
        self._token_key: bytes | None = None

    def start(self) -> None:
        """Take logins from now on."""
        self._threads.start()

    async def stop(self) -> None:
        """End the threads."""
        await self._threads.stop()

    def door(self, config: Config) -> Doorkeeper:
        """Make the door of a configuration; raises `CannotStart` for an htpasswd file or a token that is none."""
        rules = rules_of(config)
        auth = config.auth
        if not auth.enabled:
            return LoopbackDoor(config.docker.push, rules if config.access.rules else None)
        passwords = Passwords(
            self._file(auth),
            [_token(position, token) for position, token in enumerate(auth.tokens, 1)],
            self._threads,
            self._reactor.seconds,
            self._process_key,
        )
        return GuardedDoor(
            Logins(passwords, self._attempts, self._observer),
            Tokens(self.key, time.time, lambda: uuid.uuid4().hex, auth.token_ttl),
            rules,
            anonymous_pull=auth.anonymous_pull,
            public_url=config.server.public_url,
        )

    def prepare(self, config: Config) -> None:
        """Have the store's key if it is to be used; the store's directory is there. Raises `CannotStart`."""
        if config.auth.enabled or config.ui.enabled:
            try:
                self.key()
            except StoreError as error:
                raise CannotStart(str(error)) from error

    def key(self) -> bytes:
        """Give the store's key, which tokens and the forms of pages are signed with. Raises `StoreError`."""
        if self._token_key is None:
            self._token_key = read_or_make(self._layout.token_key, self._layout.temporary())
        return self._token_key

    def _file(self, auth: AuthConfig) -> File | None:
        if auth.htpasswd is None:
            return None
        try:
            return File(auth.htpasswd, self._threads, self._reactor.seconds)
        except BadHtpasswd as error:
            raise CannotStart(f"auth.htpasswd: {auth.htpasswd}: {error}") from None


def rules_of(config: Config) -> RuleSet:
    """Make the rules of a configuration."""
    return RuleSet(
        [
            Rule(rule.user, rule.repository, [Action(word) for word in rule.actions])
            for rule in config.access.rules
        ]
    )


def _token(position: int, token: TokenConfig) -> StaticToken:
    if token.token is not None:
        return StaticToken(token.user, token.token.reveal())
    path = token.token_file or ""
    place = f"auth.tokens[{position}].token_file: {path}"
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise CannotStart(f"{place}: is no regular file")
            text = file.read(MAX_TOKEN + 2).decode("ascii", "replace").strip()
    except OSError as error:
        raise CannotStart(f"{place}: cannot be read: {error.strerror}") from None
    if not is_token(text):
        raise CannotStart(
            f"{place}: must hold one token of at least {MIN_TOKEN} ASCII characters, and nothing else"
        )
    return StaticToken(token.user, text)
