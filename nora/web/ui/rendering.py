"""Templates and static files: read once, at the start, from the package itself.

Everything that a template is given is escaped; what is markup is so by its type.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType

import attrs
from jinja2 import Environment, FileSystemLoader, StrictUndefined

import nora
from nora.access import ANONYMOUS, Rights
from nora.web.ui import words

_HERE = Path(__file__).resolve().parent
_TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}


viewer: ContextVar[Rights] = ContextVar("viewer", default=ANONYMOUS)
"""Who looks at the page that is being made. What a page offers to some alone, it asks here."""


@attrs.frozen
class StaticFile:
    """A file as it goes out; `etag` is its entity tag, quoted."""

    body: bytes = attrs.field(repr=False)
    content_type: bytes
    etag: str


class Templates:
    """The templates. Each is compiled when it is filled for the first time: a start does not wait for that."""

    def __init__(self) -> None:
        environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        for each in (
            *(words.size, words.number, words.percent, words.duration),
            *(words.latency, words.clock, words.clip, words.ago, words.since, words.ahead),
            *(words.exact, words.time_of_day, words.brief, words.seconds, words.place, words.short),
        ):
            environment.filters[each.__name__] = each
        environment.globals["version"] = nora.__version__
        environment.globals["viewer"] = viewer.get
        self._environment = environment

    def fill(self, name: str, **facts: object) -> bytes:
        """Give the page."""
        return self._environment.get_template(f"{name}.html").render(facts).encode("utf-8", "replace")


def static_files() -> Mapping[bytes, StaticFile]:
    """Read the static files, by their names."""
    return MappingProxyType(
        {path.name.encode(): _static(path) for path in (_HERE / "static").iterdir() if path.suffix in _TYPES}
    )


def openapi() -> bytes:
    """Read the description of the API."""
    return (_HERE / "openapi.json").read_bytes()


def _static(path: Path) -> StaticFile:
    body = path.read_bytes()
    return StaticFile(body, _TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')
