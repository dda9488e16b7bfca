"""Rows about the pages of contents, over a store of 100,000 repositories: what each page costs, for whom.

One user may see everything, one a few of the repositories by a rule, one those at the very end of the list.
"""

from __future__ import annotations

import http.client
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from urllib.parse import quote

from tests.bench import stores
from tests.bench.large import Watched, until_answered
from tests.bench.room import Room
from tests.bench.servers import cpu_seconds
from tests.bench.tables import Row
from tests.support.daemon import ROOT, Nora
from tests.support.programs import environment

_TOKENS = {"all": "token-of-all-of-them", "few": "token-of-a-few-here", "last": "token-of-the-last-ones"}
_RULES = [
    {"user": "all", "repository": "*", "actions": ["pull"]},
    {"user": "few", "repository": f"{stores.UPSTREAM}/group-07/*", "actions": ["pull"]},
    {"user": "last", "repository": "team-96/*", "actions": ["pull"]},
]


class Pages:
    """NORA on the store, which stays beside the room's `store` where there is one."""

    def __init__(self, room: Room, repositories: int) -> None:
        planned = stores.wide(repositories)
        self.title = f"{repositories:,} repositories"
        kept = room.store
        self.store = room.path("wide-store") if kept is None else kept.with_name(f"{kept.name}-wide")
        self.middle, self.end = planned.image(planned.count // 2), planned.image(planned.count - 1)
        marker = self.store.with_name(f"{self.store.name}.made")
        if not marker.exists() or marker.read_text() != f"wide {repositories}":
            stores.make(self.store, planned)
            marker.write_text(f"wide {repositories}")
        tokens = [{"user": user, "token": token} for user, token in _TOKENS.items()]
        self.nora = Nora(
            room.path("nora-wide"),
            [{"url": "http://127.0.0.1:9", "namespace": stores.UPSTREAM}],
            {"auth": {"tokens": tokens}, "access": {"rules": _RULES}},
            self.store,
        )
        room.ends.callback(self.nora.stop)

    def start(self) -> None:
        """Build the index where it is missing, and start."""
        if not (self.store / "index.sqlite").exists():
            command = [sys.executable, "-m", "nora", "reindex", "--config", str(self.nora.configuration)]
            variables = environment(self.nora.directory, PYTHONPATH=str(ROOT))
            subprocess.run(command, env=variables, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        self.nora.launch()
        until_answered(self.nora, "/ready")

    def rows(self, rounds: int) -> Iterator[Row]:
        """Ask for each page `rounds` times."""
        middle, end = _full(self.middle), _full(self.end)
        cached, digest = quote(middle), self.middle.paths[1].rpartition("/")[2]
        contents = "/ui/contents"
        for title, user, path in (
            ("repositories, the first page", "all", contents),
            ("repositories, a page in the middle", "all", f"{contents}?after={cached}"),
            ("repositories, the last page", "all", f"{contents}?after={quote(end[:-2])}"),
            ("a search that finds nothing", "all", f"{contents}?q=no-such-name"),
            ("a search that finds one", "all", f"{contents}?q={quote(end)}"),
            ("a search that finds half of them", "all", f"{contents}?q=image"),
            ("a search of two letters, from the middle", "all", f"{contents}?q=pp&after={cached}"),
            ("who may see 1 in 178, the first page", "few", contents),
            ("who may see the last 1 in 194, the first page", "last", contents),
            ("who may see the last 1 in 194, a search", "last", f"{contents}?q=app"),
            ("a repository", "all", f"{contents}/{cached}"),
            ("a repository with 5,000 tags", "all", f"{contents}/{stores.LARGE.name}"),
            ("its last page", "all", f"{contents}/{stores.LARGE.name}?after=v0004990"),
            ("a tag", "all", f"{contents}/{cached}:{self.middle.tag}"),
            ("a digest", "all", f"{contents}/{cached}@{digest}"),
            ("a repository that is not there", "all", f"{contents}/{cached}-not"),
            ("repositories as JSON", "all", "/api/v1/repositories?n=100"),
        ):
            yield from self._page(f"{title}, {self.title}", user, path, rounds)

    def _page(self, title: str, user: str, path: str, rounds: int) -> Iterator[Row]:
        first, usual = Row(title, "ms, the first time", "less"), Row(title, "ms", "less")
        most, spent = Row(title, "ms at most", "less"), Row(title, "CPU-ms", "less")
        first.add("NORA", self._ask(user, path))
        before = cpu_seconds(Watched(self.nora.process.pid))
        took = [self._ask(user, path) for _ in range(rounds)]
        used = cpu_seconds(Watched(self.nora.process.pid)) - before
        usual.add("NORA", statistics.median(took))
        most.add("NORA", max(took))
        spent.add("NORA", used * 1000 / rounds)
        yield from (first, usual, most, spent)

    def _ask(self, user: str, path: str) -> float:
        connection = http.client.HTTPConnection("127.0.0.1", self.nora.port, timeout=60)
        began = time.perf_counter()
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {_TOKENS[user]}"})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        took = (time.perf_counter() - began) * 1000
        if response.status != (404 if path.endswith("-not") else 200):
            raise AssertionError(f"{response.status} for {path}: {body[:500]!r}")
        return took


def _full(image: stores.Image) -> str:
    repository = image.repository
    return repository.name if repository.namespace == "local" else str(repository)
