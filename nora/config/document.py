"""Reading the configuration file itself: bytes to a TOML document, or the one reason why not."""

from __future__ import annotations

import re
import sys
from typing import Any

from nora.config.mistakes import ConfigError, Mistake

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_FILE = 1 << 20
"""The largest configuration file, in bytes."""

_POSITION = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)\Z", re.DOTALL)


def read_document(path: str) -> dict[str, Any]:
    """Read the TOML file at `path`; raises `ConfigError` with line and column where it does not parse."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError([Mistake(path, f"cannot be read: {reason}")]) from None
    if len(content) > MAX_FILE:
        raise ConfigError([Mistake(path, f"must have at most {MAX_FILE} bytes")])
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([Mistake(f"{path}: line {line}", "is not UTF-8")]) from None
    except RecursionError:
        raise ConfigError([Mistake(path, "is nested too deeply")]) from None
    except ValueError as error:
        raise ConfigError([_unparsed(path, str(error), content.count(b"\n") + 1)]) from None


def _unparsed(path: str, message: str, lines: int) -> Mistake:
    """Put the position first, which every version of tomllib has at the end of its message."""
    found = _POSITION.match(message)
    if found is None:  # not the grammar, but Python's limit on the digits of a number
        return Mistake(path, message.partition(":")[0])
    place = f"line {lines}, end of file" if found[2] is None else f"line {found[2]}, column {found[3]}"
    return Mistake(f"{path}: {place}", found[1])
