"""The lists that a played registry gives: pages of tags, and of referrers where it has that API."""

from __future__ import annotations

import json
from typing import Any

import attrs

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


@attrs.frozen
class Page:
    """One answer: a body, its type, and the `Link` with it."""

    body: bytes
    media_type: str
    link: str | None


class FakeLists:
    """The lists, by repository; `page` entries at once where it is set, with `link` telling where the rest is."""

    def __init__(self) -> None:
        self.tags: dict[str, list[str]] = {}
        self.referrers: dict[tuple[str, str], list[dict[str, Any]]] = {}
        """By repository and the subject's digest."""
        self.page: int | None = None
        self.link = '</v2/{name}/{what}?n={n}&last={last}>; rel="next"'
        self.media_type = INDEX_TYPE

    def answer(self, name: str, what: str, query: dict[str, list[str]]) -> Page | None:
        """Answer for one list; None when there is none."""
        entries: list[Any] | None
        subject = what.partition("/")[2]
        entries = self.tags.get(name) if what == "tags/list" else self.referrers.get((name, subject))
        if entries is None:
            return None
        start = int(query.get("last", ["0"])[0])
        stop = len(entries) if self.page is None else start + self.page
        link = None
        if stop < len(entries):
            link = self.link.format(name=name, what=what, n=self.page, last=stop)
        shown = entries[start:stop]
        if what == "tags/list":
            return Page(json.dumps({"name": name, "tags": shown}).encode(), "application/json", link)
        document = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": shown}
        return Page(json.dumps(document).encode(), self.media_type, link)
