"""Fills with more than one upstream to ask: resumption at the next, and a liar left behind."""

from __future__ import annotations

from nora.oci.errors import Broken, Unavailable, Unverified
from nora.pull.interfaces import Content, Served
from tests.support.blob_case import RANDOM, BlobTestCase
from tests.support.pulling import MIB, NAME, qualified
from tests.support.scripted import ScriptedUpstream


class MirrorTests(BlobTestCase):
    """Two upstreams of one namespace, which have the same blob."""

    def setUp(self) -> None:
        super().setUp()
        self.mirror = ScriptedUpstream("mirror")
        self.mirror.add_blob(NAME, RANDOM)
        self.route = qualified([self.hub, self.mirror])

    def begun(self) -> Served[Content]:
        """Begin a fill at the first, which holds its transfer, and send a third."""
        self.hub.held = True
        served = self.successResultOf(self.get())
        self.hub.transfers[0].send(MIB)
        return served

    def starts(self, upstream: ScriptedUpstream) -> list[int]:
        return [asked[3] for asked in upstream.asked if asked[0] == "blob"]

    def test_goes_on_at_the_next(self) -> None:
        """The first breaks off and is dead: the next brings the rest, and the client notices nothing."""
        reading = self.read(self.begun())
        self.hub.error = Unavailable("dead")
        self.hub.transfers[0].cut()
        self.here.turn(1.0)
        self.assertEqual(self.successResultOf(reading), RANDOM)
        self.assertEqual((self.starts(self.hub), self.starts(self.mirror)), ([0, MIB], [MIB]))

    def test_first_comes_first(self) -> None:
        """Where the first goes on by itself, the next is not asked."""
        reading = self.read(self.begun())
        self.hub.transfers[0].cut()
        self.here.turn(1.0)
        self.hub.transfers[1].release()
        self.assertEqual(self.successResultOf(reading), RANDOM)
        self.assertEqual(self.mirror.asked, [])

    def test_page_in_the_middle(self) -> None:
        """What answers the resumption with something of another size is no candidate; the next is."""
        reading = self.read(self.begun())
        self.hub.blobs[NAME, self.digest] = b"<html>" * 1000
        self.hub.knows_ranges = False
        self.hub.transfers[0].cut()
        self.here.turn(1.0)
        self.assertEqual(self.successResultOf(reading), RANDOM)
        self.assertEqual(self.starts(self.mirror), [MIB])

    def test_liar_is_left(self) -> None:
        """Wrong bytes from the first: who was sent none of them gets the next's, and the first is not asked again."""
        self.hub.corrupt = lambda data: data[:-1] + b"?"
        self.hub.held = True
        served = [self.successResultOf(self.get()) for _ in range(2)]
        early = self.read(served[0])
        self.hub.transfers[0].send(MIB)
        late = self.read(served[1], len(RANDOM) - 1)
        self.hub.transfers[0].release()
        self.assertEqual(self.successResultOf(late), RANDOM[-1:])
        self.assertEqual(self.successResultOf(early), RANDOM)  # all that it was sent stands there too
        self.assertEqual((self.starts(self.hub), self.starts(self.mirror)), ([0], [0]))
        self.assertTrue(self.is_published())

    def test_who_was_lied_to(self) -> None:
        """Who was sent a wrong byte is cut off, though the next upstream has the right ones."""
        self.hub.corrupt = lambda data: b"?" + data[1:]
        self.hub.held = True
        reading = self.read(self.successResultOf(self.get()))
        self.hub.transfers[0].release()
        self.failureResultOf(reading, Broken)
        self.assertTrue(self.is_published())

    def test_all_lie(self) -> None:
        """Where all lie, each is asked once, and nothing is stored."""
        for upstream in (self.hub, self.mirror):
            upstream.corrupt = lambda data: b"x" * len(data)
        self.hub.held = True
        reading = self.read(self.successResultOf(self.get()))
        self.hub.transfers[0].release()
        self.failureResultOf(reading, Unverified, Broken)
        self.assertEqual((self.starts(self.hub), self.starts(self.mirror)), ([0], [0]))
        self.assertFalse(self.part().exists())

    def test_many_breaks(self) -> None:
        """As many breaks as there are with progress between them are got over; one after the last byte is none."""
        self.hub.held = self.mirror.held = True
        reading = self.read(self.successResultOf(self.get()))
        for _ in range(24):
            self.hub.transfers[-1].send(MIB // 8)
            self.hub.transfers[-1].cut()
            self.here.turn(0.5)
        self.assertEqual(self.successResultOf(reading), RANDOM)
        self.assertEqual(len(self.starts(self.hub)), 24)
