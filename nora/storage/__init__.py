"""Bytes at rest: parts (growing, local), blobs (published), records, locks, the index.

The caller passes a `Repository`; whether a client may read it is decided above.
"""
