"""What of the configuration becomes a door: at the start, by a reload, and what stops either."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import attrs

from nora.config import (
    AccessConfig,
    AuthConfig,
    Config,
    RuleConfig,
    Secret,
    TokenConfig,
    UpstreamConfig,
)
from nora.config.kinds import Refused
from nora.config.texts import TokenText
from nora.config.values import UiConfig
from nora.process import CannotReload, CannotStart
from tests.support.daemon_case import DaemonCase, reactor
from tests.support.doors import PASSWORD, TOKEN, basic, write_users
from tests.support.http_client import Reply, connect


class EntranceTests(DaemonCase):
    """A daemon with `[auth]`."""

    def setUp(self) -> None:
        super().setUp()
        self.store.parent.mkdir(parents=True, exist_ok=True)
        self.users = self.store.parent / "users"
        write_users(self.users, "alice")
        self.key = self.store / "token.key"

    def auth(self, **keys: object) -> Config:
        """Have an `[auth]` with these keys."""
        self.config = attrs.evolve(self.config, auth=AuthConfig(**keys))  # type: ignore[arg-type]
        return self.config

    async def ask(self, path: str, *headers: str) -> Reply:
        """Ask the daemon."""
        client = await connect(reactor, self.config.server.port)
        try:
            return await client.ask("GET", path, *headers)
        finally:
            client.transport.abortConnection()
            await client.closed()

    async def test_logins(self) -> None:
        """Users and tokens get in; the key is made once, 32 bytes that only the owner reads, and outlives a restart."""
        token_file = self.store.parent / "ci.token"
        token_file.write_text(f"{TOKEN}-of-ci\n")
        tokens = (TokenConfig("robot", Secret(TOKEN)), TokenConfig("ci", token_file=str(token_file)))
        self.auth(htpasswd=str(self.users), tokens=tokens)
        daemon = await self.running()
        for user, password in (("alice", PASSWORD), ("robot", TOKEN), ("ci", f"{TOKEN}-of-ci")):
            reply = await self.ask("/v2/", f"Authorization: {basic(user, password)}")
            self.assertEqual(reply.status, 200, user)
        self.assertEqual((await self.ask("/v2/")).status, 401)
        token = json.loads((await self.ask("/v2/token", f"Authorization: {basic('alice', PASSWORD)}")).body)[
            "token"
        ]
        self.assertEqual(stat.S_IMODE(self.key.stat().st_mode), 0o600)
        key = self.key.read_bytes()
        await daemon.stop(0.1)
        daemon = await self.running()
        self.assertEqual(self.key.read_bytes(), key)
        self.assertEqual((await self.ask("/v2/", f"Authorization: Bearer {token}")).status, 200)
        await daemon.stop(0.1)

    async def test_no_auth_no_key(self) -> None:
        """While nobody can log in, and there are no pages whose forms need one, there is no key, and no 401."""
        self.config = attrs.evolve(self.config, ui=UiConfig(enabled=False))
        daemon = await self.running()
        self.assertEqual((await self.ask("/v2/")).status, 200)
        self.assertFalse(self.key.exists())
        await daemon.stop(0.1)

    async def test_reloaded(self) -> None:
        """Auth comes, changes and goes with a reload; what cannot be used changes nothing."""
        daemon = await self.running()
        self.auth(htpasswd=str(self.users))
        daemon.reload()
        self.assertEqual((await self.ask("/v2/")).status, 401)
        self.assertEqual((await self.ask("/v2/token")).status, 200)
        self.auth(htpasswd=str(self.users), anonymous_pull=False)
        daemon.reload()
        self.assertEqual((await self.ask("/v2/token")).status, 401)
        self.users.write_text("alice:plain\n")
        error = self.assertRaises(CannotReload, daemon.reload)
        self.assertEqual(
            str(error),
            f"auth.htpasswd: {self.users}: line 1: the password must be bcrypt, as htpasswd -B writes it; "
            "no other kind is taken",
        )
        self.assertEqual((await self.ask("/v2/token")).status, 401)
        self.auth()
        rule = RuleConfig("everyone", "docker.io/*", actions=())
        hub = UpstreamConfig("http://127.0.0.1:1", namespace="docker.io")
        docker = attrs.evolve(self.config.docker, upstreams=(hub,), offline=True)
        self.config = attrs.evolve(self.config, docker=docker, access=AccessConfig((rule,)))
        daemon.reload()
        self.assertEqual((await self.ask("/v2/")).status, 200)
        self.assertEqual((await self.ask("/v2/a/manifests/1")).status, 403)
        self.config = attrs.evolve(self.config, access=AccessConfig())
        daemon.reload()
        self.assertEqual((await self.ask("/v2/a/manifests/1")).status, 404)
        await daemon.stop(0.1)

    def test_cannot_start(self) -> None:
        """A file that is none stops the start with one line that names the key."""
        missing = str(self.store.parent / "missing")
        short = self.store.parent / "short"
        short.write_text("too short")
        pipe = self.store.parent / "pipe"
        os.mkfifo(pipe)
        for keys, reason in (
            ({"htpasswd": missing}, f"auth.htpasswd: {missing}: cannot be read: No such file or directory"),
            (
                {"tokens": (TokenConfig("a", token_file=missing),)},
                r"auth.tokens\[1\].token_file: .*: cannot be read",
            ),
            ({"tokens": (TokenConfig("a", token_file=str(pipe)),)}, "is no regular file"),
            ({"tokens": (TokenConfig("a", token_file=str(short)),)}, "at least 16"),
        ):
            error = self.assertRaises(CannotStart, self.daemon, self.auth(**keys))
            self.assertRegex(str(error), reason)
            self.assertNotIn("\n", str(error))

    async def test_bad_key(self) -> None:
        """A key that is none stops the start too, and says what to do."""
        self.store.mkdir(parents=True)
        Path(self.key).write_bytes(b"short")
        error = await self.refused(self.daemon(self.auth(htpasswd=str(self.users))), CannotStart)
        self.assertIn("token.key", str(error))

    def test_tokens_are_long(self) -> None:
        """A short token is a mistake, and a refusal does not show it."""
        self.assertEqual(TokenText().read(TOKEN), Secret(TOKEN))
        for text in ("short", "x" * 15, "spaces in a long token", "ä" * 20):
            error = self.assertRaises(Refused, TokenText().read, text)
            self.assertNotIn(text, f"{error} {error.value}")
