"""The server's certificate as the daemon has it: at its start and at a reload."""

from __future__ import annotations

import ssl
from pathlib import Path

import attrs
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs

from nora.config import UpstreamConfig
from nora.process import CannotReload, CannotStart
from tests.support.authority import Authority
from tests.support.daemon_case import DaemonCase
from tests.support.storage_fakes import temporary_folder


class CertificateTests(DaemonCase):
    """A daemon with a certificate."""

    def setUp(self) -> None:
        """Have a first pair."""
        super().setUp()
        self.folder = Path(temporary_folder(self))
        self.authority = Authority()
        self.write(self.authority.pair(days=3))
        self.plain = self.config
        server = attrs.evolve(
            self.config.server,
            tls_certificate=str(self.folder / "tls.pem"),
            tls_key=str(self.folder / "tls.key"),
        )
        self.config = attrs.evolve(self.config, server=server)

    def write(self, pair: tuple[bytes, bytes]) -> None:
        """Put a pair in place."""
        for name, data in zip(("tls.pem", "tls.key"), pair, strict=True):
            (self.folder / name).write_bytes(data)

    async def shown(self) -> bytes:
        """Connect and give the certificate that is shown."""
        port = self.config.server.port
        pem = await deferToThread(ssl.get_server_certificate, ("127.0.0.1", port), timeout=10)
        return pem.strip().encode()

    async def test_reload(self) -> None:
        """A new pair is shown after a reload; one that is none is refused, and nothing else is taken over."""
        daemon = await self.running()
        first = self.authority.pair(days=20)
        self.write(first)
        daemon.reload()
        self.assertEqual(await self.shown(), first[0].strip())
        self.write((self.authority.pair()[0], first[1]))
        self.config = attrs.evolve(
            self.config, docker=attrs.evolve(self.config.docker, default_action="deny")
        )
        with self.assertRaises(CannotReload) as caught:
            daemon.reload()
        self.assertIn("server.tls_key: ", str(caught.exception))
        self.assertEqual(await self.shown(), first[0].strip())
        await daemon.stop(0.1)

    async def test_upstream_that_is_refused(self) -> None:
        """A reload that is refused for another reason leaves the certificate, too."""
        daemon = await self.running()
        first = await self.shown()
        self.write(self.authority.pair())
        bad = UpstreamConfig("https://registry.example", ca_file=str(self.store / "no.pem"))
        self.config = attrs.evolve(self.config, docker=attrs.evolve(self.config.docker, upstreams=(bad,)))
        self.assertRaises(CannotReload, daemon.reload)
        self.assertEqual(await self.shown(), first)
        await daemon.stop(0.1)

    async def test_begin_and_end(self) -> None:
        """A listener does not begin or end to speak TLS: that has to wait, and the rest is taken over."""
        encrypted = self.config
        for now, then in ((self.plain, encrypted), (encrypted, self.plain)):
            daemon = await self.running(now)
            self.config = then
            with capturedLogs() as events:
                daemon.reload()
            self.assertIn("server.tls_certificate", [event.get("key") for event in events])
            if now is encrypted:
                self.assertTrue(await self.shown())
            else:
                self.assertEqual((await self.get("/ready")).status, 200)
            await daemon.stop(0.1)

    def test_no_pair(self) -> None:
        """A pair that is none ends the start before anything is opened."""
        (self.folder / "tls.key").unlink()
        error = self.assertRaises(CannotStart, self.daemon)
        self.assertIn("tls.key: No such file or directory", str(error))
        self.assertFalse(self.store.exists())

    def test_warned(self) -> None:
        """A certificate that ends soon is in the log from the first moment on."""
        with capturedLogs() as events:
            self.daemon()
        self.assertIn(
            "the certificate of this server ends at", str([event.get("warning") for event in events])
        )
