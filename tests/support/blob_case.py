"""The ground of tests that pull one blob: a store, an upstream that has it, and a route to it."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from nora.access import ANONYMOUS
from nora.pull.interfaces import Content, Reader, Served
from nora.upstream.interfaces import Route
from tests.support.pulling import MIB, NAME, Pulling, qualified, read_all
from tests.support.scripted import ScriptedUpstream

RANDOM = b"".join(i.to_bytes(4, "big") for i in range(3 * MIB // 4))
"""The blob: 3 MiB in which no two places look alike."""


class BlobTestCase(SynchronousTestCase):
    """`here` is one process on the store, `hub` the upstream."""

    def setUp(self) -> None:
        """Begin with an empty store."""
        self.root = self.mktemp()
        self.hub = ScriptedUpstream()
        self.digest = self.hub.add_blob(NAME, RANDOM)
        self.here = self.process()
        self.route = qualified([self.hub])

    def process(self, **options: object) -> Pulling:
        """Begin one more process on the store."""
        process = Pulling(self.root, **options)  # type: ignore[arg-type]
        self.addCleanup(process.close)
        return process

    def get(self, process: Pulling | None = None, route: Route | None = None) -> Deferred[Served[Content]]:
        """Ask for the blob. What nobody waits for any more at the end may fail unheard."""
        pull = (process or self.here).pull
        getting = Deferred.fromCoroutine(pull.blob(route or self.route, self.digest, ANONYMOUS))
        self.addCleanup(getting.addErrback, lambda _: None)
        return getting

    def read(self, served: Served[Content], start: int = 0, stop: int | None = None) -> Deferred[bytes]:
        """Read it as a copying client does; unheard at the end as `get`."""
        reading = Deferred.fromCoroutine(read_all(served.content, start, stop))
        self.addCleanup(reading.addErrback, lambda _: None)
        return reading

    def reader(self, served: Served[Content], start: int = 0, stop: int | None = None) -> Reader:
        """Give a reader of it."""
        end = served.content.size if stop is None else stop
        return self.successResultOf(Deferred.fromCoroutine(served.content.reader(start, end)))

    def part(self) -> Path:
        """Tell where it grows."""
        return Path(self.here.layout.part(self.digest))

    def is_published(self) -> bool:
        """Tell whether it is stored whole."""
        return self.here.blobs.size(self.digest) == len(RANDOM)
