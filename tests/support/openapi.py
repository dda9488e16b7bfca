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
        """The paths that it describes, but for streams."""
        return [path for path in self._document["paths"] if path not in self.streams]

    @property
    def streams(self) -> list[str]:
        """The paths that are answered by server-sent events."""
        answers = {
            path: self._document["paths"][path]["get"]["responses"]["200"]["content"] for path in self._read
        }
        return [path for path, content in answers.items() if "text/event-stream" in content]

    @property
    def _read(self) -> list[str]:
        return [path for path, methods in self._document["paths"].items() if "get" in methods]

    def check_event(self, schema: str, told: object) -> None:
        """Raise unless `told` is what the events of a stream tell."""
        Draft202012Validator(
            {"$ref": f"#/components/schemas/{schema}", "components": self._components}
        ).validate(told)

    @property
    def read(self) -> list[str]:
        """Those of the paths that are read by GET, but for streams."""
        return [path for path in self.paths if path in self._read]

    @property
    def bare(self) -> list[str]:
        """Those of `read` that can be asked for without parameters."""
        return [path for path in self.read if not self._needs(path)]

    def _needs(self, path: str) -> bool:
        told = self._document["paths"][path]["get"].get("parameters", ())
        return any(each.get("required") for each in told)

    def check_request(self, path: str, told: object) -> None:
        """Raise unless `told` is what a POST of `path` may bring."""
        body = self._document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        Draft202012Validator({**body["schema"], "components": self._components}).validate(told)

    def check(self, path: str, status: int, content_type: str, told: object, method: str = "get") -> None:
        """Raise unless `told` is what a GET of `path`, or another method, may be answered with."""
        answers = self._document["paths"][path][method]["responses"]
        schema = answers[str(status)]["content"][content_type]["schema"]
        Draft202012Validator({**schema, "components": self._components}).validate(told)
