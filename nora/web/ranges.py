"""Byte ranges and conditions of requests (RFC 9110 sections 13 and 14): pure parsing.

A server may ignore a Range, and this one does whenever it is not exactly one range of bytes: a client then gets
the whole blob with 200, which every client must understand.
"""

from __future__ import annotations

import re

from nora.oci.errors import InvalidRange

# 18 digits: past any file's size, short of what makes reading a number slow.
_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(\d{0,18})[ \t]*-[ \t]*(\d{0,18})[ \t]*\Z", re.IGNORECASE | re.ASCII)
_TAG = re.compile(r'(?:W/)?"[^"]*"')


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Read a Range for content of `size` bytes: first offset and the one past the last.

    None when it is to be ignored: several ranges, another unit, malformed. Raises `InvalidRange` when no
    byte satisfies it, and for one that ends before it begins, which RFC 9110 section 14.2 lets a server reject.
    """
    match = _RANGE.match(header.strip(" \t"))
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        return _suffix(int(last), size) if last else None
    start = int(first)
    if start >= size or (last and int(last) < start):
        raise InvalidRange(size)
    return start, min(int(last) + 1, size) if last else size


def _suffix(length: int, size: int) -> tuple[int, int] | None:
    if length == 0:
        raise InvalidRange(size)
    # No Content-Range can tell of the last bytes of nothing.
    return (max(0, size - length), size) if size else None


def choose(range_: str | None, if_range: str | None, etag: str, size: int) -> tuple[int, int] | None:
    """Tell which bytes a GET is for; None for the whole. `etag` is the content's strong entity tag, quoted.

    An If-Range that is not this very tag makes the Range void (RFC 9110 section 13.1.5); a date never matches.
    """
    if range_ is None or (if_range is not None and if_range.strip(" \t") != etag):
        return None
    return parse_range(range_, size)


def none_match(header: str | None, etag: str) -> bool:
    """Tell whether If-None-Match holds `etag`, by weak comparison, or is `*`: the answer is then 304."""
    if header is None:
        return False
    if header.strip(" \t") == "*":
        return True
    return any(found.removeprefix("W/") == etag for found in _TAG.findall(header))
