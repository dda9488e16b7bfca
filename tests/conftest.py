"""What all tests share: programs that are missing, and the certainty that none of them is skipped unseen."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from twisted.trial.unittest import SynchronousTestCase

_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")  # a busy one makes nothing wrong
_skipped = pytest.StashKey[list[str]]()


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def pytest_configure(config: pytest.Config) -> None:
    """Make room for what was skipped."""
    config.stash[_skipped] = []


@pytest.fixture(autouse=True)
def _temporary_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trial's `mktemp` give paths below pytest's own folder of the test; its own would litter this one."""

    def mktemp(_: SynchronousTestCase) -> str:
        return os.path.join(tempfile.mkdtemp(dir=tmp_path), "temp")

    monkeypatch.setattr(SynchronousTestCase, "mktemp", mktemp)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look for the programs that `needs` names: skip a test without its program, but fail it under CI."""
    for mark in item.iter_markers("needs"):
        missing = [program for program in mark.args if shutil.which(program, path=_PATH) is None]
        if missing:
            reason = f"not installed: {', '.join(missing)}"
            if _in_ci():
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember a test that was skipped, whatever skipped it."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        item.config.stash[_skipped].append(f"{item.nodeid}: {_reason(report.longrepr)}")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Remember a module that was skipped as a whole."""
    report = yield
    if report.skipped:
        collector.config.stash[_skipped].append(f"{collector.nodeid}: {_reason(report.longrepr)}")
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under CI everything must have run: a skipped test fails the session."""
    if _in_ci() and session.config.stash[_skipped] and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell what was skipped, and why."""
    skipped = config.stash[_skipped]
    if skipped:
        terminalreporter.section("skipped, which CI does not allow" if _in_ci() else "skipped")
        for line in skipped:
            terminalreporter.line(line)


def _reason(said: object) -> str:
    return str(said[2]) if isinstance(said, tuple) else str(said)
