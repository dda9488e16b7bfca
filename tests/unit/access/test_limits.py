"""Failed logins, limited per address."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.access import limits
from nora.access.limits import Attempts, TooManyLogins, network_of


class AttemptsTests(SynchronousTestCase):
    """`Attempts`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.attempts = Attempts(self.clock.seconds, most=3, window=60)

    def fail(self, address: str = "192.0.2.1", times: int = 1) -> None:  # type: ignore[override]
        for _ in range(times):
            self.attempts.begin(address)
            self.attempts.end(address, False)

    def test_too_many(self) -> None:
        """After three failures the next waits for the end of the minute that began with the first."""
        self.fail(times=2)
        self.clock.advance(10)
        self.fail()
        error = self.assertRaises(TooManyLogins, self.attempts.begin, "192.0.2.1")
        self.assertEqual(error.retry_after, 50)
        self.attempts.begin("192.0.2.2")
        self.clock.advance(50)
        self.fail(times=2)
        self.assertRaises(TooManyLogins, self.attempts.begin, "192.0.2.1")

    def test_at_once(self) -> None:
        """Attempts that have not ended count, so that asking all at once is no way around."""
        for _ in range(3):
            self.attempts.begin("192.0.2.1")
        error = self.assertRaises(TooManyLogins, self.attempts.begin, "192.0.2.1")
        self.assertEqual(error.retry_after, 1)
        self.attempts.end("192.0.2.1", None)
        self.attempts.begin("192.0.2.1")

    def test_success(self) -> None:
        """A success forgets what failed before."""
        self.fail(times=2)
        self.attempts.begin("192.0.2.1")
        self.attempts.end("192.0.2.1", True)
        self.fail(times=2)
        self.attempts.begin("192.0.2.1")

    def test_bounded(self) -> None:
        """Addresses past the bound push the quietest out."""
        self.patch(limits, "MAX_ADDRESSES", 2)
        self.fail("192.0.2.1", 3)
        self.fail("192.0.2.2", 3)
        self.assertRaises(TooManyLogins, self.attempts.begin, "192.0.2.1")
        self.fail("192.0.2.3")
        self.attempts.begin("192.0.2.1")
        self.attempts.end("192.0.2.9", False)

    def test_networks(self) -> None:
        """IPv6 counts by its /64, an IPv4 address within it as itself, and anything else as it is, bounded."""
        self.assertEqual(network_of("2001:db8:1:2:3::4"), network_of("2001:db8:1:2:5::6%eth0"))
        self.assertNotEqual(network_of("2001:db8:1:2::4"), network_of("2001:db8:1:3::4"))
        self.assertEqual(network_of("::ffff:192.0.2.1"), network_of("192.0.2.1"))
        self.assertEqual(network_of(""), "")
        self.assertEqual(len(network_of("x" * 999)), 64)
