"""What `/health` warns of: whatever needs a person, a sentence each, and never a secret."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nora.oci.errors import Unavailable
from nora.storage.interfaces import Space, Totals
from nora.upstream.refusals import CredentialRefused
from nora.upstream.registry import Registry
from nora.web import health
from tests.support.credential_case import ONE, PASSWORD, USER, CredentialTestCase
from tests.support.fake_upstream import Fault
from tests.support.upstreams import REPOSITORY

GIB = 1024**3
NOW = 1_000_000_000.0
DAY = 86400.0
WIDE = Space(500 * GIB, 1000 * GIB)


def tell(
    *upstreams: Registry, space: Space = WIDE, provisional: int = 0, quota_reserve: int = 0
) -> dict[str, Any]:
    """Ask."""
    return health.tell(1.0, Totals(0, 0), space, 0, upstreams, provisional, quota_reserve)


def warnings(*upstreams: Registry, **state: Any) -> Sequence[str]:
    """Ask for the warnings alone."""
    found: Sequence[str] = tell(*upstreams, **state)["warnings"]
    return found


class WarningTests(CredentialTestCase):
    """The warnings of a server and its upstreams."""

    async def test_nothing(self) -> None:
        """Where all is well there is none."""
        upstream = await self.token_service()
        registry = self.ours(upstream, auth=f"{USER}:{PASSWORD}")
        self.assertEqual(warnings(registry, quota_reserve=10), [])
        await registry.manifest(REPOSITORY, ONE)
        self.assertEqual(warnings(registry, quota_reserve=10), [])

    async def test_circuit(self) -> None:
        """An upstream that is passed over, since when and why."""
        registry = self.registry("http://127.0.0.1:1")
        for _ in range(3):
            await self.fails(registry.manifest(REPOSITORY, ONE), Unavailable)
        (text,) = warnings(registry)
        self.assertRegex(text, r"^upstream fake is passed over since 2\S+Z: connection refused$")

    async def test_credential_refused(self) -> None:
        """A refused credential, until it is taken, and for how long it is kept back."""
        upstream = await self.token_service()
        registry = self.ours(upstream, username=USER, password_file=self.file("password", "wrong-secret"))
        await self.fails(registry.manifest(REPOSITORY, ONE), CredentialRefused)
        (text,) = warnings(registry)
        self.assertRegex(
            text,
            r"^upstream fake is out of use since 2\S+Z: our credential was refused; it is not shown again for \d\d s$",
        )
        self.file("password", PASSWORD)
        await registry.manifest(REPOSITORY, ONE)
        self.assertEqual(warnings(registry), [])

    async def test_credential_unreadable(self) -> None:
        """A credential that cannot be read, until it can; where it is kept is not told."""
        upstream = await self.token_service()
        path = self.folder / "password"
        registry = self.ours(upstream, username=USER, password_file=str(path))
        await self.fails(registry.manifest(REPOSITORY, ONE), Unavailable)
        (text,) = warnings(registry)
        self.assertRegex(text, r"since \S+Z: our credential cannot be read$")
        self.assertNotIn(str(self.folder), text)
        self.file("password", PASSWORD)
        await registry.manifest(REPOSITORY, ONE)
        self.assertEqual(warnings(registry), [])

    async def test_credential_not_sent(self) -> None:
        """A credential that may not go where it is wanted."""
        upstream = await self.token_service()
        upstream.challenge = 'Bearer realm="http://localhost:1/token"'
        registry = self.ours(upstream, auth=f"{USER}:{PASSWORD}")
        await self.fails(registry.manifest(REPOSITORY, ONE), Unavailable)
        (text,) = warnings(registry)
        self.assertIn("its token service is at localhost:1", text)
        self.assertNotIn("secret", text)

    async def test_quota(self) -> None:
        """A rate limit of which no more than the reserve is left."""
        upstream = await self.filled()
        upstream.fault("*", Fault(headers=(("ratelimit-remaining", "20;w=21600"),)))
        registry = self.registry(upstream.url)
        await registry.manifest(REPOSITORY, ONE)
        self.assertEqual(warnings(registry, quota_reserve=0), [])
        self.assertEqual(warnings(registry, quota_reserve=19), [])
        (text,) = warnings(registry, quota_reserve=20)
        self.assertIn("20 pulls are left", text)
        self.assertEqual([each["pulls_left"] for each in tell(registry)["upstreams"]], [20])

    def test_provisional(self) -> None:
        """How many names are resolved for the time being."""
        self.assertRegex(warnings(provisional=1)[0], "^1 name was resolved ")
        self.assertRegex(warnings(provisional=12)[0], "^12 names were resolved ")

    def test_disk(self) -> None:
        """A disk with little left, by its size or at all."""
        for free, total, full in (
            (50, 1000, False),
            (49, 1000, True),
            (1, 4, False),
            (0.9, 4, True),
            (0, 0, True),
        ):
            told = warnings(space=Space(math.floor(free * GIB), total * GIB))
            self.assertEqual(["nearly full" in text for text in told], [True] if full else [], (free, total))


class CertificateTests(SynchronousTestCase):
    """The end of the server's certificate."""

    def test_in_good_time(self) -> None:
        """Without TLS, or long before the end, there is nothing to say."""
        self.assertEqual(health.certificate_warnings(None, NOW), [])
        self.assertEqual(health.certificate_warnings(NOW + 14 * DAY + 1, NOW), [])

    def test_soon(self) -> None:
        """From 14 days before its end on, and after it."""
        (said,) = health.certificate_warnings(NOW + 14 * DAY, NOW)
        self.assertIn("ends at 2001-09-23T01:46:40Z", said)
        (said,) = health.certificate_warnings(NOW, NOW)
        self.assertIn("ended at 2001-09-09T01:46:40Z", said)

    def test_told(self) -> None:
        """Warnings of others stand among those that `/health` tells."""
        told = health.tell(1.0, Totals(0, 0), WIDE, 0, [], 0, 0, ["beware"])
        self.assertEqual(told["warnings"], ["beware"])
