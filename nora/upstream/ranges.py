"""Ranges: what a 206 says of the bytes that it brings (RFC 9110 section 14.4)."""

from __future__ import annotations

import re

from nora.oci.errors import Unverified

_CONTENT_RANGE = re.compile(r"\s*bytes\s+([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)\s*\Z", re.IGNORECASE)


def parse_content_range(value: str | None) -> tuple[int, int, int | None]:
    """Read `bytes first-last/size`; the size is None for `*`. Raises `Unverified` for anything else."""
    found = _CONTENT_RANGE.match(value) if value is not None else None
    if found is None:
        raise Unverified("a partial answer without a Content-Range in bytes")
    first, last = int(found[1]), int(found[2])
    size = None if found[3] == "*" else int(found[3])
    if last < first or (size is not None and last >= size):
        raise Unverified("a Content-Range that contradicts itself")
    return first, last, size


def check_partial(content_range: str | None, start: int, length: int | None) -> int | None:
    """Check a 206 to `bytes=start-` and give the whole's size; None when it is not told.

    `length` is the body's, None when not told. Raises `Unverified` when it brings other bytes than asked for. One that
    ends before the blob does is let through: its reader misses the rest, and asks for it.
    """
    first, last, size = parse_content_range(content_range)
    if first != start:
        raise Unverified("a partial answer that starts elsewhere than asked")
    if length is not None and length != last - first + 1:
        raise Unverified("a partial answer whose length is not its Content-Range's")
    return size
