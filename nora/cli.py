"""`nora`: the operator's command, over the same rooms as the daemon.

It ends with 0, with 78 (sysexits' EX_CONFIG) for mistakes in the configuration, 2 for one on the command line, and 1
for anything else that went wrong; each is told in lines on standard error.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.logger import globalLogBeginner

from nora import __version__
from nora.config import Config, ConfigError, dump, load
from nora.process.logs import Logs
from nora.storage import Layout, SqliteIndex, StoreError, StoreLock, reindex

EX_CONFIG = 78

Run: TypeAlias = Callable[[Callable[[Any], Coroutine[Any, Any, None]]], None]
"""Calls a coroutine function with the reactor and comes back when it has ended."""


def main(
    argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ, run: Run | None = None
) -> int:
    """Do what the command line says and give the exit status; `SystemExit` when the line itself is wrong."""
    options = _parser().parse_args(argv)
    if options.command == "version":
        print(f"nora {__version__}")
        return 0
    try:
        config = load(options.config, environ)
    except ConfigError as error:
        for line in error.lines:
            print(f"nora: {line}", file=sys.stderr)
        return EX_CONFIG
    if options.command == "reindex":
        return _reindex(config, run or _with_reactor)
    print(dump(config), end="") if options.action == "show" else print("OK")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("nora", description="NORA, a pull-through cache for container images.")
    parser.add_argument("--version", action="version", version=f"nora {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    file = argparse.ArgumentParser(add_help=False)
    file.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        help="the configuration file; else NORA_CONFIG_PATH names it, if any",
    )

    about = "show or check the configuration"
    config = commands.add_parser("config", help=about, description=about)
    actions = config.add_subparsers(dest="action", required=True, metavar="ACTION")
    about = "print the configuration in force as TOML, with secrets as ***"
    actions.add_parser("show", parents=[file], help=about, description=about)
    about = f"print OK, or a line for each mistake and end with status {EX_CONFIG}"
    actions.add_parser("check", parents=[file], help=about, description=about)

    about = "build the store's index anew from its files, while no daemon runs"
    commands.add_parser("reindex", parents=[file], help=about, description=about)
    about = "print the version"
    commands.add_parser("version", help=about, description=about)
    return parser


def _reindex(config: Config, run: Run) -> int:
    layout = Layout(config.storage.path)
    lock = StoreLock(layout.daemon_lock)
    failures: list[Exception] = []

    async def work(reactor: Any) -> None:
        # What the reactor's runner does with an exception is a traceback; an operator gets a line.
        try:
            print(await rebuild(layout, SqliteIndex.threaded(layout.index, reactor)))
        except (OSError, sqlite3.Error) as error:
            failures.append(error)

    try:
        lock.acquire(0)
        run(work)
    except StoreError as error:
        failures.append(error)
    finally:
        lock.close()
    for failure in failures:
        print(f"nora: reindex: {failure}", file=sys.stderr)
    return 1 if failures else 0


async def rebuild(layout: Layout, index: SqliteIndex) -> str:
    """Build `index` anew from the files of `layout`; gives a line for the operator.

    The index is started and stopped here. Raises `sqlite3.Error` and `OSError`.
    """
    await index.start()
    try:
        totals = await reindex(layout, index)
    finally:
        await index.stop()
    return f"{layout.index}: {totals.blobs} blobs, {totals.bytes} bytes"


def _with_reactor(work: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    """Run the reactor until `work` has ended; its log goes to standard error."""
    globalLogBeginner.beginLoggingTo([Logs("text", "warn", sys.stderr).observer], redirectStandardIO=False)
    try:
        react(lambda reactor: Deferred.fromCoroutine(work(reactor)))
    except SystemExit as ended:
        if ended.code:
            raise
