"""The htpasswd file: users and the bcrypt of their passwords, as `htpasswd -B` writes it.

Only bcrypt is taken: what else such files may hold (crypt, MD5, SHA-1, plain text) can be guessed too fast.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Mapping

import attrs

from nora.access.rules import RESERVED

MAX_FILE = 1 << 20
"""The longest file, in bytes."""
MAX_USER = 128
MAX_COST = 14
"""A password with a higher cost would take a thread for seconds, and at the highest for days."""

_HASH = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}\Z")
_UNKNOWN_COST = 10
_NOBODY = "." * 53


class BadHtpasswd(ValueError):
    """The file cannot be used; the message says why, with the line's number and nothing of its content."""


@attrs.frozen
class Users:
    """The users of a file, each with the bcrypt of the password."""

    hashes: Mapping[str, bytes] = attrs.field(repr=False)

    @property
    def nobody(self) -> bytes:
        """A bcrypt that no password has, and that takes as long to find that out as most users' do."""
        costs = Counter(found[4:6] for found in self.hashes.values())
        cost = int(costs.most_common(1)[0][0]) if costs else _UNKNOWN_COST
        return f"$2b${cost:02}${_NOBODY}".encode()


def parse(text: str) -> Users:
    """Read the lines of a file; raises `BadHtpasswd`."""
    hashes: dict[str, bytes] = {}
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.rstrip("\r").strip(" \t")
        if not entry or entry.startswith("#"):
            continue
        user, colon, hashed = entry.partition(":")
        if not colon:
            raise BadHtpasswd(f"line {number}: must be user:bcrypt, as htpasswd -B writes it")
        if not is_user(user):
            raise BadHtpasswd(f"line {number}: the user must be {USER_ALLOWS}")
        if user in hashes:
            raise BadHtpasswd(f"line {number}: the user is there twice")
        found = _HASH.match(hashed)
        if found is None:
            raise BadHtpasswd(
                f"line {number}: the password must be bcrypt, as htpasswd -B writes it; no other kind is taken"
            )
        if not 4 <= int(found[1]) <= MAX_COST:
            raise BadHtpasswd(f"line {number}: the cost of the bcrypt must be from 4 to {MAX_COST}")
        hashes[user] = hashed.encode("ascii")
    return Users(hashes)


USER_ALLOWS = (
    f"1 to {MAX_USER} printable characters without a colon, and none of the words "
    f"{' '.join(sorted(RESERVED))}, which mean others"
)


def is_user(name: str) -> bool:
    """Tell whether a user can be called so."""
    return 0 < len(name) <= MAX_USER and name.isprintable() and ":" not in name and name not in RESERVED


def stamp(path: str) -> object:
    """Tell by one `stat` what changes whenever the file does."""
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def read(path: str) -> Users:
    """Read the file at `path`. Blocks. Raises `BadHtpasswd`, whose message does not begin with the path."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BadHtpasswd("is no regular file")
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise BadHtpasswd(f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise BadHtpasswd(f"must have at most {MAX_FILE} bytes")
    try:
        return parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadHtpasswd(f"line {line}: is not UTF-8") from None
