"""The whole process, as systemd and people start it: `twistd -n nora`, its signals, its exit status."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.daemon import Nora, ask
from tests.support.programs import Process, environment, wait_for
from tests.support.workers import Line, children

_ROOT = Path(__file__).resolve().parents[3]
_RUN = "from twisted.scripts.twistd import run; run()"
_INHERIT = """
import os, sys
os.dup2(int(os.environ.pop("HANDED")), 3, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="nora.socket")
os.execv(sys.executable, [sys.executable, "-c", sys.argv.pop(1), *sys.argv[1:]])
"""


class TwistdCase(SynchronousTestCase):
    """A directory, and daemons that surely end."""

    def setUp(self) -> None:
        """Make the directory, short enough for sockets."""
        made = tempfile.TemporaryDirectory(prefix="nora-")
        self.addCleanup(made.cleanup)
        self.directory = Path(made.name)

    def nora(self, name: str = "one", **settings: Mapping[str, object]) -> Nora:
        """Configure a daemon without upstreams, not started."""
        nora = Nora(self.directory / name, [], settings)
        self.addCleanup(nora.stop)
        return nora

    def launch(self, nora: Nora, before: str = "", handed: int | None = None, **variables: str) -> Process:
        """Start `nora` with `variables` more, by the Python program `before`, which gets `handed`, a descriptor."""
        command = [sys.executable, "-c", *([before] if before else []), _RUN, "-n", "--pidfile=", "nora"]
        variables = environment(
            nora.directory,
            PYTHONPATH=str(_ROOT),
            NORA_CONFIG_PATH=str(nora.configuration),
            RUNTIME_DIRECTORY=str(nora.directory),
            **variables,
        )
        if handed is not None:
            variables["HANDED"] = str(handed)
        descriptors = () if handed is None else (handed,)
        process = Process(command, nora.directory / "log", variables, nora.directory, descriptors)
        self.addCleanup(process.kill)
        return process


class NotifyTests(TwistdCase):
    """What systemd hears."""

    def hear(self) -> str:
        """Wait for the next datagram that is no status."""
        while True:
            said = self.systemd.recv(1024).decode()
            if not said.startswith("STATUS="):
                return said

    def test_a_life(self) -> None:
        """READY when it listens, WATCHDOG while it lives, RELOADING and READY on SIGHUP, STOPPING; then status 0."""
        path = self.directory / "notify"
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.systemd.close)
        self.systemd.bind(str(path))
        self.systemd.settimeout(30)
        nora = self.nora()
        process = self.launch(nora, NOTIFY_SOCKET=str(path), WATCHDOG_USEC="400000")
        self.assertEqual(self.hear(), "READY=1")
        self.assertEqual(ask(nora.port, "/ready").status, 200)
        self.assertEqual([self.hear(), self.hear(), self.hear()], ["WATCHDOG=1"] * 3)
        process.signal(signal.SIGHUP)
        while (said := self.hear()) == "WATCHDOG=1":
            pass
        self.assertRegex(said, r"\ARELOADING=1\nMONOTONIC_USEC=\d+\Z")
        self.assertEqual(self.hear(), "READY=1")
        process.signal(signal.SIGUSR1)
        process.wait_until(lambda: "the logs were opened again" in process.text, "the logs")
        self.assertEqual(ask(nora.port, "/ready").status, 200)
        process.signal(signal.SIGTERM)
        while (said := self.hear()) == "WATCHDOG=1":
            pass
        self.assertEqual(said, "STOPPING=1")
        self.assertEqual(process.wait(), 0)


class StartTests(TwistdCase):
    """Starts that cannot be."""

    def critical(self, process: Process) -> str:
        """Give the one critical line, and see to it that there is no traceback."""
        self.assertNotIn("Traceback", process.text)
        (line,) = re.findall("^.* critical .*$", process.text, re.MULTILINE)
        return str(line)

    def test_busy_port(self) -> None:
        """A port in use: one line, status 1, and nothing is ready in between."""
        nora = self.nora()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", nora.port))
            taken.listen()
            process = self.launch(nora)
            self.assertEqual(process.wait(), 1)
        self.assertIn(
            f"cannot listen on 127.0.0.1:{nora.port}: Address already in use", self.critical(process)
        )
        self.assertNotIn("is ready", process.text)

    def test_store_that_is_a_file(self) -> None:
        """A store that cannot be used: one line that names it, status 1."""
        nora = self.nora(storage={"path": "/dev/null"})
        process = self.launch(nora)
        self.assertEqual(process.wait(), 1)
        self.assertIn("/dev/null", self.critical(process))

    def test_mistakes_in_the_configuration(self) -> None:
        """Each mistake is a line, and no more than that; status 78, and no store was made."""
        nora = self.nora(server={"prot": 1}, docker={"proxy_timeout": "soon"})
        process = self.launch(nora)
        self.assertEqual(process.wait(), 78)
        lines = process.text.splitlines()
        self.assertEqual(len(lines), 2, process.text)
        self.assertTrue(
            any("prot" in line for line in lines) and any("proxy_timeout" in line for line in lines)
        )
        self.assertFalse(nora.store.exists())

    def test_second_daemon_on_the_store(self) -> None:
        """The second daemon waits as long as a drain may last, then says who has the store, status 1."""
        first = self.nora("one")
        first.start()
        second = self.nora("two", server={"drain_timeout": 0.3}, storage={"path": str(first.store)})
        process = self.launch(second)
        self.assertEqual(process.wait(), 1)
        self.assertIn(str(first.process.pid), self.critical(process))
        self.assertEqual(first.get("/ready").status, 200)

    def test_second_daemon_takes_over(self) -> None:
        """A second daemon that came while the first drains is ready as soon as the first is gone."""
        first = self.nora("one")
        first.start()
        second = self.nora("two", storage={"path": str(first.store)})
        process = self.launch(second)
        process.wait_until(lambda: "waiting up to" in process.text, "the second one's waiting")
        self.assertEqual(first.stop(), 0)
        process.wait_until(lambda: "is ready" in process.text, "the second one's readiness")

    def test_stop_while_waiting_for_the_store(self) -> None:
        """SIGTERM in the middle of the start ends it, and is no failure."""
        first = self.nora("one")
        first.start()
        second = self.nora("two", storage={"path": str(first.store)})
        process = self.launch(second)
        process.wait_until(lambda: "waiting up to" in process.text, "the second one's waiting")
        process.signal(signal.SIGTERM)
        self.assertEqual(process.wait(), 0)
        self.assertNotIn(" critical ", process.text)


class ActivationTests(TwistdCase):
    """A socket that was there before the daemon."""

    def test_serves_the_inherited_socket(self) -> None:
        """Connections made before the start are answered; the configured port stays free, no child sees the rest."""
        nora = self.nora()
        with socket.create_server(("127.0.0.1", 0)) as ours:
            port = ours.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port), timeout=30) as early:
                early.sendall(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                process = self.launch(nora, before=_INHERIT, handed=ours.fileno())
                self.assertTrue(early.recv(100).startswith(b"HTTP/1.1 200 "))
            with socket.socket() as probe:
                self.assertNotEqual(probe.connect_ex(("127.0.0.1", nora.port)), 0)
            process.signal(signal.SIGTERM)
            self.assertEqual(process.wait(), 0)

    def test_serves_an_inherited_unix_socket(self) -> None:
        """A Unix socket serves too, and its file is left alone."""
        nora = self.nora()
        path = self.directory / "http"
        with socket.socket(socket.AF_UNIX) as ours:
            ours.bind(str(path))
            ours.listen()
            process = self.launch(nora, before=_INHERIT, handed=ours.fileno())
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(30)
                client.connect(str(path))
                client.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                self.assertTrue(client.recv(100).startswith(b"HTTP/1.1 200 "))
            process.signal(signal.SIGTERM)
            self.assertEqual(process.wait(), 0)
        self.assertTrue(path.exists())


class WorkersTests(NotifyTests):
    """The same life, by two workers."""

    def nora(self, name: str = "one", **settings: Mapping[str, object]) -> Nora:
        """Configure two workers."""
        server = {"workers": 2, **settings.pop("server", {})}
        return super().nora(name, server=server, **settings)

    def test_mistakes(self) -> None:
        """A port in use is one line of the parent's, and no worker was started."""
        nora = self.nora()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", nora.port))
            taken.listen()
            process = self.launch(nora)
            self.assertEqual(process.wait(), 1)
        self.assertIn(f"cannot listen on 127.0.0.1:{nora.port}: Address already in use", process.text)
        self.assertNotIn("worker 1", process.text)

    def test_two_daemons_of_workers(self) -> None:
        """A second daemon cannot slip in at the port of the first one's workers."""
        first = self.nora("one")
        first.start()
        second = self.nora("two", server={"port": first.port})
        process = self.launch(second)
        self.assertEqual(process.wait(), 1)
        self.assertIn("Address already in use", process.text)

    def test_inherited_socket(self) -> None:
        """All workers serve what systemd handed to the parent: of thirty connections each gets some."""
        nora = self.nora()
        with socket.create_server(("127.0.0.1", 0), backlog=200) as ours:
            port = ours.getsockname()[1]
            process = self.launch(nora, before=_INHERIT, handed=ours.fileno())
            process.wait_until(lambda: process.text.count("is ready") == 3, "readiness")
            pids = children(process.pid)
            lines: list[Line] = []
            for _ in range(30):
                lines.append(Line(port))
                self.addCleanup(lines[-1].close)
            met = [line.worker(pids) for line in lines]
            self.assertEqual(set(met), set(pids))
            process.signal(signal.SIGTERM)
            self.assertEqual(process.wait(), 0)

    def test_inherited_unix_socket(self) -> None:
        """A Unix socket serves too, also after a worker died, and its file is left alone."""
        nora = self.nora()
        path = self.directory / "http"
        with socket.socket(socket.AF_UNIX) as ours:
            ours.bind(str(path))
            ours.listen()
            process = self.launch(nora, before=_INHERIT, handed=ours.fileno())
            process.wait_until(lambda: process.text.count("is ready") == 3, "readiness")
            os.kill(children(process.pid)[0], signal.SIGKILL)
            for _ in range(3):
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(30)
                    client.connect(str(path))
                    client.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    self.assertTrue(client.recv(100).startswith(b"HTTP/1.1 200 "))
            process.signal(signal.SIGTERM)
            self.assertEqual(process.wait(), 0)
        self.assertTrue(path.exists())


class BackgroundTests(TwistdCase):
    """twistd without -n."""

    def test_log_file_and_pid_file(self) -> None:
        """In the background it logs to the file that twistd was told, reopens it, and removes its pid file."""
        nora = self.nora()
        pid_file, log = self.directory / "pid", self.directory / "nora.log"
        variables = environment(
            self.directory, PYTHONPATH=str(_ROOT), NORA_CONFIG_PATH=str(nora.configuration)
        )
        subprocess.run(
            [sys.executable, "-c", _RUN, f"--pidfile={pid_file}", f"--logfile={log}", "nora"],
            env=variables,
            cwd=self.directory,
            check=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        pid = int(pid_file.read_text())
        try:
            wait_for(lambda: "is ready" in log.read_text(), "readiness")
            log.rename(self.directory / "nora.log.1")
            os.kill(pid, signal.SIGUSR1)
            wait_for(lambda: log.exists() and "opened again" in log.read_text(), "a new log")
        finally:
            os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not pid_file.exists(), "the end")


class PluginTests(SynchronousTestCase):
    """The plugin file, which every twistd on the machine imports."""

    def test_imports_next_to_nothing(self) -> None:
        """Finding the plugin, and reading its options, installs no reactor and imports no klein."""
        program = (
            "import sys\n"
            "from twisted.application.service import IServiceMaker\n"
            "from twisted.plugin import getPlugins\n"
            "(nora,) = [one for one in getPlugins(IServiceMaker) if one.tapname == 'nora']\n"
            "assert 'nora.tap' not in sys.modules\n"
            "nora.options()\n"
            "print([name for name in ('twisted.internet.reactor', 'klein', 'treq') if name in sys.modules])\n"
        )
        home = tempfile.TemporaryDirectory(prefix="nora-")
        self.addCleanup(home.cleanup)
        found = subprocess.run(
            [sys.executable, "-c", program],
            env=environment(Path(home.name), PYTHONPATH=str(_ROOT)),
            check=True,
            capture_output=True,
            timeout=60,
        )
        self.assertEqual(found.stdout.strip(), b"[]", found.stderr)
