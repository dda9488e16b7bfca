"""The tests' own rules: a missing program skips a person's test and fails CI's, and CI skips nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

_TESTS = Path(__file__).resolve().parents[1]
_SETTINGS = """
[pytest]
markers = needs(program): a program
"""
_NEEDS = """
import pytest

@pytest.mark.needs("sh", "no-such-program")
def test_needing():
    raise AssertionError("it ran")

@pytest.mark.needs("sh")
def test_running():
    pass
"""
_SKIPS = """
import pytest

def test_skipping():
    pytest.skip("of its own accord")

@pytest.mark.xfail(strict=True)
def test_known_to_fail():
    raise AssertionError

def test_running():
    pass
"""
_MODULE = """
import pytest

pytest.importorskip("no_such_module")
"""


class RuleTests(SynchronousTestCase):
    """pytest runs with our conftest on small tests."""

    def run_tests(self, text: str, ci: str) -> tuple[int, str]:
        """Run the tests in `text`; gives pytest's status and what it said."""
        made = tempfile.TemporaryDirectory(prefix="nora-")
        self.addCleanup(made.cleanup)
        directory = Path(made.name)
        shutil.copy(_TESTS / "conftest.py", directory)
        (directory / "pytest.ini").write_text(_SETTINGS)
        (directory / "test_small.py").write_text(text)
        (directory / "test_whole.py").write_text("def test_passing():\n    pass\n")
        variables = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))
        }
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "."],
            cwd=directory,
            env={**variables, "CI": ci},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr

    def test_person_without_the_program(self) -> None:
        """A person's run passes, and says which program the skipped test would need."""
        status, said = self.run_tests(_NEEDS, "")
        self.assertEqual(status, 0, said)
        self.assertIn("2 passed, 1 skipped", said)
        self.assertIn("test_needing: Skipped: not installed: no-such-program", said)

    def test_ci_without_the_program(self) -> None:
        """CI's run fails, with the same words."""
        status, said = self.run_tests(_NEEDS, "true")
        self.assertEqual(status, 1, said)
        self.assertIn("2 passed, 1 error", said)
        self.assertIn("not installed: no-such-program", said)

    def test_no_skip_passes_ci(self) -> None:
        """A test that skips itself is fine for a person and fails CI; one that is expected to fail is neither."""
        status, said = self.run_tests(_SKIPS, "")
        self.assertEqual(status, 0, said)
        status, said = self.run_tests(_SKIPS, "true")
        self.assertEqual(status, 1, said)
        self.assertIn("skipped, which CI does not allow", said)
        self.assertIn("test_skipping: Skipped: of its own accord", said)
        self.assertNotIn("test_known_to_fail:", said)

    def test_no_skipped_module_passes_ci(self) -> None:
        """A module that skips itself as a whole fails CI, even beside tests that ran."""
        status, said = self.run_tests(_MODULE, "true")
        self.assertEqual(status, 1, said)
        self.assertIn("could not import 'no_such_module'", said)


class ProgramTests(SynchronousTestCase):
    """.ci/programs, which installs what the tests run."""

    def test_every_needed_program_is_known(self) -> None:
        """Whatever program a test needs, the script knows a package for it."""
        known = (_TESTS.parent / ".ci" / "programs").read_text().split('known="')[1].split('"')[0]
        programs = {pair.split("=")[0] for pair in known.split()}
        for path in (_TESTS / "integration", _TESTS / "faults", _TESTS / "unit"):
            for module in path.rglob("test_*.py"):
                if module != Path(__file__):
                    for names in re.findall(r"mark\.needs\(([^)]*)\)", module.read_text()):
                        needed = set(re.findall(r'"([^"]+)"', names))
                        self.assertTrue(needed <= programs, f"{module.name}: {needed - programs}")
