"""Where credentials are kept: the configuration, a file, a Docker `config.json` and the programs that it names."""

from __future__ import annotations

import base64
import json
import math
import os
import re
import stat
from typing import Any

from twisted.logger import Logger

from nora.upstream import programs
from nora.upstream.credential import MAX_SECRET, Credential, Kind
from nora.upstream.credentials import PAUSE, Source, Unreadable
from nora.upstream.origin import Origin

MAX_CONFIG = 1024 * 1024
"""The longest `config.json`, in bytes."""

_HUB_KEY = "https://index.docker.io/v1/"
_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_PROGRAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_TOKEN = re.compile(r"[\x21-\x7e]+\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_IDENTITY_USER = "<token>"
_NOT_FOUND = "no credential for"


def make_source(
    reactor: Any,
    url: str,
    *,
    auth: str | None = None,
    username: str | None = None,
    password_file: str | None = None,
    token_file: str | None = None,
    docker_config: str | None = None,
    lifetime: float = 3600.0,
) -> Source | None:
    """Make the source of the credential for the registry at `url`, of the one kind that is given; None for none.

    `auth` is `user:password`; `lifetime` is how many seconds that of a program is used.
    """
    if auth is not None:
        user, _, password = auth.partition(":")
        return Fixed(user, password)
    if username is not None and password_file is not None:
        return PasswordFile(username, password_file)
    if token_file is not None:
        return TokenFile(token_file)
    if docker_config is not None:
        return DockerConfig(reactor, docker_config, Origin.of(url).netloc, lifetime)
    return None


class Fixed:
    """A credential that the configuration holds."""

    lifetime = math.inf
    pause = 0.0

    def __init__(self, user: str, password: str) -> None:
        self._credential = Credential(Kind.BASIC, user, password)

    def stamp(self) -> object:
        """It never changes."""
        return None

    async def read(self) -> Credential:
        """Give it."""
        return self._credential


class _File:
    """A small file of text, whose mode is looked at once."""

    _log = Logger()

    def __init__(self, path: str, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._warned = False

    def stamp(self) -> object:
        try:
            found = os.stat(self._path)
        except OSError as error:
            return error.errno
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size

    def read(self) -> str:
        try:
            with open(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise Unreadable(f"{self._path} is no regular file")
                data = file.read(self._limit + 1)
        except OSError as error:
            raise Unreadable(f"{self._path}: {error.strerror}") from None
        if found.st_mode & stat.S_IROTH and not self._warned:
            self._warned = True
            self._log.warn("{path} holds a secret and everybody on this machine may read it", path=self._path)
        if len(data) > self._limit:
            raise Unreadable(f"{self._path} is longer than {self._limit} bytes")
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise Unreadable(f"{self._path} is no text") from None


class PasswordFile:
    """A user's password in a file of its own; a line's end after it does not count."""

    lifetime = math.inf
    pause = 0.0

    def __init__(self, user: str, path: str) -> None:
        self._user = user
        self._path = path
        self._file = _File(path, MAX_SECRET)

    def stamp(self) -> object:
        """As `Source.stamp`."""
        return self._file.stamp()

    async def read(self) -> Credential:
        """As `Source.read`."""
        password = self._file.read().rstrip("\r\n")
        if not password or _CONTROL.search(password):
            raise Unreadable(f"{self._path} does not hold one line with a password")
        return Credential(Kind.BASIC, self._user, password)


class TokenFile:
    """A bearer token in a file of its own."""

    lifetime = math.inf
    pause = 0.0

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = _File(path, MAX_SECRET)

    def stamp(self) -> object:
        """As `Source.stamp`."""
        return self._file.stamp()

    async def read(self) -> Credential:
        """As `Source.read`."""
        token = self._file.read().strip()
        if not _TOKEN.match(token):
            raise Unreadable(f"{self._path} does not hold one token")
        return Credential(Kind.BEARER, "", token)


class DockerConfig:
    """What `docker login` and its credential helpers leave in a `config.json`, for the registry at `host`.

    `host` is host and port as they stand in image references. A helper named for the registry counts first, then the
    one for all, then what is in the file itself, as with Docker.
    """

    pause = PAUSE

    def __init__(self, reactor: Any, path: str, host: str, lifetime: float) -> None:
        """`lifetime`: for how many seconds what a program said is used."""
        self.lifetime = lifetime
        self._reactor = reactor
        self._path = path
        self._host = host
        self._file = _File(path, MAX_CONFIG)
        self._server = _HUB_KEY if host in _HUB else host

    def stamp(self) -> object:
        """As `Source.stamp`."""
        return self._file.stamp()

    async def read(self) -> Credential:
        """As `Source.read`."""
        try:
            document = json.loads(self._file.read())
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise Unreadable(f"{self._path} is no JSON object")
        named = self._entry(document.get("credHelpers"))
        common = document.get("credsStore")
        entry = self._entry(document.get("auths"))
        kept = _of_entry(entry) if isinstance(entry, dict) else None
        if named:
            return await self._ask(named)
        if common and kept is None:  # where both are, Docker keeps an empty entry in the file
            return await self._ask(common)
        if kept is None:
            raise Unreadable(f"{self._path} has {_NOT_FOUND} {self._server}")
        return kept

    def _entry(self, table: object) -> object:
        """Find what a table says about the host, in each way that Docker writes it."""
        if not isinstance(table, dict):
            return None
        names = _HUB if self._host in _HUB else {self._host}
        for key, value in table.items():
            if key == self._server or _host_of(key) in names:
                found: object = value
                return found
        return None

    async def _ask(self, name: object) -> Credential:
        if not isinstance(name, str) or not _PROGRAM.match(name):
            raise Unreadable(f"{self._path} names a credential helper that cannot be one")
        program = f"docker-credential-{name}"
        said = await programs.run(self._reactor, program, "get", self._server)
        try:
            answer = json.loads(said)
            user, secret = answer["Username"], answer["Secret"]
        except (ValueError, RecursionError, TypeError, KeyError):
            raise Unreadable(f"{program} did not say a user name and a secret") from None
        credential = _checked(user, secret)
        if credential is None:
            raise Unreadable(f"{program} said a user name or a secret that cannot be one")
        return credential


def _host_of(key: object) -> str:
    """Read the host of a key such as `ghcr.io` or `https://index.docker.io/v1/`."""
    text = key if isinstance(key, str) else ""
    return text.partition("://")[2].partition("/")[0] if "://" in text else text.partition("/")[0]


def _of_entry(entry: dict[str, Any]) -> Credential | None:
    token, auth = entry.get("identitytoken"), entry.get("auth")
    if token:
        return _checked(_IDENTITY_USER, token)
    if auth and isinstance(auth, str) and len(auth) <= 2 * MAX_SECRET:
        try:
            user, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except ValueError:
            return None
        return _checked(user, password.rstrip("\0")) if colon else None
    return _checked(entry.get("username"), entry.get("password"))


def _checked(user: object, secret: object) -> Credential | None:
    """Make a credential of what came from outside; None of what cannot be one."""
    if not isinstance(user, str) or not isinstance(secret, str):
        return None
    if any(not 0 < len(text) <= MAX_SECRET or _CONTROL.search(text) for text in (user, secret)):
        return None
    if user == _IDENTITY_USER:
        return Credential(Kind.IDENTITY, "", secret)
    return None if ":" in user else Credential(Kind.BASIC, user, secret)
