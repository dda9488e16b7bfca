"""Configurations as a file and variables give them, read for a test."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from nora.config import Config, ConfigError, load

HUB = "https://registry-1.docker.io"


class ReadingCase(SynchronousTestCase):
    """What the tests of reading share."""

    def setUp(self) -> None:
        """Have a place for a file."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = f"{directory.name}/nora.toml"

    def load(self, text: str | bytes = "", environ: Mapping[str, str] | None = None) -> Config:
        """Load a file with this text."""
        Path(self.path).write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(self.path, environ or {})

    def mistakes(self, text: str | bytes = "", environ: Mapping[str, str] | None = None) -> list[str]:
        """Load a file with this text, and give the lines of its mistakes without the file's name."""
        with self.assertRaises(ConfigError) as caught:
            self.load(text, environ)
        return [line.replace(f"{self.path}: ", "") for line in caught.exception.lines]
