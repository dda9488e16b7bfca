"""What every `Records` promises, told to the real one and to the fake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

from nora.storage import DiskRecords, Layout
from nora.storage.interfaces import Record, Records
from tests.support.storage_fakes import ImmediateDisk, MemoryRecords, temporary_folder

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object

KEY = "names/library/nginx/_owner"


class RecordsContract(_Base):
    """The suite."""

    records: Records

    def put(self, value: dict[str, object], key: str = KEY, durable: bool = True) -> None:
        self.successResultOf(self.records.put(key, value, durable=durable))

    def get(self, key: str = KEY) -> Record:
        record: Record | None = self.successResultOf(self.records.get(key))
        assert record is not None
        return record

    def test_absent(self) -> None:
        """A record that was never written is None, and so is its stamp."""
        self.assertIsNone(self.successResultOf(self.records.get(KEY)))
        self.assertIsNone(self.records.stamp(KEY))
        self.assertFalse(self.successResultOf(self.records.remove(KEY)))

    def test_written(self) -> None:
        """What was put is read back, synced or not, whatever JSON it holds."""
        for durable in (True, False):
            value: dict[str, object] = {"a": 1, "b": None, "c": ["d", {"é": 1.5}], "durable": durable}
            self.put(value, durable=durable)
            self.assertEqual(self.get().value, value)

    def test_replaced(self) -> None:
        """The last put counts, and nothing of the one before shows through."""
        self.put({"a": 1, "b": 2})
        self.put({"c": 3})
        self.assertEqual(self.get().value, {"c": 3})

    def page(self, after: str = "", limit: int = 9) -> list[str]:
        found: list[str] = self.successResultOf(self.records.page("names/a/_tags", after, limit))
        return found

    def test_page(self) -> None:
        """The names right under a prefix come in byte order, in parts, as they are at the time."""
        self.assertEqual(self.page(), [])
        for name in ("b", "a", "B", "10", "a.b"):
            self.put({}, f"names/a/_tags/{name}")
        self.put({}, "names/a/_tags2/x")
        self.put({}, "names/a/_tags/deep/x")
        self.assertEqual(self.page(), ["10", "B", "a", "a.b", "b"])
        self.assertEqual(self.page("B", 2), ["a", "a.b"])
        self.assertEqual(self.page("Z"), ["a", "a.b", "b"])
        self.assertEqual(self.page("b"), [])
        self.assertEqual(self.page(limit=0), [])
        self.successResultOf(self.records.remove("names/a/_tags/a"))
        self.assertEqual(self.page(), ["10", "B", "a.b", "b"])

    def test_stamp_is_that_of_the_record(self) -> None:
        """The stamp of a record that was read is what `stamp` tells while it does not change."""
        self.put({"a": 1})
        self.assertEqual(self.get().stamp, self.records.stamp(KEY))

    def test_stamp_tells_of_changes(self) -> None:
        """A put of another length and a remove change the stamp."""
        self.put({"a": 1})
        before = self.records.stamp(KEY)
        self.put({"a": 1, "b": 2})
        after = self.records.stamp(KEY)
        self.assertNotEqual(before, after)
        self.successResultOf(self.records.remove(KEY))
        self.assertIsNone(self.records.stamp(KEY))

    def test_removed(self) -> None:
        """A removed record is gone, and can be written again."""
        self.put({"a": 1})
        self.assertTrue(self.successResultOf(self.records.remove(KEY)))
        self.assertIsNone(self.successResultOf(self.records.get(KEY)))
        self.put({"a": 2})
        self.assertEqual(self.get().value, {"a": 2})

    def test_keys_are_independent(self) -> None:
        """Records of nested names do not meet."""
        for key in (
            KEY,
            "names/library/nginx/_tags/1",
            "names/library/nginx/nginx/_owner",
            "names/library/_owner",
        ):
            self.put({"key": key}, key)
        for key in (
            KEY,
            "names/library/nginx/_tags/1",
            "names/library/nginx/nginx/_owner",
            "names/library/_owner",
        ):
            self.assertEqual(self.get(key).value, {"key": key})

    def test_what_is_read_is_the_readers_own(self) -> None:
        """Changing a value that was read changes no record."""
        self.put({"a": {"b": 1}})
        self.get().value["a"]["b"] = 2
        self.assertEqual(self.get().value, {"a": {"b": 1}})

    def test_keys_that_are_none(self) -> None:
        """A key that could leave its place is refused."""
        for key in (
            "names/../blobs/x",
            "blobs/sha256/aa",
            "names//a",
            "/names/a",
            "names/a\0",
            "names/./a",
            "names",
        ):
            self.failureResultOf(self.records.get(key), ValueError)
            self.failureResultOf(self.records.put(key, {}), ValueError)
            self.assertRaises(ValueError, self.records.stamp, key)

    def test_too_large(self) -> None:
        """A record of more than 64 KiB is refused, and the one that was there stays."""
        self.put({"a": 1})
        self.failureResultOf(self.records.put(KEY, {"a": "x" * 70_000}), ValueError)
        self.assertEqual(self.get().value, {"a": 1})


class DiskRecordsTests(RecordsContract, SynchronousTestCase):
    """The real records."""

    def setUp(self) -> None:
        layout = Layout(temporary_folder(self))
        layout.prepare()
        self.records = DiskRecords(layout, ImmediateDisk())


class MemoryRecordsTests(RecordsContract, SynchronousTestCase):
    """The fake."""

    def setUp(self) -> None:
        self.records = MemoryRecords()
