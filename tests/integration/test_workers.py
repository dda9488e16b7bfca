"""Several workers on one store: they are one daemon, whichever of them a client meets, and whichever of them dies.

The upstream is Debian's docker-registry behind a relay that counts, slows and holds.
"""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.support.daemon import Nora, Reply
from tests.support.images import MEBIBYTE, Blob, Image, digest_of, image_of_blobs, noise
from tests.support.programs import wait_for
from tests.support.relay import Relay
from tests.support.room import Room, tables
from tests.support.workers import Line, alive, health, line_to, wait_for_workers, workers

pytestmark = pytest.mark.needs("docker-registry")

_SIZE = 16 * MEBIBYTE
_MANIFEST = "/v2/library/thing/manifests/1"


@pytest.fixture(scope="module")
def thing() -> Image:
    """Make the image that the upstream has."""
    return image_of_blobs([noise(_SIZE, 1), noise(100_000, 2)])


@pytest.fixture
def nora(room: Room, relay: Relay) -> Nora:
    """Start NORA with two workers and an empty store."""
    nora = room.unstarted_nora(relay)
    configure(nora, relay)
    nora.start()
    return nora


def configure(nora: Nora, relay: Relay, **docker: object) -> None:
    """Write a configuration with two workers."""
    nora.configure(tables(relay), {"server": {"workers": 2}, "docker": docker})


def path_of(blob: Blob) -> str:
    """Give the path of a blob of the image."""
    return f"/v2/library/thing/blobs/{blob.digest}"


def whole(reply: Reply, blob: Blob) -> bool:
    """Tell whether a reply is the whole blob, byte for byte."""
    return reply.status == 200 and not reply.short and digest_of(reply.body) == blob.digest


@pytest.mark.parametrize("clients", [20, 100])
def test_one_download_for_all(nora: Nora, relay: Relay, thing: Image, clients: int) -> None:
    """Clients that come at once, spread over both workers, get the blob whole from one upstream download."""
    blob = thing.layers[0]
    relay.rate = 32 * MEBIBYTE
    with ThreadPoolExecutor(clients) as pool:
        replies = list(pool.map(lambda _: nora.get(path_of(blob)), range(clients)))
    assert all(whole(reply, blob) for reply in replies)
    assert relay.count("GET", blob.digest) == 1
    assert [one.sent for one in relay.matching("GET", blob.digest)] == [blob.size]


def test_leader_killed(nora: Nora, relay: Relay, thing: Image) -> None:
    """The leading worker is killed in the middle: the other leads on, and its clients notice nothing."""
    blob = thing.layers[0]
    leading, following = wait_for_workers(nora, 2)
    relay.hold(_SIZE // 2)
    with line_to(nora, leading) as first, line_to(nora, following) as second:
        led = first.begin(path_of(blob))
        assert led.read(MEBIBYTE) == blob.data[:MEBIBYTE]
        followed = second.begin(path_of(blob))
        begun = followed.read(MEBIBYTE)
        os.kill(leading, signal.SIGKILL)
        relay.release()
        assert begun + followed.read() == blob.data
        with pytest.raises((OSError, http.client.HTTPException)):
            assert len(led.read()) == 0
    gets = relay.matching("GET", blob.digest)
    assert len(gets) == 2
    assert gets[1].range is not None
    assert not gets[1].range.startswith("bytes=0-")
    wait_for_workers(nora, 2)
    assert whole(nora.get(path_of(blob)), blob)
    assert relay.count("GET", blob.digest) == 2


class Load:
    """Clients that ask for the small blob over kept connections, again and again, until told to stop."""

    def __init__(self, nora: Nora, blob: Blob, clients: int) -> None:
        self.asked = self.failed = self.wrong = 0
        self._nora = nora
        self._blob = blob
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        line: Line | None = None
        while not self._end.is_set():
            failed = wrong = 0
            try:
                line = line or Line(self._nora.port)
                reply = line.ask(path_of(self._blob))
                wrong = reply.status != 200 or reply.body != self._blob.data
            except (OSError, http.client.HTTPException):
                failed = 1
                if line is not None:
                    line.close()
                line = None
            with self._lock:
                self.asked += 1
                self.failed += failed
                self.wrong += wrong
        if line is not None:
            line.close()


def test_killed_twice_under_load(nora: Nora, thing: Image) -> None:
    """Workers are killed under load: only requests that were with them fail, and no byte is wrong."""
    blob = thing.layers[1]
    assert whole(nora.get(path_of(blob)), blob)
    clients = 8
    with Load(nora, blob, clients) as load:
        for turn in range(2):
            before = wait_for_workers(nora, 2)
            asked = load.asked
            wait_for(lambda asked=asked: load.asked > asked + 200, "some load")  # type: ignore[misc]
            os.kill(before[turn], signal.SIGKILL)
            wait_for(lambda killed=before[turn]: killed not in workers(nora), "its end")  # type: ignore[misc]
        wait_for_workers(nora, 2)
        asked = load.asked
        wait_for(lambda: load.asked > asked + 200, "some load afterwards")
    assert load.wrong == 0
    assert load.failed <= 2 * clients
    assert nora.metric("nora_worker_restarts_total") == 2


def test_told_for_all(nora: Nora, thing: Image) -> None:
    """Whichever worker is asked tells the metrics and the health of both, and counts survive a worker's death."""
    pids = wait_for_workers(nora, 2)
    for pid in pids:
        with line_to(nora, pid) as line:
            assert line.ask(_MANIFEST).status == 200
    for pid in pids:
        with line_to(nora, pid) as line:
            text = line.ask("/metrics").body.decode()
            assert "\nnora_docker_downloads_total 2.0\n" in text
            assert "\nnora_workers 2.0\n" in text
            told = health(line.ask("/health"))
            assert [each["pid"] for each in told["workers"]] == pids
            assert told["warnings"] == []
    os.kill(pids[0], signal.SIGKILL)
    wait_for(lambda: nora.metric("nora_worker_restarts_total") == 1, "the restart")
    assert nora.metric("nora_docker_downloads_total") == 2


def test_hangup(nora: Nora, relay: Relay) -> None:
    """SIGHUP reaches every worker and those that are started later; one with a mistake changes nothing anywhere."""
    pids = wait_for_workers(nora, 2)
    assert nora.get(_MANIFEST).status == 200
    configure(nora, relay, offline=True, proxy_timeout="soon")
    nora.signal(signal.SIGHUP)
    nora.process.wait_until(lambda: "is refused" in nora.log, "the refusal")
    assert nora.get("/v2/library/other/manifests/1").status == 404
    assert relay.count("GET", "library/other") == 1

    configure(nora, relay, offline=True)
    nora.signal(signal.SIGHUP)
    nora.process.wait_until(lambda: "the configuration was read again" in nora.log, "the reload")
    os.kill(pids[0], signal.SIGKILL)
    wait_for(lambda: pids[0] not in workers(nora), "its end")
    relay.forget()
    for pid in wait_for_workers(nora, 2):
        with line_to(nora, pid) as line:
            assert line.ask("/v2/library/another/manifests/1").status == 404
    assert relay.count() == 0
    assert nora.process.status is None


def test_stops_in_order(nora: Nora, relay: Relay, thing: Image) -> None:
    """SIGTERM drains both workers; a second one cuts off what is in flight; the status is 0 and nothing is left."""
    blob = thing.layers[0]
    pids = wait_for_workers(nora, 2)
    relay.hold(_SIZE // 2)
    with ExitStack() as lines:
        bodies = [lines.enter_context(line_to(nora, pid)).begin(path_of(blob)) for pid in pids]
        nora.signal(signal.SIGTERM)
        nora.process.wait_until(lambda: nora.log.count("stopping; what is in flight") == 3, "the drain")
        assert all(alive(pid) for pid in pids)
        with pytest.raises(OSError, match="refused"):
            Line(nora.port)
        nora.signal(signal.SIGTERM)
        for body in bodies:
            with pytest.raises((OSError, http.client.HTTPException)):
                assert len(body.read()) == 0
        assert nora.process.wait() == 0
    assert not any(alive(pid) for pid in pids)


def test_no_orphans(room: Room, nora: Nora, relay: Relay, thing: Image) -> None:
    """The parent is killed: its workers end running pulls and then themselves, and the store is free only then."""
    blob = thing.layers[0]
    pids = wait_for_workers(nora, 2)
    relay.hold(_SIZE // 2)
    with line_to(nora, pids[0]) as line:
        body = line.begin(path_of(blob))
        os.kill(nora.process.pid, signal.SIGKILL)
        wait_for(lambda: not alive(pids[1]), "the end of the idle worker")
        after = room.unstarted_nora(relay, store=nora.store)
        process = after.launch()
        process.wait_until(lambda: "waiting up to" in after.log, "the next daemon's waiting")
        relay.release()
        assert body.read() == blob.data
    process.wait_until(lambda: "is ready" in after.log, "the next daemon")
    wait_for(lambda: not alive(pids[0]), "the end of the other worker")


def test_worker_that_cannot_start(room: Room, relay: Relay) -> None:
    """What keeps the workers from starting is told, ends the parent with the same status, and leaves nobody."""
    nora = room.unstarted_nora(relay)
    for settings, status in (
        ({"audit": {"path": str(room.directory / "nowhere" / "audit.jsonl")}}, 1),
        ({"docker": {}}, 78),
    ):
        upstreams = [dict(one) for one in tables(relay)]
        if status == 78:
            upstreams[0]["ca_file"] = str(room.directory / "none.pem")
        nora.configure(upstreams, {"server": {"workers": 2}, **settings})
        process = nora.launch()
        assert process.wait() == status, process.text
        assert "NORA cannot start: worker " in process.text
        assert "Traceback" not in process.text
        assert "is ready" not in process.text


def test_hung_worker_is_seen(nora: Nora) -> None:
    """A worker that hangs is named by the other one's health."""
    pids = wait_for_workers(nora, 2)
    with line_to(nora, pids[0]) as line:
        os.kill(pids[1], signal.SIGSTOP)
        try:
            wait_for(
                lambda: health(line.ask("/health"))["warnings"] == ["worker 2 does not answer"],
                "the warning",
            )
        finally:
            os.kill(pids[1], signal.SIGCONT)
        wait_for(lambda: health(line.ask("/health"))["warnings"] == [], "its return")


def test_one_download_of_a_tag(nora: Nora, relay: Relay) -> None:
    """A tag that nobody has yet, asked for at both workers at once, is one GET of the manifest upstream."""
    began = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda _: nora.get(_MANIFEST), range(20)))
    assert {reply.status for reply in replies} == {200}
    assert relay.count("GET", "/manifests/") == 1
    assert time.monotonic() - began < 20


def test_worker_that_stays_away(room: Room, nora: Nora, relay: Relay) -> None:
    """A worker that cannot start any more keeps no client waiting; when it can again, it is back."""
    folder = room.directory / "audit"
    folder.mkdir()
    nora.stop()
    audit = {"path": str(folder / "audit.jsonl")}
    nora.configure(tables(relay), {"server": {"workers": 2}, "audit": audit})
    nora.start()
    pids = wait_for_workers(nora, 2)
    folder.rename(room.directory / "away")
    os.kill(pids[0], signal.SIGKILL)
    nora.process.wait_until(lambda: "started again in 1.0 s" in nora.log, "the third try")
    tries = nora.log.count("NORA cannot start")
    while nora.log.count("NORA cannot start") == tries:
        assert nora.get("/ready").status == 200
    (room.directory / "away").rename(folder)
    wait_for_workers(nora, 2)
    assert pids[1] in workers(nora)


def test_one_worker_told_to_end(nora: Nora, relay: Relay, thing: Image) -> None:
    """SIGTERM to one worker replaces it: its pulls end whole, and no new connection waits for that."""
    blob = thing.layers[0]
    pids = wait_for_workers(nora, 2)
    relay.hold(_SIZE // 2)
    with line_to(nora, pids[0]) as line:
        body = line.begin(path_of(blob))
        os.kill(pids[0], signal.SIGTERM)
        nora.process.wait_until(lambda: "new connections go to the others" in nora.log, "the withdrawal")
        for _ in range(20):
            assert nora.get("/ready").status == 200
        assert alive(pids[0])
        relay.release()
        assert body.read() == blob.data
    wait_for(lambda: pids[0] not in workers(nora), "its end")
    wait_for_workers(nora, 2)
