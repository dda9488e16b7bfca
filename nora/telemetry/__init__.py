"""What operators and auditors see: metrics and the audit log, as objects that other rooms are handed."""
