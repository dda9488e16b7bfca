"""The operator's command: what it prints, and what it ends with."""

from __future__ import annotations

import contextlib
import io
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from nora import __version__
from nora.cli import EX_CONFIG, main, rebuild
from nora.config import Config, dump
from nora.oci import Digest
from nora.storage import Layout, SqliteIndex, StoreLock

ROOT = Path(__file__).resolve().parents[2]

Work = Callable[[Any], Coroutine[Any, Any, None]]


def directory(case: SynchronousTestCase) -> str:
    """Make a directory for one test."""
    made = tempfile.TemporaryDirectory()
    case.addCleanup(made.cleanup)
    return made.name


def run(
    argv: Sequence[str],
    environ: Mapping[str, str] | None = None,
    runner: Callable[[Work], None] | None = None,
) -> tuple[int, str, str]:
    """Give the exit status, standard output and standard error of a command line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(argv, environ or {}, runner)
        except SystemExit as ended:
            status = int(ended.code or 0)
    return status, out.getvalue(), err.getvalue()


def run_process(argv: Sequence[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command line as a process, with no other variables of ours than those of `environ`."""
    others = {name: text for name, text in os.environ.items() if not name.startswith("NORA_")}
    return subprocess.run(
        [sys.executable, "-m", "nora", *argv],
        cwd=ROOT,
        env={**others, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class CommandLineTests(SynchronousTestCase):
    """The line itself."""

    def test_version(self) -> None:
        """Both ways to ask for the version give it."""
        for argv in (["version"], ["--version"]):
            self.assertEqual(run(argv), (0, f"nora {__version__}\n", ""))

    def test_wrong_lines(self) -> None:
        """A line that says too little, or what nobody knows, is a matter of usage."""
        for argv in (
            [],
            ["config"],
            ["frobnicate"],
            ["config", "frobnicate"],
            ["config", "show", "--colour"],
        ):
            status, out, err = run(argv)
            self.assertEqual((status, out), (2, ""))
            self.assertIn("usage: nora", err)

    def test_help_names_every_command(self) -> None:
        """The help tells what there is."""
        status, out, _ = run(["--help"])
        self.assertEqual(status, 0)
        for command in ("config", "reindex", "version"):
            self.assertIn(command, out)

    def test_as_a_module(self) -> None:
        """`python -m nora` is the same command, and ends with its status."""
        done = run_process(["config", "check"], {"NORA_PORT": "x"})
        self.assertEqual((done.returncode, done.stdout), (EX_CONFIG, ""))
        self.assertEqual(done.stderr, 'nora: NORA_PORT: "x": must be a whole number from 0 to 65535\n')


class ConfigTests(SynchronousTestCase):
    """`nora config`."""

    def file(self, text: str) -> str:
        """Write a configuration file."""
        path = Path(directory(self), "nora.toml")
        path.write_text(text, encoding="utf-8")
        return str(path)

    def test_show(self) -> None:
        """The configuration in force is printed, and what is printed shows as itself."""
        path = self.file("[server]\nport = 1\nhost = '::1'")
        status, out, err = run(["config", "show", "--config", path], {"NORA_PORT": "2"})
        self.assertEqual((status, err), (0, ""))
        self.assertIn('host = "::1"\nport = 2\n', out)
        self.assertEqual(run(["config", "show", "-c", self.file(out)]), (0, out, ""))

    def test_show_without_a_file(self) -> None:
        """Without a file the defaults are printed."""
        self.assertEqual(run(["config", "show"]), (0, dump(Config()), ""))

    def test_check(self) -> None:
        """A good configuration is OK."""
        path = self.file("[server]\nport = 1")
        self.assertEqual(run(["config", "check", "--config", path]), (0, "OK\n", ""))
        self.assertEqual(run(["config", "check"], {"NORA_CONFIG_PATH": path}), (0, "OK\n", ""))

    def test_mistakes(self) -> None:
        """Every command tells all mistakes, a line each, and ends with the status that stops a restart."""
        path = self.file("[server]\nport = -1\nprot = 1")
        expected = [
            f"nora: {path}: server.prot: unknown key; did you mean port?",
            f"nora: {path}: server.port: -1: must be a whole number from 0 to 65535",
        ]
        for argv in (["config", "check"], ["config", "show"], ["reindex"]):
            status, out, err = run([*argv, "--config", path])
            self.assertEqual((status, out, err.splitlines()), (EX_CONFIG, "", expected))


class ReindexTests(SynchronousTestCase):
    """`nora reindex`, up to where the reactor would run."""

    def setUp(self) -> None:
        """Have a store."""
        self.layout = Layout(f"{directory(self)}/store")
        self.layout.prepare()
        self.environ = {"NORA_STORAGE_PATH": self.layout.root}
        self.ran = 0

    def runner(self, _: Work) -> None:
        """Stand for the reactor, and see that the store is held while it runs."""
        self.ran += 1
        self.assertNotEqual(run(["reindex"], self.environ, lambda _: self.fail("ran twice"))[0], 0)

    def test_holds_the_store(self) -> None:
        """The work runs with the store's lock, which is free afterwards."""
        self.assertEqual(run(["reindex"], self.environ, self.runner)[0], 0)
        self.assertEqual(run(["reindex"], self.environ, self.runner)[0], 0)
        self.assertEqual(self.ran, 2)

    def test_refuses_beside_a_daemon(self) -> None:
        """While a daemon has the store nothing is touched, and a line says who has it."""
        lock = StoreLock(self.layout.daemon_lock)
        lock.acquire(0)
        self.addCleanup(lock.close)
        status, out, err = run(["reindex"], self.environ, self.runner)
        self.assertEqual((status, out, self.ran), (1, "", 0))
        self.assertIn(f"nora: reindex: {self.layout.root}: the daemon with process id {os.getpid()} has", err)
        self.assertFalse(os.path.exists(self.layout.index))

    def test_no_store(self) -> None:
        """A store that is not there is not made, but told."""
        missing = f"{self.layout.root}/missing"
        status, _, err = run(["reindex"], {"NORA_STORAGE_PATH": missing}, self.runner)
        self.assertEqual((status, self.ran, len(err.splitlines())), (1, 0, 1))
        self.assertFalse(os.path.exists(missing))


class RebuildTests(TestCase):
    """`nora reindex` with a reactor."""

    def setUp(self) -> None:
        """Have a store with one blob."""
        self.layout = Layout(f"{directory(self)}/store")
        self.layout.prepare()
        path = Path(self.layout.blob(Digest.of(b"blob")))
        path.parent.mkdir(parents=True)
        path.write_bytes(b"blob")

    async def test_rebuild(self) -> None:
        """The index is built from the files, and a line tells what is stored."""
        index = SqliteIndex.threaded(self.layout.index, reactor)
        self.assertEqual(await rebuild(self.layout, index), f"{self.layout.index}: 1 blobs, 4 bytes")

    async def test_index_that_cannot_be_built(self) -> None:
        """What goes wrong is raised, after the index was stopped."""
        os.mkdir(self.layout.index)
        index = SqliteIndex.threaded(self.layout.index, reactor)
        try:
            await rebuild(self.layout, index)
        except (OSError, sqlite3.Error):
            self.flushLoggedErrors()
        else:
            self.fail("built an index in the place of a directory")

    def test_whole_command(self) -> None:
        """The command with its own reactor ends with 0 and a line on what it did, or 1 and one on why not."""
        environ = {"NORA_STORAGE_PATH": self.layout.root}
        done = run_process(["reindex"], environ)
        self.assertEqual(
            (done.returncode, done.stdout), (0, f"{self.layout.index}: 1 blobs, 4 bytes\n"), done.stderr
        )
        os.unlink(self.layout.index)
        os.mkdir(self.layout.index)
        done = run_process(["reindex"], environ)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("nora: reindex: ", done.stderr)
        self.assertNotIn("Traceback", done.stderr)
