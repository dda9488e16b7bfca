"""The daemon's own log: text for a person or JSON lines for a program, to standard output or a file.

The audit log is another thing, and lives in `nora.telemetry`.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TextIO

from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    LogLevel,
    PredicateResult,
    eventAsText,
    formatEvent,
    formatTime,
)
from zope.interface import implementer

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warn", "error", "critical")


def text_line(event: LogEvent, worker: int | None = None) -> str:
    """Write an event as text: UTC time, level, logger, message, and the traceback on indented lines after it.

    `worker` is named before the logger.
    """
    level = event.get("log_level")
    name = level.name if level is not None else "info"
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    if not text:
        return ""
    when = formatTime(event.get("log_time"), timeFormat="%Y-%m-%dT%H:%M:%S%z")
    indented = text.replace("\n", "\n\t")
    who = "" if worker is None else f"worker {worker} "
    return f"{when} {name:<8} {who}{event.get('log_namespace', '-')}: {indented}\n"


def json_line(event: LogEvent, worker: int | None = None) -> str:
    """Write an event as one JSON object: `time` (UTC), `level`, `logger`, `message`; perhaps `worker`, `traceback`."""
    level = event.get("log_level")
    message = formatEvent(event)
    failure = event.get("log_failure")
    if not message and failure is None:
        return ""
    line: dict[str, object] = {
        "time": datetime.fromtimestamp(event.get("log_time", 0.0), timezone.utc).isoformat(
            timespec="milliseconds"
        ),
        "level": level.name if level is not None else "info",
        "logger": event.get("log_namespace", "-"),
        "message": message,
    }
    if worker is not None:
        line["worker"] = worker
    if failure is not None:
        line["traceback"] = failure.getTraceback()
    return json.dumps(line, ensure_ascii=False) + "\n"


@implementer(ILogObserver)
class _Writer:
    def __init__(self, json_lines: bool, stream: TextIO, worker: int | None) -> None:
        self._line = json_line if json_lines else text_line
        self._worker = worker
        self.stream = stream

    def __call__(self, event: LogEvent) -> None:
        line = self._line(event, self._worker)
        if line:
            self.stream.write(line)
            self.stream.flush()


@implementer(ILogFilterPredicate)
class _Threshold:
    """Keeps events of `level` and above; those of Twisted's old logging, which may have no level, as info."""

    def __init__(self, level: str) -> None:
        self._lowest = LogLevel.levelWithName(level)

    def __call__(self, event: LogEvent) -> object:
        level = event.get("log_level", LogLevel.critical if event.get("isError") else LogLevel.info)
        return PredicateResult.maybe if level >= self._lowest else PredicateResult.no


class Logs:
    """Where the log goes and how: `format` is one of FORMATS, `level` (the lowest that is kept) one of LEVELS.

    It goes to the file at `path`, or to `stream` when there is no path. Of several processes that log there, `worker`
    is the number of this one.
    """

    def __init__(
        self, format: str, level: str, stream: TextIO, path: str | None = None, worker: int | None = None
    ) -> None:
        self._path = path
        self._writer = _Writer(format == "json", stream if path is None else _opened(path), worker)
        self.observer: ILogObserver = FilteringLogObserver(self._writer, [_Threshold(level)])
        """What twistd's application observes the log with."""

    def reopen(self) -> None:
        """Open the file again under its name. Raises `OSError`; then the log goes on where it went."""
        if self._path is None:
            return
        old, self._writer.stream = self._writer.stream, _opened(self._path)
        old.close()

    def close(self) -> None:
        """Close the file; nothing may be logged after that."""
        if self._path is not None:
            self._writer.stream.close()


def _opened(path: str) -> TextIO:
    return open(path, "a", encoding="utf-8", errors="backslashreplace")
