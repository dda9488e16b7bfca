"""Pushing into the store of this registry: upload sessions, manifests, mounts. No upstream is ever asked."""
