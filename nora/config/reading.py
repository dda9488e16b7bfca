"""Reading a configuration: environment over file over default, and all mistakes at once.

A value in the file is checked even where a variable replaces it: the mistake would else come to light on the day
the variable goes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from nora.config.document import read_document
from nora.config.keys import Key, keys_of
from nora.config.kinds import MAX_ITEMS, Refused
from nora.config.mistakes import ConfigError, Mistake, nearest, show
from nora.config.values import Config, ServerConfig, halves, sections

PATH_VARIABLE = "NORA_CONFIG_PATH"

_PREFIX = "NORA_"
_COUNTED = re.compile(r"([0-9]+)_(.+)\Z", re.DOTALL)
_SERVICE_LINK = re.compile(r"NORA_(?:SERVICE_(?:HOST|PORT)|PORT_[0-9])")
_LINK_HINT = "; Kubernetes sets it for a Service called nora, unless the pod has enableServiceLinks: false"


def find_path(option: str | None, environ: Mapping[str, str]) -> str | None:
    """Tell which file to read: the one the option names, else the one `NORA_CONFIG_PATH` names, else none."""
    return option if option is not None else environ.get(PATH_VARIABLE) or None


def load(path: str | None, environ: Mapping[str, str]) -> Config:
    """Read the configuration: the file at `path`, else where `NORA_CONFIG_PATH` says; variables of `environ` over it.

    Raises `ConfigError` with every mistake that was found. A file that is named and missing is one.
    """
    reading = _Reading(find_path(path, environ), environ)
    values = reading.sections()
    if reading.mistakes:
        raise ConfigError(reading.mistakes)
    return Config(**values)


class _Reading:
    """One reading of one file and one environment. What is refused is noted, and its default goes on in its place."""

    def __init__(self, path: str | None, environ: Mapping[str, str]) -> None:
        self._path = path
        self._environ = {name: text for name, text in environ.items() if name.startswith(_PREFIX)}
        self._known = {PATH_VARIABLE}
        self.mistakes: list[Mistake] = []

    def sections(self) -> dict[str, Any]:
        """Read everything."""
        tables = sections()
        document = self._document()
        if isinstance(document.get("access"), list):  # `[[access]]`: the section is the list of its rules
            document["access"] = {"rules": document["access"]}
        for name in sorted(document.keys() - tables.keys()):
            what = "unknown section" if isinstance(document[name], dict) else "unknown key"
            self._note(self._at(name), _suggest(what, _home_of(name) or nearest(name, tables)))
        values = {name: self._section(name, of, document.get(name, {})) for name, of in tables.items()}
        self._half_a_pair(values["server"])
        self._unknown_variables()
        return values

    def _half_a_pair(self, server: ServerConfig) -> None:
        half = halves(server)
        # One that was refused is a mistake of its own already.
        if half is not None and not self.mistakes:
            self._note(f"server.{half[0]}", f"must be given too: server.{half[1]} is")

    def _document(self) -> dict[str, Any]:
        try:
            return {} if self._path is None else read_document(self._path)
        except ConfigError as error:
            self.mistakes.extend(error.mistakes)
            return {}

    def _section(self, section: str, values: type, table: Any) -> Any:
        if not isinstance(table, dict):
            self._note(self._at(section), f"must be a table, begun by [{section}]", table)
            table = {}
        keys = keys_of(values, section)
        self._unknown_keys(table, keys, self._at(section))
        given: dict[str, Any] = {}
        for key in keys:
            if key.tables is not None:
                self._keep(given, key, self._tables(key, key.tables, table))
            else:
                self._keep(given, key, self._value(key, table, self._at(section), key.variable))
        return values(**given)

    def _value(self, key: Key, table: Mapping[str, Any], place: str, variable: str | None) -> Any:
        """Give the value of `key`, or NOTHING where the default stands or what was given is refused."""
        value = attrs.NOTHING
        if key.name in table:
            value = self._take(key.kind.read, table[key.name], f"{place}.{key.name}")
        return value if variable is None else self._variable(variable, key, value)

    def _variable(self, name: str, key: Key, otherwise: Any) -> Any:
        self._known.add(name)
        if name not in self._environ:
            return otherwise
        return self._take(key.kind.parse, self._environ[name], name)

    def _take(self, take: Callable[[Any], Any], value: Any, place: str) -> Any:
        try:
            return take(value)
        except Refused as error:
            where = place if error.item is None else f"{place}[{error.item}]"
            linked = place == "NORA_PORT" and value.startswith("tcp://")
            shown = value if error.value is attrs.NOTHING else error.value
            self._note(where, f"{error}{_LINK_HINT if linked else ''}", shown)
            return attrs.NOTHING

    def _tables(self, key: Key, values: type, table: Mapping[str, Any]) -> Any:
        """Read a list of tables: from the variable that lists their first key, else the file, else the default.

        Variables that count, such as `NORA_DOCKER_UPSTREAMS_1_NAME`, then set single keys of what is in force.
        """
        keys = keys_of(values, key.dotted)
        in_file = self._raw_tables(key, table, keys)
        listed = self._variable(key.variable, key, None)
        place, raw = self._at(key.dotted), in_file
        if listed is not None and in_file:
            for position, item in enumerate(in_file, 1):
                self._table(item, keys, f"{place}[{position}]", None)
        if attrs.NOTHING in (listed, in_file):
            # What the counting variables count is not known, so nothing can be said about them.
            self._known.update(name for name in self._environ if name.startswith(f"{key.variable}_"))
            return attrs.NOTHING
        if listed is not None:
            place, raw = key.variable, [{keys[0].name: item} for item in listed]
        elif raw is None:
            place, raw = key.dotted, [{keys[0].name: getattr(item, keys[0].name)} for item in key.default]
        made = []
        for position, item in enumerate(raw, 1):
            given = self._table(item, keys, f"{place}[{position}]", f"{key.variable}_{position}")
            made.append(None if given is None else values(**given))
        self._unknown_counted(key, keys, len(raw))
        for position, name, value, reason in key.conflicts(made) if key.conflicts is not None else ():
            self._note(f"{place}[{position}].{name}", reason, value)
        return tuple(made)

    def _raw_tables(self, key: Key, table: Mapping[str, Any], keys: Sequence[Key]) -> Any:
        """Give the tables of the file, None where it has no such key, NOTHING where they are no tables."""
        raw = table.get(key.name)
        if raw is None:
            return None
        if (
            not isinstance(raw, list)
            or len(raw) > MAX_ITEMS
            or not all(isinstance(item, dict) for item in raw)
        ):
            reason = f"must be up to {MAX_ITEMS} tables, each begun by [[{key.dotted}]] and with its {keys[0].name}"
            self._note(self._at(key.dotted), reason, raw)
            return attrs.NOTHING
        for position, item in enumerate(raw, 1):
            self._unknown_keys(item, keys, f"{self._at(key.dotted)}[{position}]")
        return raw

    def _table(
        self, raw: Mapping[str, Any], keys: Sequence[Key], place: str, variables: str | None
    ) -> dict[str, Any] | None:
        """Read one table, under the variables that begin with `variables`; None when it lacks what must be given."""
        given: dict[str, Any] = {}
        for key in keys:
            variable = None if variables is None else f"{variables}_{key.name}".upper()
            self._keep(given, key, self._value(key, raw, place, variable))
        missing = [key for key in keys if key.required and key.name not in given]
        for key in missing:
            if key.name not in raw:
                self._note(f"{place}.{key.name}", f"must be given: {key.kind.allows}")
        return None if missing else given

    def _unknown_keys(self, table: Mapping[str, Any], keys: Sequence[Key], place: str) -> None:
        names = [key.name for key in keys]
        for name in sorted(table.keys() - set(names)):
            self._note(f"{place}.{name}", _suggest("unknown key", _home_of(name) or nearest(name, names)))

    def _unknown_counted(self, key: Key, keys: Sequence[Key], count: int) -> None:
        """Note the variables that count past the list, or from 0, or name no key."""
        prefix = f"{key.variable}_"
        names = [item.name.upper() for item in keys]
        for variable in sorted(self._environ.keys() - self._known):
            found = _COUNTED.match(variable[len(prefix) :]) if variable.startswith(prefix) else None
            if found is None:
                continue
            self._known.add(variable)
            if found[2] not in names:
                near = nearest(found[2], names)
                self._note(variable, _suggest("unknown variable", near and f"{prefix}{found[1]}_{near}"))
            else:
                self._note(variable, f"counts from 1 to the number of {key.dotted}, which is {count}")

    def _unknown_variables(self) -> None:
        for variable in sorted(self._environ.keys() - self._known):
            if _SERVICE_LINK.match(variable):
                self._note(variable, f"unknown variable{_LINK_HINT}")
            else:
                self._note(variable, _suggest("unknown variable", nearest(variable, self._known)))

    def _keep(self, given: dict[str, Any], key: Key, value: Any) -> None:
        if value is not attrs.NOTHING:
            given[key.name] = value

    def _at(self, name: str) -> str:
        return f"{self._path}: {name}"

    def _note(self, place: str, reason: str, value: object = attrs.NOTHING) -> None:
        self.mistakes.append(Mistake(place, reason, None if value is attrs.NOTHING else show(value)))


def _suggest(reason: str, known: str | None) -> str:
    return f"{reason}; did you mean {known}?" if known else reason


def _home_of(name: str) -> str | None:
    """Tell the full name of a key that stands in the wrong table."""
    for section, values in sections().items():
        for key in keys_of(values, section):
            for known in (key, *(keys_of(key.tables, key.dotted) if key.tables else ())):
                if known.name == name:
                    return known.dotted
    return None
