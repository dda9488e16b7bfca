"""A row about workers that are killed under load."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.bench.cached import Cached
from tests.bench.load import rate
from tests.bench.servers import NoraServer
from tests.bench.tables import Row
from tests.support.programs import wait_for

_COUNT = re.compile(r"\b(\d+)\b")


def killed(cached: Cached, seconds: float) -> Iterator[Row]:
    """Ask two workers for a manifest while one of them, and later one more, is killed."""
    server = next(each for each in cached.noras if each.workers == 2)
    row = Row("requests that fail while a worker is killed twice, 16 connections", "of a thousand", "less")
    total = Row("requests meanwhile", "in all", "more")

    def kill() -> None:
        for _ in range(2):
            time.sleep(seconds / 3)
            worker = _children(server)[0]
            os.kill(worker, signal.SIGKILL)
            wait_for(partial(_is_replaced, server, worker), "a new worker")

    killing = threading.Thread(target=kill)
    killing.start()
    found = rate(cached.room, server.port, [cached.by_digest], 16, seconds)
    killing.join()
    failed = sum(int(count) for count in _COUNT.findall(found.errors))
    asked = found.per_second * seconds
    row.add(server.name, 1000 * failed / asked)
    total.add(server.name, asked)
    yield row
    yield total


def _is_replaced(server: NoraServer, worker: int) -> bool:
    workers = _children(server)
    return len(workers) == 2 and worker not in workers


def _children(server: NoraServer) -> list[int]:
    pid = server.pid()
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
