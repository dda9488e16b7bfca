"""What operators and auditors see: metrics, sums and the audit log, as objects that other rooms are handed."""

from nora.telemetry.audit import AuditEvent, AuditLog, Repeated
from nora.telemetry.exchanges import Exchanges
from nora.telemetry.metrics import Metrics
from nora.telemetry.sums import Sums, Tally

__all__ = ["AuditEvent", "AuditLog", "Exchanges", "Metrics", "Repeated", "Sums", "Tally"]
