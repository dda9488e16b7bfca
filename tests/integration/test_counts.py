"""What NORA asks of its upstream, counted there, and what its clients get meanwhile.

The upstream is Debian's docker-registry behind a relay that counts, slows, holds and cuts.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest

from tests.support.daemon import Nora, Reply
from tests.support.images import MEBIBYTE, Blob, Image, digest_of, image_of_blobs, noise
from tests.support.programs import wait_for
from tests.support.registry import Registry
from tests.support.relay import Relay
from tests.support.room import Room

pytestmark = pytest.mark.needs("docker-registry")

_SIZE = 16 * MEBIBYTE


@attrs.frozen
class Upstream:
    """What the registry has: `big` is the 16 MiB layer of `library/thing:1`, which `library/other` lacks."""

    registry: Registry
    thing: Image
    other: Image

    @property
    def big(self) -> Blob:
        """The layer of 16 MiB."""
        return self.thing.layers[0]


@pytest.fixture(scope="module")
def upstream(house: Room) -> Upstream:
    """Start the registry and fill it."""
    registry = house.registry()
    thing, other = image_of_blobs([noise(_SIZE, 1), noise(5000, 2)]), image_of_blobs([noise(6000, 3)])
    registry.push("library/thing", "1", thing)
    registry.push("library/other", "1", other)
    return Upstream(registry, thing, other)


@pytest.fixture
def relay(room: Room, upstream: Upstream) -> Relay:
    """Give a relay before the registry."""
    return room.relay(upstream.registry)


@pytest.fixture
def nora(room: Room, relay: Relay) -> Nora:
    """Start NORA with an empty store and the default lifetime of tags."""
    return room.nora(relay)


def blob_url(blob: Blob, repository: str = "library/thing") -> str:
    """Give the path of a blob."""
    return f"/v2/{repository}/blobs/{blob.digest}"


def whole(reply: Reply, blob: Blob) -> bool:
    """Tell whether a reply is the whole blob, byte for byte."""
    return reply.status == 200 and not reply.short and digest_of(reply.body) == blob.digest


def pull(nora: Nora, pulled: Image, repository: str = "library/thing") -> list[Reply]:
    """Pull an image as a client does, and assert that each byte is right."""
    by_tag = nora.get(f"/v2/{repository}/manifests/1", {"Accept": pulled.manifest.media_type})
    assert (by_tag.status, by_tag.body) == (200, pulled.manifest.data)
    replies = [nora.get(blob_url(blob, repository)) for blob in pulled.blobs]
    assert all(whole(reply, blob) for reply, blob in zip(replies, pulled.blobs, strict=True))
    return [by_tag, *replies]


def at_once(work: Callable[[int], Reply], numbers: Iterable[int]) -> list[Reply]:
    """Do `work` for all numbers, each in a thread of its own."""
    listed = list(numbers)
    with ThreadPoolExecutor(len(listed)) as threads:
        return list(threads.map(work, listed))


def test_warm_pull_asks_nothing(nora: Nora, relay: Relay, upstream: Upstream) -> None:
    """Within the lifetime of its tag a pull of what is stored makes no request at the upstream."""
    cold = pull(nora, upstream.thing)
    assert "fwd=miss" in cold[0].headers["Cache-Status"]
    assert [relay.count("GET", blob.digest) for blob in upstream.thing.blobs] == [1, 1, 1]
    relay.forget()
    warm = pull(nora, upstream.thing)
    assert nora.get("/v2/library/thing/manifests/1", method="HEAD").status == 200
    assert relay.seen == []
    assert [reply.headers["Cache-Status"] for reply in warm] == ["nora; hit"] * 4
    assert nora.metric("nora_docker_downloads_total") == 2
    assert (nora.metric("nora_cache_hits_total"), nora.metric("nora_cache_misses_total")) == (1, 1)


def test_twenty_clients_one_download(nora: Nora, relay: Relay, upstream: Upstream) -> None:
    """Twenty clients at once on one cold blob cause one download, and each gets it whole."""
    relay.rate = 32 * MEBIBYTE
    replies = at_once(lambda _: nora.get(blob_url(upstream.big)), range(20))
    assert all(whole(reply, upstream.big) for reply in replies)
    assert relay.count("GET", upstream.big.digest) == 1


def test_parallel_open_ranges_one_download(nora: Nora, relay: Relay, upstream: Upstream) -> None:
    """Sixteen open-ended ranges at once, half of them left early, as containerd does, cause one download."""
    relay.rate = 32 * MEBIBYTE

    def fetch(number: int) -> Reply:
        start = number * MEBIBYTE
        download = nora.download(blob_url(upstream.big), {"Range": f"bytes={start}-"})
        try:
            assert download.headers["Content-Range"] == f"bytes {start}-{_SIZE - 1}/{_SIZE}"
            body = download.rest() if number % 2 else download.read(MEBIBYTE)
            return Reply(download.status, download.headers, body)
        finally:
            download.close()

    replies = at_once(fetch, range(16))
    for number, reply in enumerate(replies):
        start = number * MEBIBYTE
        end = _SIZE if number % 2 else start + MEBIBYTE
        assert reply.status == 206
        assert reply.body == upstream.big.data[start:end]
    assert relay.count("GET", upstream.big.digest) == 1


def test_fill_outlives_its_client(nora: Nora, relay: Relay, upstream: Upstream) -> None:
    """A client leaves at 2 % of a blob; the fill completes, and the next is served without the upstream."""
    relay.hold(MEBIBYTE)
    download = nora.download(blob_url(upstream.big))
    assert download.read(_SIZE // 50) == upstream.big.data[: _SIZE // 50]
    download.close()
    nora.wait_for_audit(1, digest=upstream.big.digest, aborted=True)
    relay.release()
    wait_for(nora.blob_path(upstream.big.digest).exists, "the end of the fill")
    assert relay.count("GET", upstream.big.digest) == 1
    relay.refuse()
    assert whole(nora.get(blob_url(upstream.big)), upstream.big)


def half_filled(nora: Nora, relay: Relay, upstream: Upstream) -> None:
    """Bring NORA to where half of the big blob is on its disk, and kill it there."""
    relay.hold(_SIZE // 2)
    download = nora.download(blob_url(upstream.big))
    wait_for(
        lambda: any(part.stat().st_size >= _SIZE // 2 - MEBIBYTE for part in nora.parts()),
        "half a blob on disk",
    )
    nora.kill()
    download.close()
    assert not nora.blob_path(upstream.big.digest).exists()
    relay.release()
    relay.forget()


def test_kill_during_fill_resumes(nora: Nora, relay: Relay, upstream: Upstream) -> None:
    """Killed in the middle of a fill, NORA resumes where the disk stands, and serves the right bytes alone."""
    half_filled(nora, relay, upstream)
    nora.start()
    assert whole(nora.get(blob_url(upstream.big)), upstream.big)
    (resumed,) = relay.matching("GET", upstream.big.digest)
    assert resumed.range is not None
    assert int(resumed.range.removeprefix("bytes=").rstrip("-")) >= _SIZE // 2 - MEBIBYTE
    assert resumed.status == 206
    wait_for(lambda: not nora.parts(), "an empty fills directory")


def test_damaged_part_is_never_served_whole(nora: Nora, relay: Relay, upstream: Upstream) -> None:
    """A part that lost a page with the power is found out by its digest, and fetched again from 0."""
    half_filled(nora, relay, upstream)
    (part,) = nora.parts()
    with part.open("r+b") as file:
        file.seek(MEBIBYTE)
        file.write(bytes(4096))
    nora.start()

    def right() -> bool:
        reply = nora.get(blob_url(upstream.big))
        complete = reply.status == 200 and not reply.short
        assert not complete or digest_of(reply.body) == upstream.big.digest
        return complete

    wait_for(right, "the right bytes")
    assert digest_of(nora.blob_path(upstream.big.digest).read_bytes()) == upstream.big.digest
    assert [seen.range for seen in relay.matching("GET", upstream.big.digest)][-1] is None


def test_cut_upstream_is_resumed(nora: Nora, relay: Relay, upstream: Upstream) -> None:
    """An upstream that breaks off in the middle is asked for the rest; the client notices nothing."""
    relay.cut_after = 10 * MEBIBYTE
    assert whole(nora.get(blob_url(upstream.big)), upstream.big)
    seen = relay.matching("GET", upstream.big.digest)
    assert len(seen) == 2
    assert seen[0].range is None
    assert seen[1].range is not None


def test_blob_of_another_repository(nora: Nora, relay: Relay, upstream: Upstream) -> None:
    """A blob is 404 in a repository whose upstream does not have it: in flight, and when it is stored."""
    pull(nora, upstream.other, "library/other")
    foreign = blob_url(upstream.big, "library/other")
    relay.hold(MEBIBYTE)
    download = nora.download(blob_url(upstream.big))
    assert download.read(MEBIBYTE // 2)
    in_flight = nora.get(foreign), nora.get(foreign, {"Range": "bytes=0-9"}), nora.get(foreign, method="HEAD")
    relay.release()
    download.rest()
    download.close()
    wait_for(nora.blob_path(upstream.big.digest).exists, "the end of the fill")
    stored = nora.get(foreign), nora.get(foreign, {"Range": "bytes=0-9"}), nora.get(foreign, method="HEAD")
    assert [reply.status for reply in (*in_flight, *stored)] == [404] * 6
    assert b"BLOB_UNKNOWN" in stored[0].body
    assert len({len(reply.body) for reply in (in_flight[0], stored[0])}) == 1


def test_starts_and_serves_with_dead_upstreams(
    room: Room, nora: Nora, relay: Relay, upstream: Upstream
) -> None:
    """With every upstream dead NORA starts, serves what it has, fresh or stale, and says 502 for the rest."""
    pull(nora, upstream.thing)
    assert nora.stop() == 0
    relay.refuse()
    nora.start()
    pull(nora, upstream.thing)
    assert nora.stop() == 0
    again = room.nora(relay, store=nora.store, metadata_ttl=0)
    stale = pull(again, upstream.thing)
    assert stale[0].headers["Cache-Status"] == "nora; hit; detail=stale"
    missing = again.get("/v2/library/other/manifests/1")
    assert missing.status == 502
    assert again.get("/health").status == 200


def test_second_daemon_says_why_it_stops(room: Room, relay: Relay, upstream: Upstream) -> None:
    """A second daemon on the same store ends and names the store; the first one goes on."""
    settings = {"server": {"drain_timeout": 1}}
    first = room.unstarted_nora(relay)
    first.configure([{"url": relay.url, "namespace": "docker.io"}], settings)
    room.start(first)
    second = room.unstarted_nora(relay, store=first.store)
    second.configure([{"url": relay.url, "namespace": "docker.io"}], settings)
    process = second.launch()
    assert process.wait(30) != 0
    assert str(first.store) in process.text
    assert "Traceback" not in process.text, process.text
    pull(first, upstream.other, "library/other")


def test_short_answers_end_short(nora: Nora, upstream: Upstream) -> None:
    """A reader that stops early is told apart from one that was cut: the harness itself can fail."""
    download = nora.download(blob_url(upstream.big))
    assert download.read(10) == upstream.big.data[:10]
    nora.kill()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        download.rest()
    download.close()
