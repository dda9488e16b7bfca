"""The files for systemd and logrotate: valid, hardened, and in agreement with the code."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from nora.config import Config
from nora.process.listen import BACKLOG
from nora.process.service import GRACE
from nora.tap import EX_CONFIG

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "systemd"


def read(name: str) -> configparser.ConfigParser:
    """Read a unit; of settings that come twice the last one is kept."""
    unit = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNITS / name)
    return unit


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    program = shutil.which("systemd-analyze") or "systemd-analyze"
    return subprocess.run([program, *arguments], check=False, capture_output=True, text=True, timeout=60)


class ServiceTests(SynchronousTestCase):
    """systemd/nora.service."""

    def setUp(self) -> None:
        """Read it."""
        self.service = read("nora.service")["Service"]

    @pytest.mark.needs("systemd-analyze")
    def test_hardened(self) -> None:
        """Its exposure, by systemd's own measure, is 2.0 or less."""
        said = analyze("security", "--offline=true", "--no-pager", str(UNITS / "nora.service"))
        found = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", said.stdout)
        assert found is not None, said
        self.assertLessEqual(float(found[1]), 2.0)

    @pytest.mark.needs("systemd-analyze")
    def test_systemd_understands_every_line(self) -> None:
        """With programs that exist, systemd has nothing to say about the two units."""
        with tempfile.TemporaryDirectory(prefix="nora-") as directory:
            for name in ("nora.service", "nora.socket"):
                text = re.sub(
                    r"^(Exec\w+=)\S+", rf"\1{shutil.which('true')}", (UNITS / name).read_text(), flags=re.M
                )
                (Path(directory) / name).write_text(text)
            units = sorted(map(str, Path(directory).iterdir()))
            said = analyze("verify", "--man=no", *units)
        ours = [line for line in said.stderr.splitlines() if "nora" in line]
        self.assertEqual((said.returncode, ours), (0, []))

    @pytest.mark.needs("systemd-analyze")
    def test_drop_in_for_credential_helpers(self) -> None:
        """The drop-in is understood, and loosens what helpers need and nothing else."""
        name = "nora.service.d/credential-helpers.conf"
        text = (UNITS / name).read_text()
        self.assertEqual(
            sorted(set(re.findall(r"^(\w+)=", text, re.M))),
            ["Environment", "RestrictAddressFamilies", "SystemCallFilter", "TasksMax"],
        )
        with tempfile.TemporaryDirectory(prefix="nora-") as directory:
            unit = re.sub(
                r"^(Exec\w+=)\S+",
                rf"\1{shutil.which('true')}",
                (UNITS / "nora.service").read_text(),
                flags=re.M,
            )
            (Path(directory) / "nora.service").write_text(unit)
            (Path(directory) / name).parent.mkdir()
            (Path(directory) / name).write_text(text)
            said = analyze("verify", "--man=no", str(Path(directory) / "nora.service"))
        ours = [line for line in said.stderr.splitlines() if "nora" in line]
        self.assertEqual((said.returncode, ours), (0, []))

    def test_tls_works_in_it(self) -> None:
        """cffi makes OpenSSL's callbacks in writable and executable memory: forbidding that ends all TLS."""
        self.assertNotEqual(self.service.get("MemoryDenyWriteExecute", "no"), "yes")

    def test_agrees_with_the_code(self) -> None:
        """Its times and statuses fit what the daemon does by default."""
        drain = Config().server.drain_timeout
        self.assertEqual(self.service["Type"], "notify")
        self.assertEqual(self.service["NotifyAccess"], "main")
        self.assertEqual(self.service["RestartPreventExitStatus"], str(EX_CONFIG))
        self.assertGreater(float(self.service["TimeoutStopSec"]), drain + GRACE)
        self.assertGreater(float(self.service["TimeoutStartSec"]), drain + GRACE)
        self.assertIn("twistd -n --pidfile= nora --config /etc/nora/nora.toml", self.service["ExecStart"])
        self.assertEqual(self.service["ExecReload"], "/bin/kill -HUP $MAINPID")

    def test_default_store_is_its_state_directory(self) -> None:
        """The default path of the store ends in the directory that the unit may write to."""
        self.assertEqual(self.service["WorkingDirectory"], f"/var/lib/{self.service['StateDirectory']}")
        self.assertEqual(self.service["ProtectSystem"], "strict")
        self.assertNotIn("NORA_STORAGE_PATH", self.service["Environment"])


class SocketTests(SynchronousTestCase):
    """systemd/nora.socket."""

    def test_default_address(self) -> None:
        """It listens where NORA would by default, with the same backlog."""
        server = Config().server
        listening = read("nora.socket")["Socket"]
        self.assertEqual(listening["ListenStream"], f"{server.host}:{server.port}")
        self.assertEqual(listening["Backlog"], str(BACKLOG))


class LogrotateTests(SynchronousTestCase):
    """etc/logrotate.d/nora."""

    def test_reopens_by_the_signal(self) -> None:
        """It rotates the audit log where it is by default under systemd, makes no file, and sends SIGUSR1."""
        text = (ROOT / "etc/logrotate.d/nora").read_text()
        self.assertIn("/var/lib/nora/data/audit.jsonl", text)
        self.assertIn("nocreate", text)
        self.assertIn("--kill-who=main --signal=USR1 nora.service", text)
        self.assertEqual(text.count("{"), text.count("}"))
