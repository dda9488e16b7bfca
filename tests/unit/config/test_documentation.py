"""The documentation and the sample file tell every key, and tell the truth."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import toml
from twisted.trial.unittest import SynchronousTestCase

from nora.config import Config, load
from nora.config.keys import Key, keys_of
from nora.config.reading import PATH_VARIABLE
from nora.config.values import sections
from nora.config.writing import table_of

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
SAMPLE = (ROOT / "etc" / "nora.toml").read_text(encoding="utf-8")


def all_keys() -> list[Key]:
    found: list[Key] = []
    for section, values in sections().items():
        for key in keys_of(values, section):
            found.append(key)
            found.extend(keys_of(key.tables, key.dotted) if key.tables else ())
    return found


def literal(value: object) -> str:
    """Write a value as TOML does."""
    return toml.dumps({"x": value}).strip().removeprefix("x = ").replace("[ ", "[").replace(",]", "]")


def default(key: Key) -> str:
    if key.shown is not None:
        return key.shown
    if key.tables is not None and not key.default:
        return "none"
    if key.tables is not None:
        return f"one upstream, `{','.join(upstream.url for upstream in key.default)}`"
    return f"`{literal(key.kind.write(key.default))}`"


def entry(key: Key) -> str:
    """Write what the reference must hold for a key, but for the places of its line breaks."""
    example = f"{key.variable}={key.example}" if key.tables else f"{key.name} = {literal(key.example)}"
    return (
        f"### {key.dotted}\n\n"
        f"- Variable: `{key.variable}`\n"
        f"- Default: {default(key)}\n"
        f"- Allowed: {key.kind.allows}\n"
        f"- Example: `{example}`\n\n"
        f"{key.meaning}\n"
    )


def sample_line(key: Key) -> str:
    """Write the line of the sample that sets a key to its default, or shows it where no default can be set."""
    config = Config()
    section, _, inner = key.section.partition(".")
    tables = getattr(getattr(config, section), inner) if inner else (getattr(config, section),)
    if not tables:
        return f"{key.name} = {literal(key.example)}"
    value = table_of(tables[0], key.section)[key.name]
    if key.kind.allows.startswith("a path") and value:
        value = f"./{Path(value).relative_to(Path.cwd())}"
    return f"#{key.name} = {literal(value)}"


def words(text: str) -> str:
    return " ".join(re.sub(r"^# ", "", text, flags=re.MULTILINE).split())


class ReferenceTests(SynchronousTestCase):
    """docs/configuration.md."""

    def test_every_key_has_its_entry(self) -> None:
        """Each key is there in the one form, with the variable, default, rule, example and meaning of the code."""
        reference = words(REFERENCE)
        for key in all_keys():
            self.assertIn(words(entry(key)), reference)

    def test_no_entry_without_a_key(self) -> None:
        """A key that is gone is gone from the reference."""
        told = re.findall(r"^### (.+)$", REFERENCE, re.MULTILINE)
        self.assertEqual(sorted(told), sorted(key.dotted for key in all_keys()))

    def test_examples_are_allowed_and_no_defaults(self) -> None:
        """Each example passes its key's own check and shows something else than the default."""
        for key in all_keys():
            value = key.kind.parse(key.example) if key.tables else key.kind.read(key.example)
            self.assertNotEqual(value, key.default)

    def test_variable_of_the_path(self) -> None:
        """The one variable that is no key is told too."""
        self.assertIn(f"`{PATH_VARIABLE}`", REFERENCE)

    def test_meanings_are_sentences(self) -> None:
        """Each meaning is written for a reader: whole sentences."""
        for key in all_keys():
            self.assertRegex(key.meaning, r"\A[A-Z].*\.\Z")


class SampleTests(SynchronousTestCase):
    """etc/nora.toml."""

    def _load(self, text: str) -> Config:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".toml") as file:
            file.write(text)
            file.flush()
            return load(file.name, {})

    def test_as_it_is(self) -> None:
        """The sample changes nothing until something in it is uncommented."""
        self.assertEqual(self._load(SAMPLE), Config())

    def test_uncommented(self) -> None:
        """With every key uncommented it still says the defaults, and it has every key."""
        text = re.sub(r"^#(?=\[|[a-z_]+ = )", "", SAMPLE, flags=re.MULTILINE)
        self.assertEqual(self._load(text), Config())
        document = toml.loads(text)
        for key in all_keys():
            section, _, inner = key.section.partition(".")
            for table in document[section][inner] if inner else [document[section]]:
                self.assertIn(key.name, table)

    def test_every_key_has_its_meaning(self) -> None:
        """Each key stands as a comment with its default, under its meaning."""
        sample = words(SAMPLE)
        for key in all_keys():
            line = f"#[[{key.dotted}]]" if key.tables and key.default else sample_line(key)
            self.assertIn(words(f"{key.meaning} {line}"), sample)
