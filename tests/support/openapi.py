"""An OpenAPI document as what it is for: saying whether an answer is as it was promised."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator


class Description:
    """A document of OpenAPI 3.1, whose schemas are those of JSON Schema 2020-12."""

    def __init__(self, document: dict[str, Any]) -> None:
        assert document["openapi"].startswith("3.1."), document["openapi"]
        self._document = document
        self._components = document["components"]
        for schema in self._components["schemas"].values():
            Draft202012Validator.check_schema(schema)

    @property
    def paths(self) -> list[str]:
        """The paths that it describes."""
        return list(self._document["paths"])

    @property
    def bare(self) -> list[str]:
        """Those of the paths that can be asked for without parameters."""
        return [path for path in self.paths if not self._needs(path)]

    def _needs(self, path: str) -> bool:
        told = self._document["paths"][path]["get"].get("parameters", ())
        return any(each.get("required") for each in told)

    def check(self, path: str, status: int, content_type: str, told: object) -> None:
        """Raise unless `told` is what a GET of `path` may be answered with."""
        answers = self._document["paths"][path]["get"]["responses"]
        schema = answers[str(status)]["content"][content_type]["schema"]
        Draft202012Validator({**schema, "components": self._components}).validate(told)
