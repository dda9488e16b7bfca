"""The tail of the audit log: backwards, bounded, over rotated files, and whatever stands in them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from nora.telemetry import AuditEvent, tail
from nora.telemetry.audit import FIELDS
from nora.telemetry.tail import AuditTail, Entry, Look, NotReadable, Place
from tests.support.doors import Threads


def line(number: int = 0, **fields: Any) -> bytes:
    """Write a line as the audit log does, and `fields` in it as they are."""
    event = AuditEvent(
        time=1.7e9 + number,
        id=f"n{number}",
        client="192.0.2.1",
        method="GET",
        repository=f"app/{number}",
        status=200,
        sent=1,
        seconds=0.5,
        aborted=False,
    )
    return json.dumps({**json.loads(event.line()), **fields}).encode() + b"\n"


def every(_: Entry) -> bool:
    """Want everything."""
    return True


class TailCase(SynchronousTestCase):
    """A log in a folder of its own."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self.path = self.folder / "audit.jsonl"
        self.tail = AuditTail(str(self.path), Threads())

    def look(self, most: int = 100, before: Place | None = None, wanted: Any = every) -> Look:
        """Look."""
        return self.successResultOf(Deferred.fromCoroutine(self.tail.look(wanted, most, before)))

    def ids(self, most: int = 100, wanted: Any = every) -> list[str]:
        """Go through all of the log, look by look, and tell the ids of what is found."""
        found: list[str] = []
        before = None
        while True:
            look = self.look(most, before, wanted)
            found += [entry["id"] for entry in look.entries]
            if look.older is None:
                return found
            self.assertNotEqual(look.older, before)
            before = look.older

    def rotated(self, suffix: str, data: bytes, age: float) -> Path:
        """Have a file beside the log, `age` seconds old."""
        path = self.folder / f"audit.jsonl{suffix}"
        path.write_bytes(data)
        os.utime(path, (1.7e9 - age, 1.7e9 - age))
        return path


class TailTests(TailCase):
    """What is found, and where a look goes on."""

    def test_newest_first(self) -> None:
        """The last line comes first, with all of its fields."""
        self.path.write_bytes(b"".join(line(number) for number in range(5)))
        look = self.look()
        self.assertEqual([entry["id"] for entry in look.entries], ["n4", "n3", "n2", "n1", "n0"])
        self.assertEqual(tuple(look.entries[0]), FIELDS)
        self.assertEqual(look.entries[0], json.loads(line(4)))
        self.assertEqual((look.unreadable, look.older), (0, None))

    def test_parts(self) -> None:
        """Looks of any size go through all lines, each once, over the bounds of blocks, while others are added."""
        lines = [line(number, agent="x" * (number * 97 % 251)) for number in range(600)]
        self.path.write_bytes(b"".join(lines))
        self.assertGreater(self.path.stat().st_size, 2 * tail.BLOCK)
        everything = [f"n{number}" for number in reversed(range(600))]
        for most in (1000, 100, 7):
            self.assertEqual(self.ids(most), everything)
        look = self.look(100)
        with self.path.open("ab") as file:
            file.write(line(600))
        self.assertEqual(self.look(1, look.older).entries[0]["id"], "n499")

    def test_wanted(self) -> None:
        """Only what is wanted counts for the bound of a look."""
        self.path.write_bytes(
            b"".join(line(number, status=404 if number % 50 else 200) for number in range(200))
        )
        self.assertEqual(self.ids(1, lambda entry: entry["status"] == 200), ["n150", "n100", "n50", "n0"])

    def test_bound_of_bytes(self) -> None:
        """A look for what is rare ends after 2 MiB, and the next one goes on there."""
        filling = line(agent="x" * 200)
        self.path.write_bytes(line(7) + filling * (5 * 1024 * 1024 // len(filling)))
        before = None
        sizes = []
        while True:
            look = self.look(before=before, wanted=lambda entry: entry["id"] == "n7")
            if look.older is None:
                break
            sizes.append((before.offset if before else self.path.stat().st_size) - look.older.offset)
            before = look.older
        self.assertEqual([entry["id"] for entry in look.entries], ["n7"])
        self.assertEqual(len(sizes), 2)
        for size in sizes:
            self.assertLess(size - tail.MAX_LOOK, len(filling))

    def test_rotated(self) -> None:
        """Files put aside come after it, the youngest first, whatever they are called; packed ones are left out."""
        self.path.write_bytes(line(9))
        self.rotated(".1", line(5) + line(6), 10)
        self.rotated("-20260101", line(3) + line(4), 20)
        self.rotated(".2.gz", line(1), 30)
        self.rotated("x", line(2), 5)
        os.symlink("/dev/zero", self.folder / "audit.jsonl.3")
        for most in (1, 2, 3, 100):
            self.assertEqual(self.ids(most), ["n9", "n6", "n5", "n4", "n3"])

    def test_rotated_meanwhile(self) -> None:
        """A look goes on in its file, though that was put aside; one whose file is gone finds no more."""
        self.path.write_bytes(line(1) + line(2))
        before = self.look(1).older
        self.path.rename(self.folder / "audit.jsonl.1")
        self.path.write_bytes(line(3))
        look = self.look(5, before)
        self.assertEqual([entry["id"] for entry in look.entries], ["n1"])
        (self.folder / "audit.jsonl.1").unlink()
        self.assertEqual(self.look(5, before), Look((), 0, None))

    def test_empty(self) -> None:
        """An empty log has nothing; a place past the end of one that was cut is its end."""
        self.path.write_bytes(b"")
        self.assertEqual(self.look(), Look((), 0, None))
        self.path.write_bytes(line(1))
        place = Place(self.path.stat().st_ino, 10**9)
        self.assertEqual(len(self.look(5, place).entries), 1)

    def test_not_readable(self) -> None:
        """What is no file, or is not there, says why."""
        for path, words in ((self.path, "cannot be read: No such file"), (Path("/dev/null"), "no file")):
            looking = Deferred.fromCoroutine(AuditTail(str(path), Threads()).look(every, 1))
            self.assertIn(words, self.failureResultOf(looking, NotReadable).value.reason)


class HostileTests(TailCase):
    """What does not stand in a log of ours."""

    def test_broken_lines(self) -> None:
        """Half a line, no JSON, no object, no time: each is passed over and counted; empty ones are not."""
        broken = (
            *(b'{"time":"2023-', b"null", b"[1]", b'"x"', b"{}", b"\xff\xfe", b"\0" * 100, b"[" * 50_000),
            *(b'{"time":1}', b'{"time":"<script>"}', b'{"time":"2023-11-14T22:13:20.000Z\\n"}'),
            b'{"time":"2023-11-14T22:13:20.000Z","seconds":NaN}',
        )
        self.path.write_bytes(line(1) + b"".join(each + b"\n\n" for each in broken) + line(2) + line(3)[:-20])
        look = self.look()
        self.assertEqual([entry["id"] for entry in look.entries], ["n2", "n1"])
        self.assertEqual(look.unreadable, len(broken) + 1)

    def test_last_line_without_end(self) -> None:
        """A last line that is whole but for its newline counts."""
        self.path.write_bytes(line(1) + line(2).rstrip())
        self.assertEqual(self.ids(), ["n2", "n1"])

    def test_long_lines(self) -> None:
        """A line of megabytes is passed over at the cost of one look or two, and costs no memory."""
        self.path.write_bytes(line(1) + b"x" * (5 * 1024 * 1024) + b"\n" + line(2))
        self.assertEqual(self.ids(), ["n2", "n1"])
        look = self.look()
        assert look.older is not None
        self.assertLess(self.path.stat().st_size - look.older.offset, tail.MAX_LOOK + 2 * tail.BLOCK)

    def test_types(self) -> None:
        """A value of another type than its field's is none, and long texts are cut."""
        self.path.write_bytes(
            line(
                1,
                status="<b>",
                bytes=-1,
                received=True,
                seconds=10**400,
                aborted="yes",
                user=["x"],
                agent="y" * 9999,
            )
            + line(2, status=1.5, bytes=2**60, seconds=1e300)
        )
        second, first = self.look().entries
        for name in ("status", "bytes", "received", "seconds", "user"):
            self.assertIsNone(first[name], name)
        self.assertEqual((first["aborted"], len(first["agent"])), (False, 256))
        self.assertEqual((second["status"], second["bytes"], second["seconds"]), (None, None, None))

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.one_of(st.binary(max_size=80), st.integers(0, 99).map(line)), max_size=30),
        st.integers(1, 9),
    )
    def test_anything(self, parts: list[bytes], most: int) -> None:
        """Whatever a file is made of: every line of ours is found once, in order, by looks of any size."""
        self.path.write_bytes(b"".join(parts))
        lines = self.path.read_bytes().split(b"\n")
        expected = [entry["id"] for each in reversed(lines) if (entry := tail.entry(each)) is not None]
        self.assertEqual(self.ids(most), expected)

    @given(st.text(max_size=60))
    def test_places(self, text: str) -> None:
        """A place is read as it is written, and everything else is none."""
        place = Place.parse(text)
        self.assertTrue(place is None or Place.parse(str(place)) == place)
        self.assertEqual(Place.parse(str(Place(12, 34))), Place(12, 34))
