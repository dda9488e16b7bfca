"""Challenges: what `WWW-Authenticate` asks for (RFC 9110 section 11).

One header line may hold several challenges, a challenge several parameters, both separated by commas, and a
quoted value may hold commas itself. So it is read by a scanner, never split. What does not fit the grammar ends the
reading of its line; what was read before it counts. Nothing is ever raised: a server that sends nonsense has sent no
challenge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import attrs

_MAX_LINES = 16
_MAX_LINE = 16 * 1024
_MAX_CHALLENGES = 32
_MAX_PARAMETERS = 32

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SEPARATORS = re.compile(r"[ \t,]*")
# An unquoted value should be a token; scopes with colons are seen unquoted, and nothing is gained by refusing them.
_PARAMETER = re.compile(
    rf'({_WORD})[ \t]*=[ \t]*(?:([^\s,"\\]+)|"((?:[^"\\]|\\.)*)")[ \t]*(?=,|\Z)', re.DOTALL
)
_SCHEME = re.compile(rf"({_WORD})(?=[ \t,]|\Z)")
_TOKEN68 = re.compile(r"[ \t]+([0-9A-Za-z._~+/-]+=*)[ \t]*(?=,|\Z)")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@attrs.frozen
class Challenge:
    """One challenge: `scheme` and the names of `parameters` are lower-case, the values as sent, unquoted."""

    scheme: str
    parameters: Mapping[str, str] = attrs.field(factory=dict)
    token68: str | None = None


def parse_challenges(lines: Iterable[str]) -> list[Challenge]:
    """Read every challenge of the `WWW-Authenticate` lines, in order.

    Bounds: 16 lines of 16 KiB, 32 challenges, 32 parameters each, past which a line is read no further. Of a parameter
    sent twice the first counts.
    """
    found: list[Challenge] = []
    for number, line in enumerate(lines):
        if number >= _MAX_LINES or len(found) >= _MAX_CHALLENGES:
            break
        if len(line) <= _MAX_LINE:
            found.extend(_parse_line(line))
    return found[:_MAX_CHALLENGES]


def bearer(lines: Iterable[str]) -> Challenge | None:
    """Give the first Bearer challenge that has a realm (RFC 6750 section 3), None when there is none."""
    for challenge in parse_challenges(lines):
        if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
            return challenge
    return None


def _parse_line(line: str) -> list[Challenge]:
    found: list[Challenge] = []
    parameters: dict[str, str] | None = None
    read = 0
    position = _skip(line, 0)
    while position < len(line) and len(found) <= _MAX_CHALLENGES:
        parameter = _PARAMETER.match(line, position)
        if parameter is not None and parameters is not None:
            name, bare, quoted = parameter.groups()
            value = bare if quoted is None else _ESCAPED.sub(r"\1", quoted)
            read += 1
            if read > _MAX_PARAMETERS:
                break  # nobody means that; to read on would cost half a second of everybody's time
            parameters.setdefault(name.lower(), value)
            position = _skip(line, parameter.end())
            continue
        scheme = _SCHEME.match(line, position)
        if scheme is None:
            break
        parameters, read = {}, 0
        token68 = _TOKEN68.match(line, scheme.end())
        found.append(Challenge(scheme[1].lower(), parameters, token68[1] if token68 else None))
        position = _skip(line, token68.end() if token68 else scheme.end())
    return found


def _skip(line: str, position: int) -> int:
    separators = _SEPARATORS.match(line, position)
    return separators.end() if separators else position
