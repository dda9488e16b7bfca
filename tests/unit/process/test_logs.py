"""The daemon's log: its lines, its level, its file."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from nora.process import Logs


class LogTests(SynchronousTestCase):
    """Events as Twisted's loggers make them."""

    def logged(self, format: str, level: str, *, logs: Logs | None = None) -> tuple[Logger, io.StringIO]:
        """Make a logger, and what its lines go to."""
        stream = io.StringIO()
        logs = logs or Logs(format, level, stream)
        return Logger("nora.test", observer=logs.observer), stream

    def test_text(self) -> None:
        """A text line has the time in UTC, the level, the logger and the message."""
        log, stream = self.logged("text", "info")
        log.info("pulled {name}", name="thing")
        self.assertRegex(
            stream.getvalue(), r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0000 info     nora\.test: pulled thing\n\Z"
        )

    def test_text_keeps_one_event_together(self) -> None:
        """What comes from outside cannot forge a line: further lines of a message are indented."""
        log, stream = self.logged("text", "info")
        log.info("{name}", name="a\n2026-01-01T00:00:00+0000 info forged")
        first, second, end = stream.getvalue().split("\n")
        self.assertTrue(first.endswith(": a"))
        self.assertTrue(second.startswith("\t2026"))
        self.assertEqual(end, "")

    def test_json(self) -> None:
        """A JSON line is one object with those four fields, whatever is in the message."""
        log, stream = self.logged("json", "info")
        log.warn("{name}", name='a\n"b"')
        (line,) = stream.getvalue().splitlines()
        found = json.loads(line)
        self.assertRegex(found.pop("time"), r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00\Z")
        self.assertEqual(found, {"level": "warn", "logger": "nora.test", "message": 'a\n"b"'})

    def test_worker(self) -> None:
        """Of several processes that log to one place, each line names its worker."""
        for format, pattern in (
            ("text", r" info     worker 3 nora\.test: pulled\n"),
            ("json", r'"worker": 3[,}]'),
        ):
            stream = io.StringIO()
            log, _ = self.logged(format, "info", logs=Logs(format, "info", stream, worker=3))
            log.info("pulled")
            self.assertRegex(stream.getvalue(), pattern)

    def test_tracebacks(self) -> None:
        """A failure brings its traceback along, in either format."""
        for format in ("text", "json"):
            log, stream = self.logged(format, "info")
            try:
                raise ZeroDivisionError("a defect")
            except ZeroDivisionError:
                log.failure("it broke", Failure())
            self.assertIn("it broke", stream.getvalue())
            self.assertIn("ZeroDivisionError: a defect", stream.getvalue())
        self.assertIn("Traceback", json.loads(stream.getvalue())["traceback"])

    def test_level(self) -> None:
        """Events below the level are left out, those at it and above are kept."""
        log, stream = self.logged("json", "warn")
        for level in (LogLevel.debug, LogLevel.info, LogLevel.warn, LogLevel.error, LogLevel.critical):
            log.emit(level, "x")
        levels = [json.loads(line)["level"] for line in stream.getvalue().splitlines()]
        self.assertEqual(levels, ["warn", "error", "critical"])

    def test_events_of_the_old_logging(self) -> None:
        """An event without a level counts as info, an error of that kind as critical; an empty one is no line."""
        stream = io.StringIO()
        observer: Any = Logs("json", "warn", stream).observer
        observer({"log_format": "left out", "log_time": 0.0})
        observer({"log_format": "kept", "log_time": 0.0, "isError": 1})
        observer({"log_time": 0.0, "log_level": LogLevel.error})
        self.assertEqual([json.loads(line)["message"] for line in stream.getvalue().splitlines()], ["kept"])
        text: Any = Logs("text", "info", stream).observer
        size = len(stream.getvalue())
        text({"log_time": 0.0})
        self.assertEqual(len(stream.getvalue()), size)

    def test_file_is_reopened(self) -> None:
        """After a rename, `reopen` begins a new file; before it, lines go to the renamed one."""
        directory = tempfile.TemporaryDirectory(prefix="nora-")
        self.addCleanup(directory.cleanup)
        path = Path(directory.name) / "nora.log"
        logs = Logs("text", "info", io.StringIO(), str(path))
        log, _ = self.logged("text", "info", logs=logs)
        log.info("one")
        path.rename(path.with_suffix(".1"))
        log.info("two")
        logs.reopen()
        self.addCleanup(logs.close)
        log.info("three")
        self.assertEqual(path.with_suffix(".1").read_text().count("\n"), 2)
        self.assertIn("three", path.read_text())

    def test_failed_reopen_keeps_the_old_file(self) -> None:
        """When the new file cannot be made, the log goes on where it went."""
        directory = tempfile.TemporaryDirectory(prefix="nora-")
        path = Path(directory.name) / "nora.log"
        logs = Logs("text", "info", io.StringIO(), str(path))
        self.addCleanup(logs.close)
        log, _ = self.logged("text", "info", logs=logs)
        with path.open() as reader:
            directory.cleanup()
            self.assertRaises(OSError, logs.reopen)
            log.info("still here")
            self.assertIn("still here", reader.read())

    def test_stream_is_not_reopened(self) -> None:
        """Standard output has no name to open again."""
        log, stream = self.logged("text", "info")
        logs = Logs("text", "info", stream)
        logs.reopen()
        logs.close()
        log.info("goes on")
        self.assertIn("goes on", stream.getvalue())
