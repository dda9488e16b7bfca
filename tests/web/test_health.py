"""What `/health` says in words."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nora.storage.interfaces import Totals
from nora.web import health

NOW = 1_000_000_000.0
DAY = 86400.0


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
        told = health.tell(1.0, Totals(0, 0), 5, 0, [], ["beware"])
        self.assertEqual(told["warnings"], ["beware"])
