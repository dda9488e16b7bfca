"""What operators and auditors see: metrics and the audit log, as objects that other rooms are handed."""

from nora.telemetry.audit import AuditEvent, AuditLog
from nora.telemetry.metrics import Metrics

__all__ = ["AuditEvent", "AuditLog", "Metrics"]
