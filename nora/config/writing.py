"""Writing a configuration as TOML that reads back as the same values, but for secrets, which are `***`."""

from __future__ import annotations

from typing import Any

import toml

from nora.config.keys import keys_of
from nora.config.values import Config, sections


def dump(config: Config) -> str:
    """Write `config` with every key, in ASCII; keys that are not set are empty texts."""
    return encode({name: table_of(getattr(config, name), name) for name in sections()})


def encode(document: dict[str, Any]) -> str:
    """Write a TOML document, in ASCII."""
    return toml.dumps(document, _Encoder()).replace("\n[[", "\n\n[[")


def table_of(values: Any, section: str) -> dict[str, Any]:
    """Give what the table `section` holds, from an instance of its value class."""
    table: dict[str, Any] = {}
    for key in keys_of(type(values), section):
        value = getattr(values, key.name)
        if key.tables is not None:
            table[key.name] = [table_of(item, key.dotted) for item in value]
        else:
            table[key.name] = key.kind.write(value)
    return table


class _Encoder(toml.TomlEncoder):  # type: ignore[type-arg]
    """The package's own way with backslashes before an x is wrong, and its lists are hard to read."""

    def __init__(self) -> None:
        super().__init__()
        self.dump_funcs[str] = _text
        self.dump_funcs[list] = self._list

    def _list(self, values: list[Any]) -> str:
        return f"[{', '.join(str(self.dump_value(value)) for value in values)}]"


def _text(text: str) -> str:
    return f'"{"".join(_character(c) for c in text)}"'


def _character(c: str) -> str:
    if c in '"\\':
        return f"\\{c}"
    if " " <= c <= "~":
        return c
    return f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"
