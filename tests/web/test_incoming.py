"""Bodies that stream: how they are read, and what happens when an answer or the client ends them early."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

from twisted.internet.defer import Deferred, succeed

from nora.oci import Digest
from nora.oci.errors import Broken, Denied, InvalidRequest
from nora.push.interfaces import Body
from tests.support.push_site import Exchange, WireTestCase

DATA = b"x" * 1000
DIGEST = Digest.of(DATA)
UPLOADS = "/v2/a/blobs/uploads/"
GIB = 1024 * 1024 * 1024


class FlowTests(WireTestCase):
    """A body on its way."""

    def uploading(self, *headers: str, version: str = "1.1") -> Exchange:
        """Begin a session and a PATCH of it, whose body is yet to come."""
        self.connect().ask("POST", UPLOADS)
        line = self.connect()
        line.request("PATCH", f"{UPLOADS}s1", *headers, version=version)
        return line

    def test_as_it_comes(self) -> None:
        """Each piece reaches push at once."""
        sizes: list[int] = []
        self.push.taken = lambda body, chunk: sizes.append(len(chunk))
        line = self.uploading("Content-Length: 100")
        line.send(b"x" * 60)
        self.assertEqual(sizes, [60])
        line.send(b"x" * 40)
        self.assertEqual((sizes, line.reply().status), ([60, 40], 202))

    def test_with_the_headers(self) -> None:
        """What comes in one piece with the headers, and the request behind it, are taken apart."""
        self.connect().ask("POST", UPLOADS)
        line = self.connect()
        head = f"PATCH {UPLOADS}s1 HTTP/1.1\r\nContent-Length: 4\r\n\r\n"
        line.send(f"{head}some{head}moreGET /v2/ HTTP/1.1\r\n\r\n")
        replies = line.replies()
        self.assertEqual([reply.status for reply in replies], [202, 202, 200])
        self.assertEqual(self.push.sessions, {"s1": b"somemore"})

    def test_pipelined_behind_a_slow_one(self) -> None:
        """What is behind an upload waits for its answer, and is not read without bound."""
        self.connect().ask("POST", UPLOADS)
        gate: Deferred[None] = Deferred()
        self.push.gate = lambda: gate
        line = self.connect()
        line.request("PATCH", f"{UPLOADS}s1", "Content-Length: 4")
        self.assertTrue(line.wire.paused)
        behind = b"GET /v2/ HTTP/1.1\r\nX: " + b"y" * 1000 + b"\r\n\r\n"
        line.send(b"some" + behind * 2)
        self.assertFalse(line.wire.paused)
        line.send(behind * 18)
        self.assertTrue(line.wire.paused)
        gate.callback(None)
        self.assertEqual([reply.status for reply in line.replies()], [202] + [200] * 20)
        self.assertFalse(line.wire.paused)

    def test_back_pressure(self) -> None:
        """Push stops the reading and starts it again, whatever the other direction does meanwhile."""
        bodies: list[Body] = []

        def take(body: Body, chunk: bytes) -> None:
            bodies.append(body)
            body.pause()

        self.push.taken = take
        line = self.uploading("Content-Length: 100")
        self.assertFalse(line.wire.paused)
        line.send(b"x" * 10)
        self.assertTrue(line.wire.paused)
        line.channel.pauseProducing()
        line.channel.resumeProducing()
        self.assertTrue(line.wire.paused, "the transport's own resuming let a held body flow")
        line.channel.pauseProducing()
        bodies[0].resume()
        self.assertTrue(line.wire.paused, "read though the client takes no answers")
        line.channel.resumeProducing()
        self.assertFalse(line.wire.paused)
        line.send(b"x" * 90)
        self.assertEqual((line.reply().status, line.wire.paused), (202, False))
        bodies[0].pause()
        self.assertFalse(line.wire.paused, "a body that is over held its connection")

    def test_expect(self) -> None:
        """A client that waits is told to send when push wants the body, and not before."""
        line = self.uploading("Content-Length: 1000", "Expect: 100-continue")
        self.assertEqual(line.wire.value(), b"HTTP/1.1 100 Continue\r\n\r\n")
        line.wire.clear()
        line.send(DATA)
        self.assertEqual(line.reply().status, 202)

    def test_http_1_0(self) -> None:
        """An old client can push; it is told of no 100, and its connection ends."""
        line = self.uploading("Content-Length: 1000", "Expect: 100-continue", version="1.0")
        line.send(DATA)
        self.assertEqual((line.reply().status, line.wire.disconnecting), (202, True))

    def test_left(self) -> None:
        """A client that leaves in the middle: push hears `Broken`, keeps what came, and is not cancelled."""
        line = self.uploading("Content-Length: 1000")
        line.send(b"x" * 10)
        line.leave()
        self.assertEqual([type(error) for error in self.push.broken], [Broken])
        self.assertEqual(self.push.sessions, {"s1": b"x" * 10})
        event = self.events.list[-1]
        self.assertEqual((event.aborted, event.status, event.received), (True, None, 10))

    def test_left_before_push_took_it(self) -> None:
        """Push goes on to its end, and finds the body broken."""
        self.connect().ask("POST", UPLOADS)
        gate: Deferred[None] = Deferred()
        self.push.gate = lambda: gate
        line = self.connect()
        line.request("PATCH", f"{UPLOADS}s1", "Content-Length: 1000")
        line.send(b"x" * 10)
        line.leave()
        self.assertEqual(len(self.background), 1)
        gate.callback(None)
        self.assertEqual([type(error) for error in self.push.broken], [Broken])
        self.assertEqual(self.push.sessions, {"s1": b"x" * 10})

    def test_malformed_chunks(self) -> None:
        """What is no chunk is refused in order, push hears of it, and no request hides behind it."""
        line = self.uploading("Transfer-Encoding: chunked")
        line.send("zz\r\nGET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n")
        reply = line.reply()
        self.assertEqual((reply.status, reply.error()["code"]), (400, "UNSUPPORTED"))
        self.assertEqual(reply.headers["connection"], "close")
        line.send("0\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(line.replies(), [])
        self.fake.advance(2.1)
        self.assertTrue(line.wire.aborted)
        self.assertEqual([type(error) for error in self.push.broken], [InvalidRequest])
        line.leave()
        self.assertEqual((self.events.list[-1].status, self.events.list[-1].aborted), (400, False))

    def test_malformed_before_it_is_wanted(self) -> None:
        """Who takes a body learns at once that its form was broken before."""
        line = self.uploading()
        gate: Deferred[None] = Deferred()
        self.push.gate = lambda: gate
        line = self.connect()
        line.request("PATCH", f"{UPLOADS}s1", "Transfer-Encoding: chunked")
        line.send("zz\r\n")
        self.assertEqual(line.replies(), [])
        gate.callback(None)
        self.assertEqual(line.reply().status, 400)

    def test_encoded_path(self) -> None:
        """A path that only means `/v2/` streams as well."""
        self.connect().ask("POST", UPLOADS)
        line = self.connect()
        reply = line.ask("PATCH", "http://x/%762/a/blobs/uploads/s1?x=1", body=DATA)
        self.assertEqual((reply.status, self.push.sessions), (202, {"s1": DATA}))


class DeadlineTests(WireTestCase):
    """Time."""

    def uploading(self, length: int) -> Exchange:
        """Begin a PATCH."""
        self.connect().ask("POST", UPLOADS)
        line = self.connect()
        line.request("PATCH", f"{UPLOADS}s1", f"Content-Length: {length}")
        return line

    def test_long_uploads(self) -> None:
        """Neither the deadline of headers nor the idle timeout ends an upload that goes on; after it both hold."""
        line = self.uploading(100 * 20_000)
        for _ in range(100):
            self.fake.advance(40)
            line.send(b"x" * 20_000)
        self.assertEqual((line.reply().status, line.wire.aborted), (202, False))
        self.fake.advance(61)
        self.assertTrue(line.wire.disconnecting)

    def test_silence(self) -> None:
        """A body that stops coming is answered with 408 after `stall_timeout`, and push keeps what came."""
        line = self.uploading(GIB)
        line.send(b"x" * 100_000)
        self.fake.pump([15] * 4)
        self.assertEqual(line.replies(), [])
        self.fake.pump([15])
        reply = line.reply()
        self.assertEqual((reply.status, reply.headers["connection"]), (408, "close"))
        self.assertEqual(reply.error()["code"], "SIZE_INVALID")
        self.assertFalse(line.wire.aborted)
        self.fake.advance(2)
        self.assertTrue(line.wire.aborted)
        line.leave()
        self.assertEqual(len(self.push.sessions["s1"]), 100_000)

    def test_dribble(self) -> None:
        """A byte a second is as good as nothing."""
        line = self.uploading(GIB)
        seconds = 0
        while not line.wire.aborted and seconds < 100:
            line.send(b"x")
            self.fake.advance(1)
            seconds += 1
        self.assertIn(seconds, range(60, 80))
        self.assertEqual(line.reply().status, 408)
        line.leave()
        self.assertEqual((self.events.list[-1].status, self.events.list[-1].aborted), (408, False))

    def test_a_short_dribble(self) -> None:
        """The connection ends after a little body that does not come, as after a long one."""
        line = self.uploading(10)
        line.send(b"x")
        self.fake.pump([15] * 4)
        reply = line.reply()
        self.assertEqual((reply.status, reply.headers["connection"]), (408, "close"))
        line.send(b"x" * 9)
        self.assertEqual(line.replies(), [])
        self.fake.advance(2)
        self.assertTrue(line.wire.aborted or line.wire.disconnecting)
        self.assertEqual(self.push.sessions["s1"], b"x")

    def test_a_slow_store_is_not_the_client(self) -> None:
        """While push holds the body the client cannot stall; from then on it can."""
        bodies: list[Body] = []
        self.push.taken = lambda body, chunk: bodies.append(body)
        line = self.uploading(GIB)
        line.send(b"x")
        bodies[0].pause()
        self.fake.pump([15] * 20)
        bodies[0].resume()
        self.fake.pump([15] * 3)
        self.assertFalse(line.wire.aborted)
        self.fake.pump([15] * 3)
        self.assertTrue(line.wire.aborted)

    def test_trickled_headers(self) -> None:
        """The headers of an upload have the deadline of all headers, and the bound."""
        line = self.connect()
        for byte in f"PATCH {UPLOADS}s1 HTTP/1.1\r\nX: ".encode() + b"y" * 100:
            if line.wire.aborted:
                break
            line.send(bytes([byte]))
            self.fake.advance(1)
        self.assertTrue(line.wire.aborted)
        line = self.connect()
        line.request("PATCH", f"{UPLOADS}s1", *(f"X-{n}: {'y' * 1000}" for n in range(100)))
        self.assertEqual(line.reply().status, 431)
        self.assertEqual(self.push.calls, [])


class EarlyAnswerTests(WireTestCase):
    """Answers that are whole before the body is."""

    def test_a_little_is_dropped(self) -> None:
        """What is left of a short body is read and dropped, and the connection goes on."""
        self.push.error = Denied("no")
        line = self.connect()
        line.request("POST", f"{UPLOADS}?digest={DIGEST}", "Content-Length: 1000")
        reply = line.reply()
        self.assertEqual((reply.status, "connection" in reply.headers), (403, False))
        self.assertFalse(line.wire.paused)
        line.send(b"x" * 999)
        self.assertEqual(self.site.in_flight, 1)
        line.send(b"x")
        self.assertEqual(self.site.in_flight, 0)
        self.fake.advance(5)
        line.request("GET", "/v2/")
        self.assertEqual((line.reply().status, line.wire.aborted), (200, False))
        self.assertEqual([(e.aborted, e.received) for e in self.events.list], [(False, 1000)])

    def test_a_lot_ends_the_connection(self) -> None:
        """A long body is refused before it comes: the answer goes out at once and whole, the end comes later."""
        self.push.error = Denied("no")
        for headers in (
            [f"Content-Length: {GIB}"],
            ["Transfer-Encoding: chunked"],
            ["Content-Length: 1000", "Expect: 100-continue"],
        ):
            line = self.connect()
            line.request("POST", f"{UPLOADS}?digest={DIGEST}", *headers)
            reply = line.reply()
            self.assertEqual((reply.status, reply.headers["connection"]), (403, "close"))
            self.assertEqual(
                (line.wire.disconnecting, line.wire.aborted, line.wire.paused), (False, False, False)
            )
            self.fake.advance(1.9)
            self.assertFalse(line.wire.aborted)
            self.fake.advance(0.2)
            self.assertTrue(line.wire.aborted)
            line.leave()
            self.assertFalse(
                self.events.list[-1].aborted, "an answer that went out whole was told as aborted"
            )

    def test_the_rest_comes_after_all(self) -> None:
        """A client that sends all of it nevertheless has its connection closed in order."""
        self.push.error = Denied("no")
        line = self.connect()
        line.request("POST", f"{UPLOADS}?digest={DIGEST}", "Transfer-Encoding: chunked")
        line.reply()
        line.send("3\r\nabc\r\n0\r\n\r\n")
        self.assertEqual((line.wire.disconnecting, line.wire.aborted), (True, False))

    def test_a_broken_rest(self) -> None:
        """An answered request whose rest is no chunk gets no second answer, and the time to read the first."""
        self.push.error = Denied("no")
        line = self.connect()
        line.request("POST", f"{UPLOADS}?digest={DIGEST}", "Transfer-Encoding: chunked")
        line.reply()
        line.send("zz\r\nGET /v2/ HTTP/1.1\r\n\r\n")
        self.assertEqual((line.replies(), line.wire.aborted), ([], False))
        self.fake.advance(2.1)
        self.assertEqual((line.replies(), line.wire.aborted), ([], True))

    def test_given_up_by_push(self) -> None:
        """Push that takes no more of it ends the reading, and its error is told."""

        def full(body: Body, chunk: bytes) -> None:
            body.abort()

        self.connect().ask("POST", UPLOADS)
        self.push.taken = full
        line = self.connect()
        line.request("PATCH", f"{UPLOADS}s1", f"Content-Length: {GIB}")
        line.send(DATA)
        reply = line.reply()
        self.assertEqual((reply.status, reply.headers["connection"]), (502, "close"))

    def test_a_sink_that_raises(self) -> None:
        """What the taker raises ends the body and is what it learns, whenever the bytes came."""

        def refuse(body: Body, chunk: bytes) -> None:
            raise Denied("enough")

        self.push.taken = refuse
        gate: Deferred[None] = Deferred()
        early = self.connect()
        self.push.gate = lambda: gate
        early.request("POST", f"{UPLOADS}?digest={DIGEST}", "Content-Length: 1000")
        early.send(DATA)
        gate.callback(None)
        self.push.gate = lambda: succeed(None)
        late = self.connect()
        late.request("POST", f"{UPLOADS}?digest={DIGEST}", f"Content-Length: {GIB}")
        late.send(DATA)
        self.assertEqual((early.reply().status, late.reply().status), (403, 403))
        self.assertEqual(len(self.push.broken), 2)

    def test_no_such_place(self) -> None:
        """A huge body for no endpoint, or with a method that it lacks, is refused at its headers."""
        for method, path, status in (
            ("PUT", "/v2/x", 404),
            ("POST", "/v2/a/manifests/1", 405),
            ("PUT", "/v2/UPPER/manifests/1", 400),
            ("PATCH", "/v2", 405),
            ("PUT", "/", 413),
            ("DELETE", "/v2/a/manifests/1", 413),
        ):
            line = self.connect()
            line.request(method, path, f"Content-Length: {GIB}", "Expect: 100-continue")
            reply = line.reply()
            self.assertEqual((reply.status, reply.headers["connection"]), (status, "close"), path)

    def test_drain(self) -> None:
        """While the daemon stops an upload may end, and is the last on its connection."""
        self.connect().ask("POST", UPLOADS)
        line = self.connect()
        line.request("PATCH", f"{UPLOADS}s1", "Content-Length: 1000")
        self.site.drain()
        self.site.close_idle()
        self.assertEqual((line.wire.disconnecting, self.site.in_flight), (False, 1))
        line.send(DATA)
        reply = line.reply()
        self.assertEqual((reply.status, reply.headers["connection"]), (202, "close"))
        self.assertEqual((line.wire.disconnecting, self.site.in_flight), (True, 0))
