"""What is shipped: the wheel, the container, the examples for clients."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import ClassVar

import toml
from twisted.trial.unittest import SynchronousTestCase

import nora
from nora.config import load

ROOT = Path(__file__).resolve().parents[2]


class WheelTests(SynchronousTestCase):
    """A wheel that is built from the checkout."""

    names: ClassVar[frozenset[str]]
    metadata: ClassVar[str]
    entry_points: ClassVar[str]

    @classmethod
    def setUpClass(cls) -> None:
        """Build it, of a copy, without asking the network for anything."""
        with tempfile.TemporaryDirectory(prefix="nora-") as made:
            source = Path(made) / "source"
            source.mkdir()
            for name in ("LICENSE", "README.md", "pyproject.toml", "setup.py"):
                shutil.copy(ROOT / name, source)
            for name in ("nora", "twisted"):
                shutil.copytree(
                    ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "dropin*")
                )
            # Nothing of the copy runs, and it is gone when the coverage of all processes is told.
            environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
            subprocess.run(
                [sys.executable, "setup.py", "--quiet", "bdist_wheel", "--dist-dir", made],
                cwd=source,
                env={**environment, "PYTHONWARNINGS": "ignore"},
                check=True,
                capture_output=True,
                timeout=120,
            )
            (wheel,) = Path(made).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                cls.names = frozenset(archive.namelist())
                information = next(name for name in cls.names if name.endswith(".dist-info/METADATA"))
                cls.metadata = archive.read(information).decode()
                cls.entry_points = archive.read(information.replace("METADATA", "entry_points.txt")).decode()

    def test_holds_every_module(self) -> None:
        """Every module of the checkout is in it, and the mark that it is typed."""
        modules = {str(path.relative_to(ROOT)) for path in (ROOT / "nora").rglob("*.py")}
        self.assertEqual(modules - self.names, set())
        self.assertIn("nora/py.typed", self.names)

    def test_holds_the_pages(self) -> None:
        """Every template and static file of the pages is in it, and the description of the API."""
        here = ROOT / "nora" / "web" / "ui"
        files = {str(path.relative_to(ROOT)) for path in here.rglob("*") if path.is_file()}
        files = {name for name in files if "__pycache__" not in name}
        self.assertGreater(len([name for name in files if not name.endswith(".py")]), 8)
        self.assertEqual(files - self.names, set())

    def test_joins_twisted(self) -> None:
        """The plugin is in it alone: an __init__.py beside it would cover Twisted's own."""
        self.assertEqual(
            {name for name in self.names if name.startswith("twisted/")}, {"twisted/plugins/nora_plugin.py"}
        )

    def test_holds_nothing_else(self) -> None:
        """No tests, and nothing of the checkout's other folders."""
        self.assertEqual(
            {name.split("/")[0] for name in self.names},
            {"nora", "twisted", f"nora_registry-{nora.__version__}.dist-info"},
        )

    def test_describes_itself(self) -> None:
        """Name, version, oldest Python, licence and command are right."""
        self.assertIn("\nName: nora-registry\n", self.metadata)
        self.assertIn(f"\nVersion: {nora.__version__}\n", self.metadata)
        self.assertIn("\nRequires-Python: >=3.10\n", self.metadata)
        self.assertIn("Apache-2.0", self.metadata)
        self.assertIn("nora = nora.cli:main", self.entry_points)

    def test_bounds_what_must_be_bound(self) -> None:
        """Werkzeug has an upper bound, which klein does not set, and 3.10 gets a reader of TOML."""
        wants = re.findall(r"^Requires-Dist: (.*)$", self.metadata, re.MULTILINE)
        self.assertTrue(any(want.startswith("werkzeug") and "<4" in want for want in wants), wants)
        self.assertTrue(any(want.startswith("tomli") and 'python_version < "3.11"' in want for want in wants))


class ContainerTests(SynchronousTestCase):
    """Dockerfile and docker-compose.yml, as far as one can read them."""

    def test_image_listens_for_all_and_stores_on_the_volume(self) -> None:
        """The image's environment is a valid configuration with the store on its volume."""
        text = (ROOT / "Dockerfile").read_text()
        found = re.search(r"^ENV (NORA_.*)$", text, re.MULTILINE)
        assert found is not None
        variables = dict(pair.split("=") for pair in found[1].split())
        config = load(None, variables)
        self.assertEqual((config.server.host, config.storage.path), ("0.0.0.0", "/data"))
        self.assertIn("\nVOLUME /data\n", text)
        self.assertIn(f"\nEXPOSE {config.server.port}\n", text)
        self.assertIn("\nUSER nora\n", text)

    def test_image_holds_what_the_build_copies(self) -> None:
        """What setup.py reads is not kept out of the build."""
        allowed = [
            line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
        ]
        self.assertEqual(
            allowed, sorted(["LICENSE", "README.md", "nora", "pyproject.toml", "setup.py", "twisted"])
        )
        for name in allowed:
            self.assertTrue((ROOT / name).exists(), name)

    def test_composed_environment_is_a_configuration(self) -> None:
        """Every variable in docker-compose.yml is one that NORA knows, with a good value."""
        text = (ROOT / "docker-compose.yml").read_text()
        variables = dict(re.findall(r"^ +- (NORA_\w+)=(.*)$", text, re.MULTILINE))
        config = load(None, variables)
        self.assertEqual(config.server.host, "0.0.0.0")
        self.assertEqual(len(config.docker.upstreams), 2)
        self.assertEqual(config.docker.proxy_timeout, 30)
        self.assertIn("    build: .\n", text)
        self.assertIn("      - nora-data:/data\n", text)


class ExampleTests(SynchronousTestCase):
    """The files under etc/ for clients."""

    def test_docker(self) -> None:
        """dockerd's example is JSON, and its mirror a URL without a path, as dockerd wants it."""
        mirrors = json.loads((ROOT / "etc/docker/daemon.json").read_text())["registry-mirrors"]
        for mirror in mirrors:
            self.assertRegex(mirror, r"\Ahttps?://[^/]+\Z")

    def test_containerd(self) -> None:
        """containerd's examples are TOML; the one for all registries names no server of its own."""
        directory = ROOT / "etc/containerd/certs.d"
        hub = toml.loads((directory / "docker.io/hosts.toml").read_text())
        other = toml.loads((directory / "_default/hosts.toml").read_text())
        self.assertEqual(hub["server"], "https://registry-1.docker.io")
        self.assertNotIn("server", other)
        for example in (hub, other):
            (host,) = example["host"].values()
            self.assertEqual(host["capabilities"], ["pull", "resolve"])

    def test_podman(self) -> None:
        """podman's example is TOML and sends Docker Hub's images to its namespace at NORA."""
        example = toml.loads((ROOT / "etc/containers/registries.conf.d/50-nora.conf").read_text())
        (registry,) = example["registry"]
        self.assertEqual(registry["prefix"], "docker.io")
        (mirror,) = registry["mirror"]
        self.assertTrue(mirror["location"].endswith("/docker.io"))
        self.assertTrue(mirror["insecure"])


class DocumentTests(SynchronousTestCase):
    """Links between the documents."""

    def test_links_lead_somewhere(self) -> None:
        """Every relative link in a document leads to a file of the repository."""
        documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
        for document in documents:
            for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text()):
                if "://" not in target:
                    self.assertTrue((document.parent / target).exists(), f"{document.name}: {target}")
