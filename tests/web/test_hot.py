"""Hot answers: as the long way would answer, for as long as it would, and for nobody else."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import attrs

from nora.access import ANONYMOUS, Rights
from nora.oci.manifest import OCI_INDEX, OCI_MANIFEST
from nora.pull.interfaces import Cached
from nora.storage.interfaces import Stamp
from nora.web.hot import Hot
from tests.support.hot_case import BODY, KEY, OLD, HotCase


class HotTests(HotCase):
    """Answers that are prepared."""

    async def test_same_answer(self) -> None:
        """The second answer is the first one to the letter, but for its id and date, and asks nobody."""
        for method in ("GET", "HEAD"):
            first, second = await self.twice(method, self.path, "X-Request-ID: same")
            del first.headers["date"], second.headers["date"]
            self.assertEqual(second, first)
            self.assertEqual(second.headers["cache-status"], "nora; hit")
        self.assertEqual(self.pull.asked, 2)

    async def test_told(self) -> None:
        """Metrics and audit log hear of it as of any other, and only a GET of an image manifest is a pull."""
        await self.twice("GET", self.path)
        await self.twice("HEAD", self.path)
        events = [attrs.evolve(event, time=0, id="", seconds=0) for event in self.events.list]
        self.assertEqual(events[0], events[1])
        self.assertEqual(events[2], events[3])
        self.assertEqual((events[1].status, events[1].sent, events[3].sent), (200, len(BODY), 0))
        self.assertEqual(self.collector.get_sample_value("nora_docker_downloads_total"), 2)
        self.assertEqual(self.collector.get_sample_value("nora_cache_hits_total"), 2)
        self.assertEqual(self.site.in_flight, 0)

    async def test_index_is_no_pull(self) -> None:
        """A prepared index is not counted as a pull."""
        self.pull.add_manifest(b'{"schemaVersion":2,"manifests":[]}', OCI_INDEX, "many")
        await self.twice("GET", "/v2/library/x/manifests/many")
        self.assertEqual(self.pull.asked, 1)
        self.assertEqual(self.collector.get_sample_value("nora_docker_downloads_total"), 0)

    async def test_given_out(self) -> None:
        """Each GET counts for its manifest, an index too, prepared or not; a HEAD and an unchanged one do not."""
        index = self.pull.add_manifest(b"{}", OCI_INDEX, "list")
        for _ in range(3):
            reply = await self.ask("GET", self.path)
            await self.ask("GET", "/v2/library/x/manifests/list")
            await self.ask("HEAD", self.path)
            await self.ask("GET", self.path, f"If-None-Match: {reply.headers['etag']}")
        given = self.metrics.pulls.take()
        digest = reply.headers["docker-content-digest"]
        self.assertEqual({key[2]: count for key, count in given.items()}, {digest: 3, str(index): 3})
        self.assertEqual(self.metrics.pulls.take(), {})

    async def test_changed_record(self) -> None:
        """Any record that changed, appeared or went sends the next request the long way."""
        changes: list[tuple[str, Stamp | None]] = [
            (KEY, (2, 1, 1)),
            (KEY, (1, 2, 1)),
            (KEY, (1, 1, 2)),
            (KEY, None),
            ("names/x/_owner", OLD),
        ]
        for key, stamp in changes:
            await self.twice("GET", self.path)
            asked = self.pull.asked
            self.pull.stamps[key] = stamp
            await self.ask("GET", self.path)
            self.assertEqual(self.pull.asked, asked + 1, (key, stamp))
            self.pull.stamps = {KEY: OLD, "names/x/_owner": None}
            await self.ask("GET", self.path)

    async def test_time(self) -> None:
        """An answer ends when the witness said, and after a minute in any case."""
        self.pull.until = self.time + 5
        await self.twice("GET", self.path)
        self.time += 4.9
        await self.ask("GET", self.path)
        self.assertEqual(self.pull.asked, 1)
        self.time += 0.1
        self.pull.until = float("inf")
        await self.ask("GET", self.path)
        self.assertEqual(self.pull.asked, 2)
        self.time += 60
        await self.ask("GET", self.path)
        self.assertEqual(self.pull.asked, 3)

    async def test_young_record(self) -> None:
        """A record that was written just now could change within the same tick: nothing is prepared from it."""
        self.pull.stamps[KEY] = (1, int(self.time * 1e9) - 9_000_000, 1)
        await self.twice("GET", self.path)
        self.assertEqual(self.pull.asked, 2)

    async def test_other_outcomes(self) -> None:
        """What is stale, fetched or an error is not prepared."""
        for cached in (Cached.STALE, Cached.QUOTA, Cached.MISS, Cached.BYPASS):
            self.pull.cached = cached
            before = self.pull.asked
            await self.twice("GET", self.path)
            self.assertEqual(self.pull.asked, before + 2, cached)
        before = self.pull.asked
        self.assertEqual((await self.ask("GET", "/v2/library/x/manifests/none")).status, 404)
        self.assertEqual((await self.ask("GET", "/v2/library/x/manifests/none")).status, 404)
        self.assertEqual(self.pull.asked, before + 2)

    async def test_conditions(self) -> None:
        """A condition, and a request through another server of this kind, take the long way."""
        first, _ = await self.twice("GET", self.path)
        reply = await self.ask("GET", self.path, f"If-None-Match: {first.headers['etag']}")
        self.assertEqual((reply.status, self.pull.asked), (304, 2))
        await self.ask("GET", self.path, "Via: 1.1 nora-0000000000000000")
        self.assertEqual(self.pull.asked, 3)
        loop = await self.ask("GET", self.path, "Via: 1.1 nora-0123456789abcdef")
        self.assertEqual(loop.status, 502)

    async def test_rights(self) -> None:
        """What was prepared for one client is for no other one, and an unknown one is asked who it is."""
        token = "Authorization: Bearer of-somebody"
        await self.twice("GET", self.path, token)
        self.rights = Rights("ann", ANONYMOUS.actions)
        await self.ask("GET", self.path, token)
        self.assertEqual(self.pull.asked, 2)
        self.rights = None
        await self.ask("GET", self.path, token)
        self.assertEqual(self.pull.asked, 3)

    async def test_connection(self) -> None:
        """Answers come in order on one connection, and `Connection: close` ends it."""
        await self.ask("GET", self.path)
        client = await self.client()
        request = f"GET {self.path} HTTP/1.1\r\nHost: x\r\n"
        client.transport.write(f"{request}\r\n{request}\r\n{request}Connection: close\r\n\r\n".encode())
        for _ in range(3):
            self.assertEqual((await client.reply()).body, BODY)
        await client.closed()
        self.assertEqual(self.pull.asked, 1)

    async def test_client_takes_nothing(self) -> None:
        """Of a thousand requests in one packet few are answered ahead of a client that takes no answer."""
        self.pull.add_manifest(BODY + b" " * 200_000, OCI_MANIFEST, "1")
        await self.ask("GET", self.path)
        client = await self.client()
        client.transport.pauseProducing()
        client.transport.write(f"GET {self.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 1000)
        await self.eventually(lambda: self.served() > 1)
        for _ in range(20):
            await self.turn(0.001)
        ahead = self.served()
        self.assertLess(ahead, 100)
        client.transport.resumeProducing()
        await self.eventually(lambda: self.served() >= ahead + 5)
        for _ in range(int(ahead) + 5):
            self.assertEqual(len((await client.reply()).body), len(BODY) + 200_000)

    def served(self) -> float:
        """Tell how many requests were answered."""
        return self.collector.get_sample_value("nora_docker_downloads_total") or 0

    async def test_old_client(self) -> None:
        """HTTP/1.0 takes the long way."""
        await self.twice("GET", self.path)
        reply = await self.ask("GET", self.path, version="1.0")
        self.assertEqual((reply.status, self.pull.asked), (200, 2))

    async def test_draining(self) -> None:
        """While the server drains, each answer is the last one on its connection."""
        await self.twice("GET", self.path)
        self.site.drain()
        self.assertEqual((await self.ask("GET", self.path)).headers["connection"], "close")

    async def test_forget(self) -> None:
        """After a change of the rules nothing prepared is left."""
        await self.twice("GET", self.path)
        self.site.forget()
        await self.ask("GET", self.path)
        self.assertEqual(self.pull.asked, 2)

    async def test_rules_change_under_way(self) -> None:
        """What was begun by the old rules is not prepared once there are new ones."""
        self.pull.meanwhile = self.site.forget
        await self.ask("GET", self.path)
        self.pull.meanwhile = lambda: None
        await self.twice("GET", self.path)
        self.assertEqual(self.pull.asked, 2)

    async def test_clock_set_back(self) -> None:
        """When the clock was set back nobody knows how old an answer is: it takes the long way."""
        await self.twice("GET", self.path)
        self.time -= 3600
        await self.ask("GET", self.path)
        self.assertEqual(self.pull.asked, 2)

    async def test_young_when_read(self) -> None:
        """A record that was young when it was read is not settled because the answer took long."""

        def wait() -> None:
            self.time += 5

        self.pull.stamps[KEY] = (1, int(self.time * 1e9) - 1_000_000, 1)
        self.pull.meanwhile = wait
        await self.ask("GET", self.path)
        self.pull.meanwhile = lambda: None
        await self.ask("GET", self.path)
        self.assertEqual(self.pull.asked, 2)

    async def test_many_targets(self) -> None:
        """Long targets, of which one answer has endlessly many, take no memory."""
        await self.twice("GET", f"{self.path}?x={'y' * 1024}")
        self.assertEqual((self.pull.asked, len(self.hot)), (2, 0))

    async def test_other_targets(self) -> None:
        """What is written another way is another target: it is answered by itself."""
        await self.ask("GET", self.path)
        for other in ("/v2/library/x/manifests/%31", f"{self.path}?ns=docker.io", f"http://a{self.path}"):
            asked = self.pull.asked
            self.assertEqual((await self.ask("GET", other)).status, 200)
            self.assertEqual(self.pull.asked, asked + 1, other)

    async def test_unreadable_record(self) -> None:
        """A record that cannot be looked at sends the request the long way, which knows what to say."""
        await self.twice("GET", self.path)
        self.readable = False
        self.assertEqual((await self.ask("GET", self.path)).status, 200)
        self.assertEqual(self.pull.asked, 2)

    async def test_bounds(self) -> None:
        """The answers together take no more than their limit: the one not asked for longest goes first."""
        self.site.hot = hot = Hot(
            lambda key: self.pull.stamps[key], lambda _: ANONYMOUS, lambda: self.time, limit=4000
        )
        for tag in ("1", "2", "3", "4"):
            self.pull.add_manifest(BODY, OCI_MANIFEST, tag)
            await self.ask("GET", f"/v2/library/x/manifests/{tag}")
            await self.ask("GET", self.path)
        self.assertEqual(len(hot), 2)
        asked = self.pull.asked
        await self.ask("GET", self.path)
        self.assertEqual(self.pull.asked, asked)

    async def test_blob(self) -> None:
        """A small blob is kept, whole and for those who ask for all of it; no pull is counted."""
        digest, content = self.pull.add_blob(b"x" * 100_000)
        path = f"/v2/library/x/blobs/{digest}"
        first, second = await self.twice("GET", path, "X-Request-ID: same")
        del first.headers["date"], second.headers["date"]
        self.assertEqual((second, second.body, self.pull.asked), (first, b"x" * 100_000, 1))
        self.assertEqual([reader.closed for reader in content.readers], [1])
        part = await self.ask("GET", path, "Range: bytes=1-2")
        self.assertEqual((part.status, part.body, self.pull.asked), (206, b"xx", 2))
        events = [attrs.evolve(event, time=0, id="", seconds=0) for event in self.events.list[:2]]
        self.assertEqual((events[0], events[0].sent), (events[1], 100_000))
        self.assertEqual(self.count("nora_docker_downloads_total"), 0)
        self.assertEqual(self.count("nora_requests_total", method="GET", endpoint="blob", status="200"), 2)

    async def test_large_blob(self) -> None:
        """Of a large blob the headers are kept, and its file is opened each time; it is told of as ever."""
        data = b"x" * 3_000_000
        digest, content = self.pull.add_blob(data)
        path = f"/v2/library/x/blobs/{digest}"
        first, second = await self.twice("GET", path, "X-Request-ID: same")
        del first.headers["date"], second.headers["date"]
        self.assertTrue(first.body == second.body == data)
        self.assertEqual((second.status, second.headers), (first.status, first.headers))
        self.assertEqual((self.pull.asked, len(self.hot)), (1, 1))
        await self.eventually(lambda: self.site.in_flight == 0)
        self.assertEqual([reader.closed for reader in content.readers], [1, 1])
        events = [attrs.evolve(event, time=0, id="", seconds=0) for event in self.events.list]
        self.assertEqual((events[0], events[0].sent), (events[1], len(data)))
        self.assertEqual(self.count("nora_requests_total", method="GET", endpoint="blob", status="200"), 2)
        for header in ("Range: bytes=1-2", f"If-None-Match: {first.headers['etag']}"):
            asked = self.pull.asked
            await self.ask("GET", path, header)
            self.assertEqual(self.pull.asked, asked + 1, header)

    async def test_large_blob_that_went(self) -> None:
        """Where the file cannot be opened at once any more, the long way is gone, once for each request."""
        digest, content = self.pull.add_blob(b"x" * 200_000)
        path = f"/v2/library/x/blobs/{digest}"
        await self.ask("GET", path)
        content.unlinked = True
        await self.ask("GET", path)
        self.assertEqual(self.pull.asked, 2)
        content.unlinked, content.descriptors_left = False, False
        await self.ask("GET", path)
        self.assertEqual(self.pull.asked, 3)
        content.descriptors_left = True
        self.assertEqual((await self.ask("GET", path)).body, b"x" * 200_000)
        self.assertEqual((self.pull.asked, self.site.in_flight), (3, 0))

    async def test_large_blob_breaks(self) -> None:
        """A body that turns out short breaks the connection off, so does a client that leaves; both end it."""
        digest, content = self.pull.add_blob(b"x" * 40_000_000)
        path = f"/v2/library/x/blobs/{digest}"
        await self.ask("GET", path)
        for broken in (True, False):
            client = await self.client()
            client.transport.pauseProducing()
            client.request("GET", path)
            await self.eventually(lambda: self.site.in_flight == 1)
            await self.eventually(lambda: content.readers[-1].position > 0)
            if broken:
                content.readers[-1].truncate(1000)
                client.transport.resumeProducing()
                await client.closed()
                self.assertLess(len(client.received), 40_000_000)
            else:
                client.transport.abortConnection()
            await self.eventually(lambda: self.site.in_flight == 0)
            self.assertEqual(content.readers[-1].closed, 1)
        self.assertEqual([event.aborted for event in self.events.list], [False, True, True])
        self.assertEqual(self.pull.asked, 1)

    async def test_blobs_that_are_not_kept(self) -> None:
        """A part of a blob, and one that is only just fetched, whatever its size."""
        large, _ = self.pull.add_blob(b"x" * (128 * 1024 + 1))
        small, _ = self.pull.add_blob(b"x" * 1000)
        for digest in (large, small):
            await self.twice("GET", f"/v2/library/x/blobs/{digest}", "Range: bytes=0-999")
        self.pull.cached = Cached.FOLLOWED
        for digest in (large, small):
            await self.twice("GET", f"/v2/library/x/blobs/{digest}")
        self.assertEqual((self.pull.asked, len(self.hot)), (8, 0))

    async def test_blobs_beside_manifests(self) -> None:
        """Blobs, of which there are many, do not push manifests out."""
        self.site.hot = hot = Hot(self.stamp, lambda _: ANONYMOUS, lambda: self.time, limit=300_000)
        await self.ask("GET", self.path)
        for number in range(4):
            digest, _ = self.pull.add_blob(b"%d" % number * 100_000)
            await self.ask("GET", f"/v2/library/x/blobs/{digest}")
        self.assertEqual(len(hot), 2)
        asked = self.pull.asked
        await self.ask("GET", self.path)
        self.assertEqual(self.pull.asked, asked)

    async def test_large(self) -> None:
        """A manifest of more than 256 KiB is not kept in memory."""
        self.pull.add_manifest(BODY + b" " * 256 * 1024, OCI_MANIFEST, "large")
        await self.twice("GET", "/v2/library/x/manifests/large")
        self.assertEqual(self.pull.asked, 2)
