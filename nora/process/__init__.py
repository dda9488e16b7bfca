"""The process: signals, readiness told to systemd, the ordered stop, the lock of the store."""
