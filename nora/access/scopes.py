"""Scopes: what a token is asked for and good for, as the Docker token specification writes it.

`repository:team/app:pull,push`; several are separated by spaces. A name may hold colons, as that of a host with its
port does, so it ends at the last one.
"""

from __future__ import annotations

from collections.abc import Iterable

from nora.access.rights import Action
from nora.oci import check_name
from nora.oci.errors import InvalidName, InvalidRequest

Scopes = frozenset[tuple[str, Action]]
"""Names, as the client uses them, and actions."""

MAX_NAMES = 20
"""A token of more would be longer than a header may be."""
_MAX_TEXT = 8192
_WORDS = {action.value: action for action in Action}
_ORDER = tuple(Action)


def parse(texts: Iterable[str]) -> Scopes:
    """Read what a client asks for; kinds of resources and actions that are not known count for nothing.

    Raises `InvalidRequest` for a name that is none, and for too many.
    """
    found: set[tuple[str, Action]] = set()
    asked = list(texts)
    if sum(map(len, asked)) > _MAX_TEXT:
        raise InvalidRequest(f"the scopes have more than {_MAX_TEXT} characters")
    for scope in (each for text in asked for each in text.split()):
        kind, _, rest = scope.partition(":")
        name, _, words = rest.rpartition(":")
        if kind.partition("(")[0] != "repository":
            continue
        try:
            check_name(name)
        except InvalidName as error:
            raise InvalidRequest(f"a scope is not repository:name:actions: {error.message}") from None
        for word in words.split(","):
            found.update((name, action) for action in (Action if word == "*" else _known(word)))
    if len({name for name, _ in found}) > MAX_NAMES:
        raise InvalidRequest(f"a token is for at most {MAX_NAMES} repositories")
    return frozenset(found)


def write(scopes: Scopes) -> str:
    """Write scopes as one text, in a fixed order; the empty one for none."""
    return " ".join(f"repository:{name}:{','.join(words)}" for name, words in by_name(scopes))


def by_name(scopes: Scopes) -> list[tuple[str, list[str]]]:
    """List the names in order, each with the words of its actions."""
    return [
        (name, [action.value for action in _ORDER if (name, action) in scopes])
        for name in sorted({name for name, _ in scopes})
    ]


def _known(word: str) -> tuple[Action, ...]:
    return (_WORDS[word],) if word in _WORDS else ()
