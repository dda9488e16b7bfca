"""Keys: what a value class's attributes say about themselves, and the names that follow from their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import attrs

from nora.config.kinds import Kind

_METADATA = "nora.config.key"

Conflicts: TypeAlias = "Callable[[Sequence[Any]], Iterator[tuple[int, str, str, str]]]"
"""Tells what of several tables does not go together: position from 1, key, value and reason.

None stands for a table that could not be read.
"""


@attrs.frozen
class _Said:
    kind: Kind
    meaning: str
    example: Any
    shown: str | None
    tables: type | None
    conflicts: Conflicts | None


def key(
    kind: Kind,
    meaning: str,
    *,
    example: object,
    shown: str | None = None,
    tables: type | None = None,
    conflicts: Conflicts | None = None,
) -> dict[str, _Said]:
    """Make the metadata of an attribute that is a key.

    `kind` checks it; `meaning` is whole sentences for its user; `example` is a value as TOML would hold it,
    other than the default; `shown` tells a default that follows from other keys; `tables` is the value class
    of a list of tables, whose first attribute a variable can set for all of them; `conflicts` tells which of these
    tables do not go together.
    """
    return {_METADATA: _Said(kind, meaning, example, shown, tables, conflicts)}


@attrs.frozen
class Key:
    """One key: `section` and `name` as in the file, the other fields as `key` took them."""

    section: str
    name: str
    kind: Kind
    default: Any
    """The value, or `attrs.NOTHING` for a key that must be given or whose default follows from other keys."""
    meaning: str
    example: Any
    shown: str | None
    tables: type | None
    conflicts: Conflicts | None
    required: bool
    """There is no default."""

    @property
    def dotted(self) -> str:
        """The key's full name, such as `docker.proxy_timeout`."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable, such as `NORA_DOCKER_PROXY_TIMEOUT`; `<n>` stands for a table's place from 1."""
        section, _, inner = self.section.partition(".")
        parts = ["NORA", "" if section == "server" else section, inner, "<n>" if inner else "", self.name]
        return "_".join(part if part == "<n>" else part.upper() for part in parts if part)


def keys_of(values: type, section: str) -> tuple[Key, ...]:
    """List the keys that the value class `values` declares, for the table `section`."""
    return tuple(_key(attribute, section) for attribute in attrs.fields(values))


def _key(attribute: attrs.Attribute[Any], section: str) -> Key:
    said: _Said = attribute.metadata[_METADATA]
    default = attribute.default if said.shown is None else attrs.NOTHING
    return Key(
        section,
        attribute.name,
        said.kind,
        default,
        said.meaning,
        said.example,
        said.shown,
        said.tables,
        said.conflicts,
        attribute.default is attrs.NOTHING,
    )
